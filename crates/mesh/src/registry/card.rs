//! What an expert version says of itself. Cards outlive instances: the gate's labels are the known cards.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;

/// The largest card, as JSON. A registry keeps every card in memory at every router.
pub const MAX_CARD_BYTES: usize = 256 * 1024;

/// One expert version's description. In JSON, durations are milliseconds; fields that a reader does not know are
/// ignored, fields that a writer did not know have defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    pub expert: String,
    pub version: String,
    #[serde(default)]
    pub summary: String,
    /// Queries that this expert should get.
    #[serde(default)]
    pub examples: Vec<String>,
    /// Dimension values that it serves; a dimension that is not listed is served whole.
    #[serde(default)]
    pub serves: BTreeMap<String, Vec<String>>,
    /// Modalities: `text`, `record`, `tensor`, `blob`.
    #[serde(default)]
    pub accepts: Vec<String>,
    /// `embed`, `classify`, `retrieve`, `tensors`, …
    #[serde(default)]
    pub task: String,
    pub slo: Slo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// A second call with the same input does no harm.
    #[serde(default)]
    pub idempotent: bool,
    /// May be hedged.
    #[serde(default)]
    pub hedge: bool,
    #[serde(default)]
    pub models: Vec<ModelRef>,
}

/// The promise of an expert: this share of calls is good, that is, without a server error and within `latency`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    #[serde(rename = "latency_ms", with = "millis")]
    pub latency: Duration,
    /// 0 to 1.
    pub objective: f64,
    /// For experts that stream: until the first piece of text.
    #[serde(rename = "first_token_ms", default, with = "millis::option", skip_serializing_if = "Option::is_none")]
    pub first_token: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// ISO 4217.
    pub currency: String,
    #[serde(default)]
    pub per_call: f64,
    #[serde(default)]
    pub per_thousand_tokens: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRef {
    pub name: String,
    /// An integer as text; empty where the writer did not know versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// SHA-256 of the model's manifest, lower-case hexadecimal.
    pub digest: String,
}

impl Card {
    /// SHA-256 over the card's canonical JSON (keys sorted, no white space), lower-case hexadecimal.
    pub fn digest(&self) -> String {
        sha256(&self.canonical())
    }

    /// Whether a registry takes this card.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be part of a key, an objective outside 0..1 or a card beyond
    /// [`MAX_CARD_BYTES`].
    pub fn check(&self) -> Result<(), Error> {
        check_name("card.expert", &self.expert)?;
        check_name("card.version", &self.version)?;
        if !(0.0..1.0).contains(&self.slo.objective) {
            return Err(Error::invalid("card.slo.objective", "a share from 0 up to, not including, 1 is expected"));
        }
        if self.slo.latency.is_zero() {
            return Err(Error::invalid("card.slo.latency", "more than zero is expected"));
        }
        let bytes = self.canonical().len();
        if bytes > MAX_CARD_BYTES {
            return Err(Error::invalid("card", format!("{bytes} bytes, at most {MAX_CARD_BYTES} are allowed")));
        }
        Ok(())
    }

    /// `serde_json::Value` keeps the keys of its objects sorted, whatever order the fields above are declared in.
    fn canonical(&self) -> Vec<u8> {
        serde_json::to_value(self).map(|value| value.to_string().into_bytes()).unwrap_or_default()
    }
}

/// As lower-case hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Names become parts of registry keys and of health service names.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), Error> {
    if is_name(name) { Ok(()) } else { Err(Error::invalid(what, format!("{NAME} are expected"))) }
}

/// What [`is_name`] takes, in words.
pub const NAME: &str = "1 to 128 letters, digits, '-', '_' or '.'";

/// Whether a registry takes it as the name of an expert, a version or an instance.
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=128).contains(&name.len()) && name.chars().all(allowed)
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        u64::try_from(value.as_millis()).unwrap_or(u64::MAX).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }

    pub(super) mod option {
        use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};

        #[expect(clippy::ref_option, reason = "the signature that serde's `with` calls")]
        pub(in super::super) fn serialize<S: Serializer>(
            value: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            value.map(|value| u64::try_from(value.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        Card {
            expert: "drug-interactions".into(),
            version: "1".into(),
            summary: "Checks medicines against each other.".into(),
            examples: vec!["ibuprofen with warfarin".into()],
            serves: BTreeMap::from([("audience".into(), vec!["patient".into()])]),
            accepts: vec!["text".into()],
            task: "retrieve".into(),
            slo: Slo { latency: Duration::from_millis(150), objective: 0.99, first_token: None },
            price: None,
            idempotent: true,
            hedge: false,
            models: vec![ModelRef { name: "minilm-l6".into(), version: "1".into(), digest: "ab".into() }],
        }
    }

    #[test]
    fn json_has_milliseconds_and_ignores_what_it_does_not_know() {
        let mut json = serde_json::to_value(card()).unwrap();
        assert_eq!(json["slo"]["latency_ms"], 150);
        json["from_the_future"] = serde_json::json!({"a": 1});
        assert_eq!(serde_json::from_value::<Card>(json).unwrap(), card());
    }

    #[test]
    fn the_digest_depends_on_content_and_survives_a_round_trip() {
        let digest = card().digest();
        assert_eq!(digest.len(), 64);
        let again: Card = serde_json::from_str(&serde_json::to_string(&card()).unwrap()).unwrap();
        assert_eq!(again.digest(), digest);
        assert_ne!(Card { hedge: true, ..card() }.digest(), digest);
    }

    #[test]
    fn names_that_would_break_a_key_and_cards_out_of_bounds_are_refused() {
        for name in ["", "a/b", "ä", "a b"] {
            assert!(Card { expert: name.into(), ..card() }.check().is_err(), "{name:?}");
        }
        assert!(Card { examples: vec!["x".repeat(MAX_CARD_BYTES)], ..card() }.check().is_err());
        let slo = Slo { objective: 1.0, ..card().slo };
        assert!(Card { slo, ..card() }.check().is_err());
        card().check().unwrap();
    }
}
