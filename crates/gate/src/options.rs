//! What an operator may say about the gate, as it stands in `mesh.yaml` under `gate`, and the check of it.
//!
//! The check reports every mistake at once; compiling the rules is `rules`' work.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rules::RuleSet;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Options {
    /// The name of the model that reads queries. The gate is handed the encoder itself; this is for who makes it.
    pub encoder: String,
    /// At most so many experts a query; at least 1.
    pub top_k: usize,
    /// The bar an expert must clear, in 0..=1, on its probability given that some expert is right.
    pub min_confidence: f64,
    /// Refuse when the probability that no expert is right is above this, in 0..=1. 1 never refuses.
    pub refuse_above: f64,
    /// The expert that gets what is in scope but clear for nobody, and everything while the encoder is out.
    pub fallback: Option<String>,
    pub rules: Vec<Rule>,
    /// The declared axes of routing besides the subject, by name.
    pub dimensions: BTreeMap<String, Dimension>,
}

/// A condition and what follows from it: exactly one of `require`, `prefer`, `forbid`.
///
/// - `forbid`: these experts may not answer. It beats everything, whatever the priorities.
/// - `require`: these experts answer, all of them, without asking the encoder. Of several matching `require` rules,
///   those with the highest priority decide and the lower ones are only recorded.
/// - `prefer`: the odds of these experts are raised, once for each rule; scope and bar stay as they are.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Rule {
    pub name: String,
    /// A condition in CEL over `query.text`, `attributes`, `labels` and `caller`.
    pub when: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbid: Vec<String>,
    /// Higher first; rules of one priority stand in the order of the file.
    pub priority: i32,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Dimension {
    pub values: Vec<String>,
    pub summary: String,
}

/// One thing that is wrong, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// As in `gate.rules[0].when`.
    pub path: String,
    pub problem: String,
    pub expected: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            encoder: String::new(),
            top_k: 1,
            min_confidence: 0.5,
            refuse_above: 0.5,
            fallback: None,
            rules: Vec::new(),
            dimensions: BTreeMap::new(),
        }
    }
}

impl Options {
    /// Every mistake, given the experts of the mesh. Empty means that [`Gate::new`](crate::Gate::new) accepts them.
    pub fn check(&self, experts: &[&str]) -> Vec<Mistake> {
        let mut mistakes = self.check_alone();
        let known: BTreeSet<&str> = experts.iter().copied().collect();
        let expected = format!("one of the mesh's experts: {}", listed(known.iter().copied()));
        let mut named: Vec<(String, &str)> = Vec::new();
        if let Some(fallback) = &self.fallback {
            named.push(("gate.fallback".to_owned(), fallback));
        }
        for (index, rule) in self.rules.iter().enumerate() {
            for (verb, list) in rule.verbs() {
                named.extend(
                    list.iter()
                        .enumerate()
                        .map(|(at, name)| (format!("gate.rules[{index}].{verb}[{at}]"), name.as_str())),
                );
            }
        }
        mistakes.extend(
            named
                .into_iter()
                .filter(|(_, name)| !known.contains(name))
                .map(|(path, name)| Mistake::new(path, format!("no expert is called {name:?}"), &*expected)),
        );
        mistakes
    }

    /// The mistakes that show without knowing the experts, who come and go.
    pub(crate) fn check_alone(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.top_k == 0 {
            mistakes.push(Mistake::new("gate.top_k", "0 would choose nobody", "a whole number from 1"));
        }
        for (name, value) in [("min_confidence", self.min_confidence), ("refuse_above", self.refuse_above)] {
            if !(0.0..=1.0).contains(&value) {
                mistakes.push(Mistake::new(
                    format!("gate.{name}"),
                    format!("{value} is no probability"),
                    "a number from 0 to 1",
                ));
            }
        }
        for (name, dimension) in &self.dimensions {
            dimension.check(name, &mut mistakes);
        }
        let mut names = BTreeSet::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let path = format!("gate.rules[{index}]");
            if rule.name.trim().is_empty() {
                mistakes.push(Mistake::new(format!("{path}.name"), "is empty", "a name to show in decisions"));
            } else if !names.insert(rule.name.as_str()) {
                mistakes.push(Mistake::new(
                    format!("{path}.name"),
                    format!("{:?} is the name of an earlier rule", rule.name),
                    "a name of its own",
                ));
            }
            if rule.verbs().iter().filter(|(_, experts)| !experts.is_empty()).count() != 1 {
                mistakes.push(Mistake::new(
                    path,
                    "does not say what follows",
                    "exactly one of require, prefer and forbid, with at least one expert",
                ));
            }
        }
        mistakes.extend(RuleSet::compile(self).err().unwrap_or_default());
        mistakes
    }
}

impl Rule {
    fn verbs(&self) -> [(&'static str, &[String]); 3] {
        [("require", &self.require), ("prefer", &self.prefer), ("forbid", &self.forbid)]
    }
}

impl Dimension {
    fn check(&self, name: &str, mistakes: &mut Vec<Mistake>) {
        let path = format!("gate.dimensions.{name}");
        if !is_identifier(name) {
            mistakes.push(Mistake::new(
                &*path,
                "cannot be written in a rule",
                "a name of small letters, digits and _, not starting with a digit",
            ));
        }
        if self.values.is_empty() {
            mistakes.push(Mistake::new(format!("{path}.values"), "is empty", "at least one value"));
        }
        let mut seen = BTreeSet::new();
        for (at, value) in self.values.iter().enumerate() {
            if value.is_empty() || !seen.insert(value) {
                mistakes.push(Mistake::new(
                    format!("{path}.values[{at}]"),
                    if value.is_empty() { "is empty".to_owned() } else { format!("{value:?} is there already") },
                    "values that differ",
                ));
            }
        }
    }
}

impl Mistake {
    pub(crate) fn new(path: impl Into<String>, problem: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into(), expected: expected.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; expected {}", self.path, self.problem, self.expected)
    }
}

/// `a, b, c`, or `none` for nothing.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let joined = names.collect::<Vec<_>>().join(", ");
    if joined.is_empty() { "none".to_owned() } else { joined }
}

/// Whether `name` is one that a dimension may have.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
