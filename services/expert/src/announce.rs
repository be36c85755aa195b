//! What an expert tells the registry: the card of its version, the record of its process, and what changes in it later.

use std::{
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use consilium_engine::{CostTable, Unit};
use consilium_mesh::{
    dial::is_address,
    limits,
    registry::{Card, Cost, CostUnit, ModelRef, RECORD_SCHEMA, Record, Registration, State, Track},
};
use tokio::{sync::Mutex, time::timeout};

use crate::{Config, Error, server::Identity};

/// For the registry to take a change of the record before work goes on.
const PATIENCE: Duration = Duration::from_secs(2);
const SOFTWARE: &str = concat!("consilium/", env!("CARGO_PKG_VERSION"));

/// How an instance wants to be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// `host:port`, or a host alone, which is called at the listener's port; by default the listener's own address.
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

/// What `config` says of the expert, and the models that are a part of its version. The models of a repository are not:
/// instances of one version may have different ones, so that only the record names them.
pub fn card(config: &Config, models: Vec<ModelRef>) -> Card {
    Card {
        expert: config.name.clone(),
        version: config.version.clone(),
        summary: config.summary.clone(),
        examples: config.examples.clone(),
        serves: config.serves.clone(),
        accepts: vec![config.task.kind().reads().modality().to_owned()],
        task: config.task.kind().as_str().to_owned(),
        slo: config.slo,
        price: config.price.clone(),
        idempotent: config.idempotent,
        hedge: config.hedge,
        models,
    }
}

/// What warm-up measured, for predicting how long a call will take.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// `None` where no model is loaded.
    pub(crate) cost: Option<CostTable>,
    /// 0 when unknown.
    pub(crate) bytes_per_unit: f64,
}

/// The record of an instance that is called at `address`, where `default_model` answers raw tensors under the expert's own
/// name. It serves no models yet: see [`serving`].
pub(crate) fn record(
    identity: &Identity,
    announcement: &Announcement,
    address: String,
    default_model: Option<&str>,
) -> Record {
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
        models: Vec::new(),
        default_model: default_model.unwrap_or_default().to_owned(),
        zone: announcement.zone.clone(),
        tls: identity.tls,
        server_name: announcement.server_name.clone(),
        executors: 0,
        batch_units: 0,
        cost: Cost::default(),
        keepalive_ms: Some(limits::KEEPALIVE.as_millis() as u64),
        software: SOFTWARE.to_owned(),
    }
}

/// `record` as it is while `models` are served.
pub(crate) fn serving(record: Record, models: Vec<ModelRef>, measured: &Measured) -> Record {
    let Some(cost) = &measured.cost else {
        return Record { models, executors: 0, batch_units: 0, cost: Cost::default(), ..record };
    };
    Record {
        models,
        executors: cost.executors,
        batch_units: cost.batch_units,
        cost: Cost { unit: unit(cost), points: cost.points.clone(), bytes_per_unit: measured.bytes_per_unit },
        ..record
    }
}

/// An instance that the registry knows, and what it knows of it.
#[derive(Debug)]
pub(crate) struct Announced {
    registration: Box<dyn Registration>,
    /// `None` once the instance is about to leave: an update would say that it serves.
    record: Mutex<Option<Record>>,
}

impl Announced {
    pub(crate) fn new(registration: Box<dyn Registration>, record: Record) -> Announced {
        Announced { registration, record: Mutex::new(Some(record)) }
    }

    /// Returns once routers can know of it.
    pub(crate) async fn known(&self) {
        self.registration.announced().await;
    }

    /// Other models are served from now on. A registry that takes its time hears of it later.
    pub(crate) async fn models(&self, models: Vec<ModelRef>, cost: Option<CostTable>) {
        let mut announced = self.record.lock().await;
        let Some(record) = announced.take() else { return };
        let record = serving(record, models, &Measured { cost, bytes_per_unit: 0.0 });
        match timeout(PATIENCE, self.registration.update(record.clone())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "the registry does not take the models");
            }
            Err(_) => tracing::warn!("the registry has not heard of the models yet"),
        }
        *announced = Some(record);
    }

    /// What its version says of itself has changed. `Err` where the registry will not have it; one that takes its time hears
    /// of it later.
    pub(crate) async fn card(&self, card: Card) -> Result<(), consilium_mesh::registry::Error> {
        let announced = self.record.lock().await;
        if announced.is_none() {
            return Ok(());
        }
        timeout(PATIENCE, self.registration.update_card(card)).await.unwrap_or_else(|_| {
            tracing::warn!("the registry has not heard of the card yet");
            Ok(())
        })
    }

    /// What takes the instance out of the registry. Nothing changes its record any more.
    pub(crate) async fn leaving(&self) -> &dyn Registration {
        self.record.lock().await.take();
        &*self.registration
    }
}

/// The address to announce. A wildcard is one to listen on, not one to call.
pub(crate) fn address(announcement: &Announcement, listening: SocketAddr) -> Result<String, Error> {
    match &announcement.address {
        Some(address) => Ok(complete(address, listening.port())),
        None if listening.ip().is_unspecified() => Err(Error::NoAddress { listening }),
        None => Ok(listening.to_string()),
    }
}

/// Whether an address can be announced: `host:port`, or a host that gets the listener's port. Pods know their address, and
/// it depends on the cluster whether brackets belong around it.
pub(crate) fn is_announceable(address: &str) -> bool {
    is_address(&complete(address, 1))
}

/// An IPv6 address with a port has brackets: without them everything is the address.
fn complete(address: &str, port: u16) -> String {
    if address.parse::<Ipv6Addr>().is_ok() {
        return format!("[{address}]:{port}");
    }
    let is_bracketed = address.starts_with('[') && address.ends_with(']');
    if is_bracketed || !address.contains(':') { format!("{address}:{port}") } else { address.to_owned() }
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

    #[test]
    fn a_host_alone_gets_the_port_of_the_listener() {
        for (said, announced) in [
            ("10.0.0.7", "10.0.0.7:7700"),
            ("10.0.0.7:80", "10.0.0.7:80"),
            ("2001:db8::7", "[2001:db8::7]:7700"),
            ("[2001:db8::7]", "[2001:db8::7]:7700"),
            ("[2001:db8::7]:80", "[2001:db8::7]:80"),
            ("::1:80", "[::1:80]:7700"),
            ("labs-0.labs.clinic.svc", "labs-0.labs.clinic.svc:7700"),
            ("labs:80", "labs:80"),
        ] {
            let announcement = Announcement { address: Some(said.to_owned()), ..Announcement::default() };
            assert!(is_announceable(said), "{said}");
            assert_eq!(address(&announcement, "0.0.0.0:7700".parse().unwrap()).unwrap(), announced);
        }
    }

    #[test]
    fn what_nobody_can_call_is_not_announced() {
        for said in
            ["", ":1", "a:", "a:0", "a:65536", "[x]", "[x]:1", "[10.0.0.7]", "fe80::1%eth0", "u@a:1", "a/b", "a b:1"]
        {
            assert!(!is_announceable(said), "{said}");
        }
    }
}
