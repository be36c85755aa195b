//! Which metrics a mesh declares, and whether what a caller says fits them. Pure.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::settings::MAX_METRICS;
use crate::error::Violation;

/// What [`is_metric_name`] takes, in words.
pub(super) const METRIC_NAME: &str = "1 to 64 lower-case letters, digits and '_', with a letter first";
const MAX_NAME_BYTES: usize = 64;
/// Declared metrics that an error names. Names may be long, and errors travel in headers.
const MAX_LISTED: usize = 8;

/// The metrics of a mesh by name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declared(pub(super) BTreeMap<String, Kind>);

/// What a metric can be. Bounds belong to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Boolean,
    /// Both bounds are finite, so that sums of what is taken are finite too.
    Number {
        min: f64,
        max: f64,
    },
    Text {
        max_bytes: usize,
    },
}

/// One metric as a caller sent it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    pub(crate) name: String,
    /// None where the message has none.
    pub(crate) value: Option<Value>,
}

/// What is said about an answer.
#[derive(Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Boolean(bool),
    Number(f64),
    Text(String),
}

pub(super) fn is_metric_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(inner)
}

impl Declared {
    /// The metrics by name, or everything that is wrong with them.
    pub(super) fn check(&self, said: Vec<Said>) -> Result<BTreeMap<String, Value>, Vec<Violation>> {
        if said.is_empty() {
            return Err(vec![Violation::new("metrics", format!("empty; expected {}", self.listed()))]);
        }
        // No more are looked at than could be right: what is wrong with each is kept in memory.
        if said.len() > MAX_METRICS {
            let problem = format!("{}; expected {}, each at most once", said.len(), self.listed());
            return Err(vec![Violation::new("metrics", problem)]);
        }
        let (mut taken, mut violations) = (BTreeMap::new(), Vec::new());
        let mut is_listed = false;
        for (at, Said { name, value }) in said.into_iter().enumerate() {
            let problem = match (self.0.get(&name), value) {
                (None, _) if is_listed => "the mesh does not ask for it".to_owned(),
                (None, _) => {
                    is_listed = true;
                    format!("the mesh does not ask for it; expected {}", self.listed())
                }
                (Some(_), _) if taken.contains_key(&name) => "said twice; expected once".to_owned(),
                (Some(kind), None) => format!("no value; expected {kind}"),
                (Some(kind), Some(value)) if !kind.takes(&value) => format!("wrong; expected {kind}"),
                (Some(_), Some(value)) => {
                    taken.insert(name, value);
                    continue;
                }
            };
            violations.push(Violation::new(field(&name, at), problem));
        }
        if violations.is_empty() { Ok(taken) } else { Err(violations) }
    }

    fn listed(&self) -> String {
        let listed = self.0.keys().take(MAX_LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
        match self.0.len().saturating_sub(MAX_LISTED) {
            0 => listed,
            more => format!("{listed} or one of {more} more"),
        }
    }
}

/// The field of a metric. A name that no metric could have is not repeated: it may be anything.
fn field(name: &str, at: usize) -> String {
    if is_metric_name(name) { format!("metrics[{name}]") } else { format!("metrics[{at}]") }
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Number { .. } => "number",
            Self::Text { .. } => "text",
        }
    }

    fn takes(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Boolean, Value::Boolean(_)) => true,
            (Self::Number { min, max }, Value::Number(number)) => (min..=max).contains(number),
            (Self::Text { max_bytes }, Value::Text(text)) => text.len() <= max_bytes,
            (Self::Boolean | Self::Number { .. } | Self::Text { .. }, _) => false,
        }
    }
}

/// What is expected, in words.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Boolean => f.write_str("a boolean"),
            Self::Number { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Text { max_bytes } => write!(f, "a text of at most {max_bytes} bytes"),
        }
    }
}

