//! An expert that tests of its services are about.

use std::{collections::BTreeMap, time::Duration};

use consilium_mesh::registry::{Card, Slo};

use super::Identity;
use crate::Reads;

pub(crate) fn identity() -> Identity {
    Identity {
        expert: "oracle".to_owned(),
        version: "3".to_owned(),
        instance: "oracle-1".to_owned(),
        epoch: "e".to_owned(),
        reads: Reads::Text,
        tls: false,
    }
}

pub(crate) fn card() -> Card {
    Card {
        expert: "oracle".to_owned(),
        version: "3".to_owned(),
        summary: "Knows what was asked.".to_owned(),
        examples: vec!["what was asked".to_owned()],
        serves: BTreeMap::from([("audience".to_owned(), vec!["patient".to_owned()])]),
        accepts: vec!["text".to_owned()],
        task: "embed".to_owned(),
        slo: Slo { latency: Duration::from_millis(150), objective: 0.99, first_token: None },
        price: None,
        idempotent: true,
        hedge: false,
        models: Vec::new(),
    }
}
