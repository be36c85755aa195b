//! The check of the options: every mistake at once, each with its place. Compiling the rules is `rules`' work.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::{Dimension, Options, Rule};
use crate::rules::RuleSet;

/// One thing that is wrong, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// As in `gate.rules[0].when`.
    pub path: String,
    pub problem: String,
    pub expected: String,
}

impl Options {
    /// Every mistake, given the experts of the mesh. Empty means that [`Gate::new`](crate::Gate::new) accepts them.
    pub fn check(&self, experts: &[&str]) -> Vec<Mistake> {
        let mut mistakes = self.check_alone();
        let known: BTreeSet<&str> = experts.iter().copied().collect();
        let expected = format!("one of the mesh's experts: {}", listed(known.iter().copied()));
        mistakes.extend(
            self.named()
                .into_iter()
                .filter(|(_, name)| !known.contains(name))
                .map(|(path, name)| Mistake::new(path, format!("no expert is called {name:?}"), &*expected)),
        );
        mistakes
    }

    /// Every expert that the options speak of, with the place.
    fn named(&self) -> Vec<(String, &str)> {
        let mut named: Vec<(String, &str)> = Vec::new();
        if let Some(fallback) = &self.fallback {
            named.push(("gate.fallback".to_owned(), fallback));
        }
        named.extend(self.bars.keys().map(|name| (format!("gate.bars.{name}"), name.as_str())));
        for (index, rule) in self.rules.iter().enumerate() {
            for (verb, experts) in rule.verbs() {
                named.extend(each(format!("gate.rules[{index}].{verb}"), experts));
            }
        }
        for (index, cascade) in self.cascade.iter().enumerate() {
            named.extend(each(format!("gate.cascade[{index}].experts"), &cascade.experts));
        }
        named
    }

    /// The mistakes that show without knowing the experts, who come and go.
    pub fn check_alone(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.top_k == 0 {
            mistakes.push(Mistake::new("gate.top_k", "0 would choose nobody", "a whole number from 1"));
        }
        for (name, value) in
            [("min_confidence", self.min_confidence), ("floor", self.floor), ("refuse_above", self.refuse_above)]
        {
            probability(format!("gate.{name}"), Some(value), &mut mistakes);
        }
        share("gate.max_error".to_owned(), self.max_error, &mut mistakes);
        share("gate.tiers.static_loss".to_owned(), Some(self.tiers.static_loss), &mut mistakes);
        for (name, bar) in &self.bars {
            probability(format!("gate.bars.{name}.min_confidence"), bar.min_confidence, &mut mistakes);
            share(format!("gate.bars.{name}.max_error"), bar.max_error, &mut mistakes);
        }
        for (name, dimension) in &self.dimensions {
            check_dimension(dimension, name, &mut mistakes);
        }
        self.check_rules(&mut mistakes);
        self.check_cascades(&mut mistakes);
        mistakes
    }

    fn check_rules(&self, mistakes: &mut Vec<Mistake>) {
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
    }

    fn check_cascades(&self, mistakes: &mut Vec<Mistake>) {
        let mut starts = BTreeSet::new();
        for (index, cascade) in self.cascade.iter().enumerate() {
            let path = format!("gate.cascade[{index}]");
            probability(format!("{path}.escalate_below"), Some(cascade.escalate_below), mistakes);
            let distinct: BTreeSet<&String> = cascade.experts.iter().collect();
            if cascade.experts.len() < 2 || distinct.len() < cascade.experts.len() {
                mistakes.push(Mistake::new(
                    format!("{path}.experts"),
                    "leads nowhere",
                    "at least two experts, the cheapest first and none twice",
                ));
            }
            if let Some(first) = cascade.experts.first()
                && !starts.insert(first)
            {
                mistakes.push(Mistake::new(
                    format!("{path}.experts[0]"),
                    format!("{first:?} begins an earlier cascade"),
                    "one cascade for each first expert",
                ));
            }
        }
    }
}

impl Rule {
    fn verbs(&self) -> [(&'static str, &[String]); 3] {
        [("require", &self.require), ("prefer", &self.prefer), ("forbid", &self.forbid)]
    }
}

fn each(path: String, names: &[String]) -> impl Iterator<Item = (String, &str)> {
    names.iter().enumerate().map(move |(at, name)| (format!("{path}[{at}]"), name.as_str()))
}

fn check_dimension(dimension: &Dimension, name: &str, mistakes: &mut Vec<Mistake>) {
    let path = format!("gate.dimensions.{name}");
    if !is_identifier(name) {
        mistakes.push(Mistake::new(
            &*path,
            "cannot be written in a rule",
            "a name of small letters, digits and _, not starting with a digit",
        ));
    }
    probability(format!("{path}.min_confidence"), Some(dimension.min_confidence), mistakes);
    if dimension.values.is_empty() {
        mistakes.push(Mistake::new(format!("{path}.values"), "is empty", "at least one value"));
    }
    for (at, _) in dimension.unknown.iter().enumerate().filter(|(_, text)| text.trim().is_empty()) {
        mistakes.push(Mistake::new(format!("{path}.unknown[{at}]"), "is empty", "a query without a value"));
    }
    let mut seen = BTreeSet::new();
    for (at, class) in dimension.values.iter().enumerate() {
        let value = &class.value;
        if value.is_empty() || !seen.insert(value) {
            mistakes.push(Mistake::new(
                format!("{path}.values[{at}]"),
                if value.is_empty() { "is empty".to_owned() } else { format!("{value:?} is there already") },
                "values that differ",
            ));
        }
        for (example, _) in class.examples.iter().enumerate().filter(|(_, text)| text.trim().is_empty()) {
            mistakes.push(Mistake::new(
                format!("{path}.values.{value}.examples[{example}]"),
                "is empty",
                "a query in this value's words",
            ));
        }
    }
}

fn probability(path: String, value: Option<f64>, mistakes: &mut Vec<Mistake>) {
    if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
        mistakes.push(Mistake::new(path, format!("{value} is no probability"), "a number from 0 to 1"));
    }
}

fn share(path: String, value: Option<f64>, mistakes: &mut Vec<Mistake>) {
    if let Some(value) = value.filter(|value| !(0.0..1.0).contains(value)) {
        mistakes.push(Mistake::new(
            path,
            format!("{value} is no such share"),
            "a number from 0 to below 1, such as 0.02",
        ));
    }
}

impl Mistake {
    /// For mistakes in what belongs to the gate's configuration and is read elsewhere: files, probes.
    pub fn new(path: impl Into<String>, problem: impl Into<String>, expected: impl Into<String>) -> Self {
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
