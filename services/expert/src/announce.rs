//! What an expert tells the registry: the card of its version, the record of its process. Pure.

use std::net::SocketAddr;

use consilium_engine::{CostTable, Engine, Unit};
use consilium_mesh::{
    limits,
    registry::{Card, Cost, CostUnit, ModelRef, RECORD_SCHEMA, Record, State, Track},
};

use crate::{Config, Error, server::Identity};

const SOFTWARE: &str = concat!("consilium/", env!("CARGO_PKG_VERSION"));

/// How an instance wants to be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// `host:port`; by default the listener's own address.
    pub address: Option<String>,
    /// Its id in the registry; by default a new one for each start. With one of its own, a process that starts again takes
    /// over from the one before at once, instead of standing beside what is left of it.
    pub instance: Option<String>,
    pub track: Track,
    /// Where it runs, for routers that prefer what is near.
    pub zone: String,
    /// The name in its certificate, where that is not the host of the address.
    pub server_name: String,
}

/// What `config` says of the expert, over the models that it was loaded with.
pub fn card(config: &Config, models: &[&Engine]) -> Card {
    Card {
        expert: config.name.clone(),
        version: config.version.clone(),
        summary: config.summary.clone(),
        examples: config.examples.clone(),
        serves: config.serves.clone(),
        accepts: vec![config.task.kind.reads().modality().to_owned()],
        task: config.task.kind.as_str().to_owned(),
        slo: config.slo,
        price: config.price.clone(),
        idempotent: config.idempotent,
        hedge: config.hedge,
        models: models.iter().map(|engine| model(engine)).collect(),
    }
}

/// What warm-up measured, for predicting how long a call will take.
pub(crate) struct Measured<'a> {
    pub(crate) cost: &'a CostTable,
    /// 0 when unknown.
    pub(crate) bytes_per_unit: f64,
}

/// The record of an instance that is called at `address` and serves `card`.
pub(crate) fn record(
    identity: &Identity,
    card: &Card,
    announcement: &Announcement,
    address: String,
    measured: &Measured<'_>,
) -> Record {
    let cost = measured.cost;
    Record {
        schema: RECORD_SCHEMA,
        instance: identity.instance.clone(),
        epoch: identity.epoch.clone(),
        expert: identity.expert.clone(),
        address,
        version: identity.version.clone(),
        state: State::Serving,
        track: announcement.track,
        card_digest: String::new(), // Filled in from the card by the registry.
        models: card.models.clone(),
        zone: announcement.zone.clone(),
        tls: identity.tls,
        server_name: announcement.server_name.clone(),
        executors: cost.executors,
        batch_units: cost.batch_units,
        cost: Cost { unit: unit(cost), points: cost.points.clone(), bytes_per_unit: measured.bytes_per_unit },
        keepalive_ms: Some(limits::KEEPALIVE.as_millis() as u64),
        software: SOFTWARE.to_owned(),
    }
}

/// The address to announce. A wildcard is one to listen on, not one to call.
pub(crate) fn address(announcement: &Announcement, listening: SocketAddr) -> Result<String, Error> {
    match &announcement.address {
        Some(address) => Ok(address.clone()),
        None if listening.ip().is_unspecified() => Err(Error::NoAddress { listening }),
        None => Ok(listening.to_string()),
    }
}

fn model(engine: &Engine) -> ModelRef {
    ModelRef { name: engine.manifest().name.clone(), digest: engine.digest().to_owned() }
}

fn unit(cost: &CostTable) -> CostUnit {
    match cost.unit {
        Unit::Tokens => CostUnit::Tokens,
        Unit::Rows => CostUnit::Rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_not_announced() {
        let unsaid = Announcement::default();
        assert_eq!(address(&unsaid, "127.0.0.1:7000".parse().unwrap()).unwrap(), "127.0.0.1:7000");
        for listening in ["0.0.0.0:7000", "[::]:7000"] {
            assert!(matches!(address(&unsaid, listening.parse().unwrap()), Err(Error::NoAddress { .. })));
        }
        let said = Announcement { address: Some("expert.example:80".to_owned()), ..unsaid };
        assert_eq!(address(&said, "0.0.0.0:7000".parse().unwrap()).unwrap(), "expert.example:80");
    }
}
