//! What router and experts both say in protobuf: cards, objectives, durations. Said in one place, so that the two
//! cannot differ. Everything else is for the edges of the services.

use std::time::Duration;

use consilium_proto::v1;

use crate::registry::{Card, ModelRef, Slo};

/// The longest duration that protobuf allows: 10,000 years.
const LONGEST: prost_types::Duration = prost_types::Duration { seconds: 315_576_000_000, nanos: 0 };

/// A card as clients and routers see it.
pub fn card(card: &Card) -> v1::Card {
    let values = |values: &Vec<String>| v1::Values { values: values.clone() };
    let model = |model: &ModelRef| v1::ModelRef {
        name: model.name.clone(),
        version: model.version.clone(),
        digest: model.digest.clone(),
    };
    v1::Card {
        expert: card.expert.clone(),
        version: card.version.clone(),
        summary: card.summary.clone(),
        examples: card.examples.clone(),
        serves: card.serves.iter().map(|(name, served)| (name.clone(), values(served))).collect(),
        accepts: card.accepts.clone(),
        task: card.task.clone(),
        slo: Some(slo(&card.slo)),
        price: card.price.as_ref().map(|price| v1::Price {
            currency: price.currency.clone(),
            per_call: price.per_call,
            per_thousand_tokens: price.per_thousand_tokens,
        }),
        idempotent: card.idempotent,
        hedge: card.hedge,
        models: card.models.iter().map(model).collect(),
        digest: card.digest(),
        created: None,
    }
}

pub fn slo(slo: &Slo) -> v1::Slo {
    v1::Slo {
        latency: Some(duration(slo.latency)),
        objective: slo.objective,
        first_token: slo.first_token.map(duration),
    }
}

/// Saturates: a duration that protobuf cannot hold is as good as for ever.
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).ok().filter(|d| d.seconds < LONGEST.seconds).unwrap_or(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_their_nanoseconds_and_never_leave_what_protobuf_allows() {
        let kept = duration(Duration::new(3, 999_999_999));
        assert_eq!((kept.seconds, kept.nanos), (3, 999_999_999));
        for endless in [Duration::MAX, Duration::from_secs(315_576_000_001)] {
            assert_eq!(duration(endless), LONGEST);
        }
    }
}
