//! A card and a record to begin a test with: right in every field, and dull. Tests change what they are about.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use uuid::Uuid;

use super::{Card, Cost, RECORD_SCHEMA, Record, Slo, State, Track};

/// Version `1` of `expert`, with an objective of 100 ms.
pub fn card(expert: &str) -> Card {
    Card {
        expert: expert.into(),
        version: "1".into(),
        summary: format!("What {expert} knows."),
        examples: vec![format!("ask {expert} something")],
        serves: BTreeMap::new(),
        accepts: vec!["text".into()],
        task: "retrieve".into(),
        slo: Slo { latency: Duration::from_millis(100), objective: 0.99, first_token: None },
        price: None,
        idempotent: true,
        hedge: false,
        models: Vec::new(),
    }
}

/// A new start of `instance`, serving version `1` of `expert`; its epoch is later than every one before, and its address
/// is its own.
pub fn record(expert: &str, instance: &str) -> Record {
    static STARTS: AtomicU16 = AtomicU16::new(0);
    let port = 10_000 + STARTS.fetch_add(1, Ordering::Relaxed) % 50_000;
    Record {
        schema: RECORD_SCHEMA,
        instance: instance.into(),
        epoch: Uuid::now_v7().to_string(),
        expert: expert.into(),
        address: format!("127.0.0.1:{port}"),
        version: "1".into(),
        state: State::Serving,
        track: Track::Live,
        card_digest: String::new(),
        default_model: String::new(),
        models: Vec::new(),
        zone: String::new(),
        tls: false,
        server_name: String::new(),
        executors: 1,
        batch_units: 256,
        cost: Cost { points: vec![(8, 3.1)], ..Cost::default() },
        keepalive_ms: None,
        software: "test".into(),
    }
}
