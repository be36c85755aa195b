//! What one running process says of itself, and the JSON in which a registry keeps it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Card, Error, ModelRef, card::check_name};
use crate::dial::is_address;

/// What this build writes. Readers take every schema: fields that they do not know are ignored.
pub const RECORD_SCHEMA: u32 = 1;

/// An instance as it announces itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub schema: u32,
    /// Stable while the process lives; unique in the expert.
    pub instance: String,
    /// A new UUIDv7 each time that the process starts. Compared for equality; only between two starts of the same
    /// instance does it matter which is the later one.
    pub epoch: String,
    /// Part of the key in a registry, so not written into the value.
    #[serde(skip)]
    pub expert: String,
    /// `host:port`, the `Addr` beside the record in the registry's value.
    #[serde(skip)]
    pub address: String,
    pub version: String,
    pub state: State,
    #[serde(default)]
    pub track: Track,
    #[serde(default)]
    pub card_digest: String,
    #[serde(default)]
    pub models: Vec<ModelRef>,
    /// Which model answers raw tensors under the expert's own name. Where it is not among `models`, nobody does here, now.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub default_model: String,
    #[serde(default)]
    pub zone: String,
    #[serde(default)]
    pub tls: bool,
    /// The name in the certificate, where it is not the host of the address.
    #[serde(default)]
    pub server_name: String,
    /// How many batches run side by side.
    #[serde(default)]
    pub executors: usize,
    /// How many units fit into one batch.
    #[serde(default)]
    pub batch_units: usize,
    #[serde(default)]
    pub cost: Cost,
    /// HTTP/2 pings that this server welcomes. Absent: do not ping, stock gRPC servers close the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_ms: Option<u64>,
    /// Name and version of what runs, e.g. `consilium/0.1.0`.
    #[serde(default)]
    pub software: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Serving,
    /// Also what a reader makes of a state that it does not know: no new calls.
    #[serde(other)]
    Draining,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    #[default]
    Live,
    Canary,
    /// Also what a reader makes of a track that it does not know: answers nobody waits for.
    #[serde(other)]
    Shadow,
}

/// How long a batch takes by its size, measured by the instance's warm-up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Cost {
    #[serde(default)]
    pub unit: CostUnit,
    /// Units and milliseconds, by growing units.
    #[serde(default)]
    pub points: Vec<(usize, f64)>,
    /// For guessing the units of a request without its tokenizer; 0 when unknown.
    #[serde(default)]
    pub bytes_per_unit: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CostUnit {
    #[default]
    Tokens,
    Rows,
}

/// A registry's value. `Addr` is the field that stock etcd resolvers read; ours stands beside it and not under their
/// `Metadata`, because Go clients up to 3.6.7 panic on an object there.
#[derive(Serialize, Deserialize)]
struct Value {
    #[serde(rename = "Addr")]
    address: String,
    #[serde(rename = "Record")]
    record: Record,
}

impl Record {
    /// How often the server may be pinged, if it welcomes pings at all. Never more than ten times a second, whatever the
    /// record says; one that wants less than one an hour wants none.
    pub fn keepalive(&self) -> Option<Duration> {
        let every = Duration::from_millis(self.keepalive_ms?).max(Duration::from_millis(100));
        (every <= Duration::from_hours(1)).then_some(every)
    }

    /// The registry's value: `{"Addr":"host:port","Record":{…}}`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a number cannot be written as JSON.
    pub fn encode(&self) -> Result<String, Error> {
        let value = Value { address: self.address.clone(), record: self.clone() };
        serde_json::to_string(&value).map_err(|error| Error::invalid("record", error.to_string()))
    }

    /// Reads a registry's value; `expert` comes from the key.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the value is no record.
    pub fn decode(expert: &str, value: &str) -> Result<Self, Error> {
        let value: Value = serde_json::from_str(value).map_err(|error| Error::invalid("record", error.to_string()))?;
        Ok(Self { expert: expert.to_owned(), address: value.address, ..value.record })
    }

    /// Whether a registry takes this record together with `card`.
    pub(super) fn check(&self, card: &Card) -> Result<(), Error> {
        check_name("record.instance", &self.instance)?;
        if self.epoch.is_empty() {
            return Err(Error::invalid("record.epoch", "a new id for each start is expected"));
        }
        if self.expert != card.expert {
            return Err(Error::invalid("record.expert", "another expert than the card's"));
        }
        if self.version != card.version {
            return Err(Error::invalid("record.version", "another version than the card's"));
        }
        if !is_address(&self.address) {
            return Err(Error::invalid("record.address", "host:port with a port above 0 is expected"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            schema: RECORD_SCHEMA,
            instance: "a".into(),
            epoch: "e1".into(),
            expert: "x".into(),
            address: "127.0.0.1:7000".into(),
            version: "1".into(),
            state: State::Serving,
            track: Track::Canary,
            card_digest: "d".into(),
            default_model: "densenet".into(),
            models: Vec::new(),
            zone: String::new(),
            tls: true,
            server_name: "x.test".into(),
            executors: 2,
            batch_units: 1024,
            cost: Cost { unit: CostUnit::Tokens, points: vec![(8, 3.1)], bytes_per_unit: 4.5 },
            keepalive_ms: Some(1000),
            software: "consilium/0.1.0".into(),
        }
    }

    #[test]
    fn the_value_is_what_stock_resolvers_read_with_ours_beside_it() {
        let json: serde_json::Value = serde_json::from_str(&record().encode().unwrap()).unwrap();
        assert_eq!(json["Addr"], "127.0.0.1:7000");
        assert_eq!(json["Record"]["state"], "serving");
        assert_eq!(json["Record"]["track"], "canary");
        assert_eq!(json["Record"]["cost"]["points"], serde_json::json!([[8, 3.1]]));
        assert_eq!(json["Record"]["keepalive_ms"], 1000);
        assert_eq!(json.get("Metadata"), None);
        assert_eq!(Record::decode("x", &json.to_string()).unwrap(), record());
    }

    #[test]
    fn a_reader_of_today_takes_a_record_of_tomorrow_and_does_not_call_it() {
        let value = r#"{"Addr":"h:1","Op":0,"Record":{"schema":9,"instance":"a","epoch":"e","version":"2",
            "state":"hibernating","track":"mirror","new":{"x":1}}}"#;
        let read = Record::decode("x", value).unwrap();
        assert_eq!((read.state, read.track), (State::Draining, Track::Shadow));
        assert_eq!((read.expert.as_str(), read.address.as_str()), ("x", "h:1"));
        assert!(Record::decode("x", "{}").is_err());
    }
}
