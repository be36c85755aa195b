//! What has to come, what came, and whether that is the same. Pure, and made to be able to fail: what is expected and was
//! not told counts as wrong, unless the client's protocol has no place for it, and a comparison of nothing is wrong too.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// What came of a call, fact by fact. A fact that is not in it was not told.
pub(crate) type Facts = BTreeMap<&'static str, Value>;

/// How an expected value is held against the one that came.
#[derive(Clone, Copy)]
enum Match {
    Same,
    /// What came, a text or a list, begins with it.
    Prefix,
    /// What came is it, or one of them.
    OneOf,
    /// The same in any order.
    Set,
    /// What came has all of it.
    Within,
}

/// Every fact that a case may expect.
const FACTS: [(&str, Match); 34] = [
    ("accepted", Match::Same),
    ("answer", Match::Same),
    ("attempts", Match::Same),
    ("candidates", Match::Set),
    ("chosen", Match::Same),
    ("deltas", Match::Within),
    ("dimensions", Match::Within),
    ("events", Match::Same),
    ("expert", Match::Same),
    ("failures", Match::Same),
    ("journal", Match::Within),
    ("labels", Match::Within),
    ("live", Match::Within),
    ("outcome", Match::Same),
    ("partial", Match::Same),
    ("passage", Match::Same),
    ("plan", Match::Same),
    ("reason", Match::Same),
    ("replies", Match::Set),
    ("request_id", Match::Same),
    ("rules", Match::Same),
    ("sections", Match::Same),
    ("text", Match::Same),
    ("text_starts", Match::Prefix),
    ("tier", Match::OneOf),
    ("token", Match::Same),
    ("truncated", Match::Same),
    ("unavailable", Match::Same),
    ("versions", Match::Within),
    // Of an error, below `error:` in a case.
    ("code", Match::OneOf),
    ("fields", Match::Set),
    ("fields_start", Match::Prefix),
    ("metadata", Match::Same),
    ("retry", Match::Same),
];
/// Of an error, too, where a fact of a reply has the same name.
const OF_AN_ERROR: [(&str, &str); 2] = [("reason", "error_reason"), ("request_id", "error_request_id")];

/// What has to come.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Expected {
    /// `None`: the call has a reply.
    #[serde(default)]
    error: Option<BTreeMap<String, Value>>,
    #[serde(flatten)]
    facts: BTreeMap<String, Value>,
}

/// How a comparison went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Facts that were expected.
    pub(crate) expected: usize,
    /// And of those, facts that were told.
    pub(crate) told: usize,
    /// Empty where all is right.
    pub(crate) wrong: Vec<String>,
}

impl Expected {
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let of_error = self.error.iter().flatten().map(|(name, _)| name);
        let names = self.facts.keys().chain(of_error);
        let unknown = names.filter(|name| matching(name).is_none());
        let mut mistakes: Vec<_> = unknown.map(|name| format!("nobody tells a fact called {name}")).collect();
        if self.facts.is_empty() && self.error.as_ref().is_none_or(BTreeMap::is_empty) {
            mistakes.push("nothing is expected".to_owned());
        }
        mistakes
    }

    pub(crate) fn expects(&self, fact: &str) -> bool {
        self.facts.contains_key(fact)
    }

    /// Holds it against what came. `may_be_silent`: the client's protocol has no place for all of it.
    pub(crate) fn compare(&self, came: &Facts, may_be_silent: bool) -> Compared {
        let mut compared = Compared { expected: 0, told: 0, wrong: Vec::new() };
        match (&self.error, came.get("code")) {
            (None, Some(code)) => {
                let more = ["error_reason", "message"].map(|name| came.get(name).and_then(Value::as_str).unwrap_or(""));
                compared.wrong.push(format!("it failed: {} {}", code.as_str().unwrap_or_default(), more.join(" ")));
            }
            (Some(_), None) => compared.wrong.push("it did not fail".to_owned()),
            _ => {}
        }
        let of_error = self.error.iter().flatten().map(|(name, value)| (of_an_error(name), value));
        for (name, expected) in self.facts.iter().map(|(name, value)| (name.as_str(), value)).chain(of_error) {
            compared.expected += 1;
            match came.get(name) {
                Some(found) => {
                    compared.told += 1;
                    if !matching(name).is_some_and(|how| how.fits(expected, found)) {
                        compared.wrong.push(format!("{name} is {found}; expected {expected}"));
                    }
                }
                None if may_be_silent => {}
                None => compared.wrong.push(format!("{name} is not told; expected {expected}")),
            }
        }
        if compared.told == 0 {
            compared.wrong.push("nothing of what is expected was told".to_owned());
        }
        compared
    }
}

