//! What `--json` prints and what `render` lays out: the messages of the contract as plain data. The field names are
//! the proto's and are stable. Three things differ, because JSON readers want them so: durations are numbers of
//! milliseconds and say it in their name (`elapsed_ms`), enums are their bare words in small letters (`dispatched`),
//! and bytes are counted, not printed.
//!
//! Nothing else in this crate reads a protobuf message of a reply.

mod answer;
mod catalog;
mod decision;
mod dispatch;
mod failure;

use std::{collections::BTreeMap, time::Duration};

use consilium_proto::v1;

pub(crate) use self::{
    answer::{Answer, Body, Classification, Head, Passage, Source},
    catalog::{Catalog, Expert, Instance, Slo},
    decision::{Candidate, Decision, Dimension, Explanation, Leg, Plan, Value},
    dispatch::{Accepted, Dispatch, Event, Reply},
    failure::CallFailure,
};

/// Milliseconds with the microseconds behind the point: what a duration can be read and compared as.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// A duration of the contract; `None` where it is unset or negative.
fn ms(duration: Option<prost_types::Duration>) -> Option<f64> {
    duration.and_then(|duration| Duration::try_from(duration).ok()).map(milliseconds)
}

/// `OUTCOME_DISPATCHED` → `dispatched`.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

fn values(values: std::collections::HashMap<String, v1::Values>) -> BTreeMap<String, Vec<String>> {
    values.into_iter().map(|(name, values)| (name, values.values)).collect()
}

#[cfg(test)]
pub(crate) use self::catalog::Card;
#[cfg(test)]
pub(crate) mod samples;