/// What a person said stays out of logs.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(_) => f.write_str("Boolean(…)"),
            Self::Number(_) => f.write_str("Number(…)"),
            Self::Text(text) => write!(f, "Text(<{} bytes>)", text.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn declared() -> Declared {
        let metrics = [
            ("helpful", Kind::Boolean),
            ("rating", Kind::Number { min: 1.0, max: 5.0 }),
            ("seconds_saved", Kind::Number { min: -1e12, max: 1e12 }),
            ("comment", Kind::Text { max_bytes: 8 }),
        ];
        Declared(metrics.map(|(name, kind)| (name.to_owned(), kind)).into())
    }

    fn said(name: &str, value: impl Into<Option<Value>>) -> Said {
        Said { name: name.to_owned(), value: value.into() }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn what_fits_is_taken() {
        let all = vec![
            said("rating", Value::Number(5.0)),
            said("helpful", Value::Boolean(false)),
            said("comment", text("12345678")),
            said("seconds_saved", Value::Number(-1e12)),
        ];
        let taken = declared().check(all).unwrap();
        assert_eq!(taken.keys().collect::<Vec<_>>(), ["comment", "helpful", "rating", "seconds_saved"]);
        assert_eq!(taken["rating"], Value::Number(5.0));
        declared().check(vec![said("helpful", Value::Boolean(true))]).expect("one is enough");
    }

    #[test]
    fn everything_wrong_is_named_and_nothing_that_was_said() {
        let secret = "my own words";
        let wrong = vec![
            said("rating", Value::Number(6.5)),
            said("helpful", text(secret)),
            said("comment", text(secret)),
            said("stars", Value::Number(3.0)),
            said(secret, Value::Boolean(true)),
            said("seconds_saved", None),
        ];
        let violations = declared().check(wrong).unwrap_err();
        let found: Vec<_> = violations.iter().map(|v| (v.field.as_str(), v.problem.as_str())).collect();
        let known = "comment, helpful, rating, seconds_saved";
        let undeclared = format!("the mesh does not ask for it; expected {known}");
        let expected = [
            ("metrics[rating]", "wrong; expected a number from 1 to 5"),
            ("metrics[helpful]", "wrong; expected a boolean"),
            ("metrics[comment]", "wrong; expected a text of at most 8 bytes"),
            ("metrics[stars]", &undeclared),
            ("metrics[4]", "the mesh does not ask for it"),
            ("metrics[seconds_saved]", "no value; expected a number from -1000000000000 to 1000000000000"),
        ];
        assert_eq!(found, expected);
        assert!(!format!("{:?}", said("comment", text(secret))).contains(secret));
    }

    #[test]
    fn once_is_enough_and_never_is_too_little() {
        let twice = vec![said("helpful", Value::Boolean(true)), said("helpful", Value::Boolean(false))];
        assert_eq!(declared().check(twice).unwrap_err()[0].problem, "said twice; expected once");
        assert_eq!(declared().check(Vec::new()).unwrap_err()[0].field, "metrics");
        let many = vec![said("x", None); 1_000_000];
        assert_eq!(declared().check(many).unwrap_err().len(), 1, "a message of nothing but mistakes is one mistake");
    }

    #[test]
    fn of_many_metrics_few_are_named_and_those_once() {
        let all = Declared((10..42).map(|n| (format!("metric_{n}"), Kind::Boolean)).collect());
        let wrong = vec![said("stars", Value::Number(3.0)), said("hearts", Value::Number(3.0))];
        let problems: Vec<_> = all.check(wrong).unwrap_err().into_iter().map(|violation| violation.problem).collect();
        let named: Vec<_> = (10..18).map(|n| format!("metric_{n}")).collect();
        let first = format!("the mesh does not ask for it; expected {} or one of 24 more", named.join(", "));
        assert_eq!(problems, [first.as_str(), "the mesh does not ask for it"]);
    }

    #[test]
    fn names_are_lower_snake() {
        for name in ["helpful", "a", "seconds_saved_2", &"x".repeat(64)] {
            assert!(is_metric_name(name), "{name}");
        }
        for name in ["", "Helpful", "2nd", "_a", "a-b", "a b", "ä", &"x".repeat(65)] {
            assert!(!is_metric_name(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_number_is_taken_exactly_when_it_is_in_range(number in prop::num::f64::ANY) {
            let taken = declared().check(vec![said("rating", Value::Number(number))]);
            prop_assert_eq!(taken.is_ok(), (1.0..=5.0).contains(&number));
        }

        #[test]
        fn a_text_is_taken_by_its_bytes(said_text in "\\PC{0,12}") {
            let taken = declared().check(vec![said("comment", text(&said_text))]);
            prop_assert_eq!(taken.is_ok(), said_text.len() <= 8);
        }
    }
}