impl Match {
    fn fits(self, expected: &Value, found: &Value) -> bool {
        match self {
            Match::Same => same(expected, found),
            Match::Prefix => match (expected, found) {
                (Value::String(start), Value::String(text)) => text.starts_with(start),
                (Value::Array(start), Value::Array(list)) => list.starts_with(start),
                _ => false,
            },
            Match::OneOf => expected.as_array().map_or(expected == found, |any| any.contains(found)),
            Match::Set => match (expected.as_array(), found.as_array()) {
                (Some(expected), Some(found)) => {
                    expected.len() == found.len() && expected.iter().all(|one| found.contains(one))
                }
                _ => false,
            },
            Match::Within => match (expected.as_object(), found.as_object()) {
                (Some(expected), Some(found)) => {
                    expected.iter().all(|(key, value)| found.get(key).is_some_and(|found| same(value, found)))
                }
                _ => false,
            },
        }
    }
}

/// Equal; of numbers, that is their value and not how they are written.
fn same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Number(expected), Value::Number(found)) => {
            matches!((expected.as_f64(), found.as_f64()), (Some(a), Some(b)) if (a - b).abs() < f64::EPSILON)
        }
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len() && expected.iter().zip(found).all(|(one, other)| same(one, other))
        }
        (Value::Object(expected), Value::Object(found)) => {
            let has = |(key, value): (&String, &Value)| found.get(key).is_some_and(|found| same(value, found));
            expected.len() == found.len() && expected.iter().all(has)
        }
        _ => expected == found,
    }
}

fn matching(name: &str) -> Option<Match> {
    let name = OF_AN_ERROR.iter().find(|(_, fact)| *fact == name).map_or(name, |(name, _)| name);
    // An error's reason may be one that only the router gives, when the client's own clock was faster.
    let how = FACTS.iter().find(|(fact, _)| *fact == name).map(|(_, how)| *how);
    if name == "reason" { how.map(|_| Match::OneOf) } else { how }
}

fn of_an_error(name: &str) -> &str {
    OF_AN_ERROR.iter().find(|(said, _)| *said == name).map_or(name, |(_, fact)| fact)
}

/// Shows that the comparison can fail. Trials like the clients, because this program brings its own way to run tests.
pub(crate) mod checks {
    use serde_json::{Value, json};

    use super::{Compared, Expected, Facts};

    fn expected(value: Value) -> Expected {
        serde_json::from_value(value).expect("it is an expectation")
    }

