//! Who is in the mesh.

use std::collections::BTreeMap;

use consilium_proto::v1;
use serde::Serialize;

use super::{ms, values, word};

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Catalog {
    pub(crate) mesh: String,
    pub(crate) revision: u64,
    pub(crate) experts: Vec<Expert>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Expert {
    pub(crate) name: String,
    pub(crate) cards: Vec<Card>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) slo: SloState,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Card {
    pub(crate) expert: String,
    pub(crate) version: String,
    pub(crate) summary: String,
    pub(crate) examples: Vec<String>,
    pub(crate) serves: BTreeMap<String, Vec<String>>,
    pub(crate) accepts: Vec<String>,
    pub(crate) task: String,
    pub(crate) slo: Slo,
    pub(crate) price: Option<Price>,
    pub(crate) idempotent: bool,
    pub(crate) hedge: bool,
    pub(crate) models: Vec<ModelRef>,
    pub(crate) digest: String,
    /// Seconds since 1970.
    pub(crate) created: Option<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Slo {
    pub(crate) latency_ms: Option<f64>,
    pub(crate) objective: f64,
    pub(crate) first_token_ms: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Price {
    pub(crate) currency: String,
    pub(crate) per_call: f64,
    pub(crate) per_thousand_tokens: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModelRef {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) digest: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) address: String,
    /// `connecting`, `serving`, `draining`, `unreachable` or `ejected`.
    pub(crate) state: String,
    /// `live`, `canary` or `shadow`.
    pub(crate) track: String,
    pub(crate) zone: String,
    pub(crate) epoch: String,
    pub(crate) in_flight: u32,
    pub(crate) software: String,
    /// Its registration ran out, but it still answers.
    pub(crate) expired: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct SloState {
    pub(crate) slo: Slo,
    pub(crate) good: u64,
    pub(crate) total: u64,
}

impl Expert {
    /// The newest card; the router puts it first.
    pub(crate) fn card(&self) -> Option<&Card> {
        self.cards.first()
    }
}

impl From<v1::Catalog> for Catalog {
    fn from(catalog: v1::Catalog) -> Self {
        Self {
            mesh: catalog.mesh,
            revision: catalog.revision,
            experts: catalog.experts.into_iter().map(Expert::from).collect(),
        }
    }
}

impl From<v1::Expert> for Expert {
    fn from(expert: v1::Expert) -> Self {
        let slo = expert.slo.map(|state| SloState {
            slo: state.slo.map(Slo::from).unwrap_or_default(),
            good: state.good,
            total: state.total,
        });
        Self {
            name: expert.name,
            cards: expert.cards.into_iter().map(Card::from).collect(),
            instances: expert.instances.into_iter().map(Instance::from).collect(),
            slo: slo.unwrap_or_default(),
        }
    }
}

impl From<v1::Card> for Card {
    fn from(card: v1::Card) -> Self {
        let price = |price: v1::Price| Price {
            currency: price.currency,
            per_call: price.per_call,
            per_thousand_tokens: price.per_thousand_tokens,
        };
        let model = |model: v1::ModelRef| ModelRef { name: model.name, version: model.version, digest: model.digest };
        Self {
            expert: card.expert,
            version: card.version,
            summary: card.summary,
            examples: card.examples,
            serves: values(card.serves),
            accepts: card.accepts,
            task: card.task,
            slo: card.slo.map(Slo::from).unwrap_or_default(),
            price: card.price.map(price),
            idempotent: card.idempotent,
            hedge: card.hedge,
            models: card.models.into_iter().map(model).collect(),
            digest: card.digest,
            created: card.created.map(|at| at.seconds),
        }
    }
}

impl From<v1::Slo> for Slo {
    fn from(slo: v1::Slo) -> Self {
        Self { latency_ms: ms(slo.latency), objective: slo.objective, first_token_ms: ms(slo.first_token) }
    }
}

impl From<v1::Instance> for Instance {
    fn from(instance: v1::Instance) -> Self {
        Self {
            state: word(instance.state().as_str_name(), "STATE_"),
            track: word(instance.track().as_str_name(), "TRACK_"),
            id: instance.id,
            version: instance.version,
            address: instance.address,
            zone: instance.zone,
            epoch: instance.epoch,
            in_flight: instance.in_flight,
            software: instance.software,
            expired: instance.expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples;

    #[test]
    fn the_catalogue_keeps_the_names_of_the_proto() {
        let json = serde_json::to_value(Catalog::from(samples::catalog())).unwrap();
        let expert = &json["experts"][0];
        assert_eq!((&json["mesh"], &json["revision"]), (&"clinic".into(), &7.into()));
        assert_eq!(expert["cards"][0]["serves"]["audience"][1], "patient");
        assert_eq!(expert["cards"][0]["slo"]["latency_ms"], 150.0);
        assert_eq!(expert["instances"][0]["state"], "serving");
        assert_eq!(expert["instances"][0]["track"], "live");
        assert_eq!((&expert["slo"]["good"], &expert["slo"]["total"]), (&11.into(), &12.into()));
    }
}