    fn came(facts: &[(&'static str, Value)]) -> Facts {
        facts.iter().cloned().collect()
    }

    /// The two right answers, and what differs when one thing is changed.
    pub(crate) fn differences_are_seen() {
        let wanted = expected(json!({"outcome": "dispatched", "expert": "labs", "labels": {"urgency": "routine"}}));
        let right = came(&[
            ("outcome", json!("dispatched")),
            ("expert", json!("labs")),
            ("labels", json!({"urgency": "routine", "specialty": "dermatology"})),
        ]);
        assert_eq!(wanted.compare(&right, false), Compared { expected: 3, told: 3, wrong: Vec::new() });
        for (fact, value) in [
            ("expert", json!("pharmacy")),
            ("expert", json!(null)),
            ("outcome", json!("fallback")),
            ("labels", json!({"specialty": "dermatology"})),
        ] {
            let mut wrong = right.clone();
            wrong.insert(fact, value.clone());
            let compared = wanted.compare(&wrong, false);
            assert_eq!(compared.wrong.len(), 1, "{fact} = {value} was not seen: {compared:?}");
            assert!(compared.wrong[0].starts_with(fact), "{compared:?}");
        }
    }

    pub(crate) fn what_is_missing_is_wrong() {
        let wanted = expected(json!({"outcome": "dispatched", "token": true}));
        let silent = came(&[("outcome", json!("dispatched"))]);
        assert_eq!(wanted.compare(&silent, false).wrong, ["token is not told; expected true"]);
        assert_eq!(wanted.compare(&silent, true), Compared { expected: 2, told: 1, wrong: Vec::new() });
    }

    pub(crate) fn a_comparison_of_nothing_is_wrong() {
        let wanted = expected(json!({"tier": "rules"}));
        let compared = wanted.compare(&came(&[("expert", json!("labs"))]), true);
        assert_eq!(compared.wrong, ["nothing of what is expected was told"]);
        assert_eq!(expected(json!({})).mistakes(), ["nothing is expected"]);
        assert_eq!(expected(json!({"experts": 1})).mistakes(), ["nobody tells a fact called experts"]);
        assert_eq!(expected(json!({"error": {"codes": 1}})).mistakes(), ["nobody tells a fact called codes"]);
    }

    pub(crate) fn errors_and_replies_are_told_apart() {
        let reply = expected(json!({"outcome": "dispatched"}));
        let failed =
            came(&[("code", json!("UNAVAILABLE")), ("error_reason", json!("STARTING")), ("retry", json!(true))]);
        assert!(reply.compare(&failed, true).wrong[0].starts_with("it failed: UNAVAILABLE STARTING"));
        let error = expected(json!({"error": {"code": ["UNAVAILABLE", "INTERNAL"], "reason": "STARTING"}}));
        assert_eq!(error.compare(&failed, false), Compared { expected: 2, told: 2, wrong: Vec::new() });
        let answered = came(&[("outcome", json!("dispatched"))]);
        assert_eq!(error.compare(&answered, true).wrong, ["it did not fail", "nothing of what is expected was told"]);
        let other = expected(json!({"error": {"code": "UNAVAILABLE", "reason": "GATE_UNAVAILABLE", "retry": false}}));
        assert_eq!(other.compare(&failed, false).wrong.len(), 2);
    }

    pub(crate) fn sets_and_lists_have_nothing_too_much() {
        let fields = expected(json!({"error": {"fields": ["a", "b"]}}));
        let of = |found: Value| came(&[("code", json!("X")), ("fields", found)]);
        assert!(fields.compare(&of(json!(["b", "a"])), false).wrong.is_empty());
        for wrong in [json!(["a"]), json!(["a", "b", "c"]), json!(["a", "a"])] {
            assert_eq!(fields.compare(&of(wrong), false).wrong.len(), 1);
        }
        let first = expected(json!({"error": {"fields_start": ["a", "b"]}}));
        let of = |found: Value| came(&[("code", json!("X")), ("fields_start", found)]);
        assert!(first.compare(&of(json!(["a", "b", "c"])), false).wrong.is_empty());
        for wrong in [json!(["a"]), json!(["b", "a", "c"]), json!([])] {
            assert_eq!(first.compare(&of(wrong), false).wrong.len(), 1);
        }
        let events = expected(json!({"events": ["decision", "reply", "done"]}));
        for wrong in [json!(["decision", "reply", "delta", "done"]), json!(["reply", "decision", "done"]), json!([])] {
            assert_eq!(events.compare(&came(&[("events", wrong)]), false).wrong.len(), 1);
        }
    }
    /// However a number is written, and however deep it is.
    pub(crate) fn numbers_are_their_values() {
        let wanted = expected(json!({"journal": {"metrics": {"rating": 4, "helpful": true}, "tenant": "north"}}));
        let wrote = |metrics: Value| {
            let line = json!({"metrics": metrics, "tenant": "north", "outcome": "DISPATCHED"});
            wanted.compare(&came(&[("journal", line)]), false).wrong.len()
        };
        assert_eq!(wrote(json!({"rating": 4.0, "helpful": true})), 0);
        for wrong in [
            json!({"rating": 4.5, "helpful": true}),
            json!({"rating": "4", "helpful": true}),
            json!({"rating": 4.0}),
            json!({"rating": 4.0, "helpful": true, "comment": "x"}),
        ] {
            assert_eq!(wrote(wrong), 1);
        }
    }
}
