//! Probes: a file of expected routes, in tiers with a bar each, and whether a gate takes them.
//!
//! The first line states the bars, as the share of its tier's probes that must be right; every other line is a probe:
//!
//! ```text
//! {"bars": {"near": 0.9, "all": 0.95}}
//! {"tier": "near", "text": "…", "expert": "name" or null, "attributes": {…}, "labels": {…}, "dimensions": {…}, "note": "…"}
//! ```
//!
//! A probe is right when the first expert that is asked is its own, or nobody where it names nobody, and every
//! dimension that it names is read as it says. The bar `all` is for all probes together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::rows::{Wrong, kind, object};
use crate::decision::{Decision, Reason};
use crate::encoder::EncodeError;
use crate::error::Error;
use crate::gate::Gate;
use crate::options::{Mistake, Options, listed};
use crate::query::{Query, Wishes};
use crate::settings::Trial;

/// The bar that is for all probes together.
pub const ALL: &str = "all";

const FIELDS: [&str; 7] = ["tier", "text", "expert", "attributes", "labels", "dimensions", "note"];
const EXPECTED_BARS: &str = r#"{"bars": {"<tier>": 0.9, "all": 0.95}} on the first line, each from 0 to 1"#;
/// Lines named in one mistake of a trial.
const LINES_NAMED: usize = 10;
/// For one decision.
const DEADLINE: Duration = Duration::from_mins(1);

/// The probes of a file, free of mistakes that show without the mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Probes {
    /// By tier; every tier of a probe has one, and there may be one for [`ALL`].
    pub bars: BTreeMap<String, f64>,
    pub probes: Vec<Probe>,
}

/// A query and the reaction that is expected.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// Its line in the file, from 1.
    pub line: usize,
    pub tier: String,
    pub text: String,
    /// `None`: nobody should be asked.
    pub expert: Option<String>,
    /// Given with the query.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// Given with the query.
    pub labels: BTreeMap<String, String>,
    /// The values that should be in effect.
    pub dimensions: BTreeMap<String, String>,
    /// For whoever reads that it failed.
    pub note: Option<String>,
}

/// How a gate did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probed {
    /// In the order of the file; [`ALL`] last, where it has a bar and all were asked.
    pub tiers: Vec<Tally>,
    pub failures: Vec<Failure>,
}

/// One tier, counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tally {
    pub tier: String,
    pub right: usize,
    pub total: usize,
    /// The share that must be right, 0..=1; `None`: looked at and not judged.
    pub bar: Option<f64>,
}

/// A probe that went wrong.
#[derive(Clone, PartialEq, Serialize)]
pub struct Failure {
    pub line: usize,
    pub tier: String,
    pub text: String,
    pub expected: Option<String>,
    /// Who was asked, best first.
    pub chosen: Vec<String>,
    /// As [`Outcome::as_str`](crate::Outcome::as_str).
    pub outcome: &'static str,
    /// As [`Reason::as_str`](crate::Reason::as_str).
    pub reason: &'static str,
    /// What answered, as [`Tier::as_str`](crate::Tier::as_str).
    pub gate_tier: &'static str,
    /// The expected expert's probability, 0..=1; `None` for nobody, and for whom the gate does not know.
    pub probability: Option<f64>,
    /// Dimensions that were read otherwise, and what speaks for whoever was chosen, or came closest.
    pub why: Vec<String>,
    pub note: Option<String>,
}

impl Probes {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Every line that is wrong, with its number and field in the mistake's path.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        let mut lines =
            text.lines().enumerate().map(|(at, text)| (at + 1, text)).filter(|(_, text)| !text.trim().is_empty());
        let mut mistakes = Vec::new();
        let bars = match lines.next() {
            Some((line, first)) => bars(line, first, &mut mistakes),
            None => return Err(vec![Mistake::new("", "there is nothing in it", EXPECTED_BARS)]),
        };
        let mut probes = Vec::new();
        for (line, text) in lines {
            match object(line, text) {
                Ok(object) => probes.extend(probe(line, &object, &mut mistakes)),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if mistakes.is_empty() {
            compare(&bars, &probes, &mut mistakes);
        }
        if mistakes.is_empty() { Ok(Self { bars, probes }) } else { Err(mistakes) }
    }

    /// What is wrong in view of the mesh: experts that nobody is, dimensions and values that are not declared.
    pub fn check(&self, experts: &[&str], options: &Options) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let dimensions = listed(options.dimensions.keys().map(String::as_str));
        for probe in &self.probes {
            if let Some(expert) = probe.expert.as_deref().filter(|name| !experts.contains(name)) {
                let expected = format!("one of {}", listed(experts.iter().copied()));
                mistakes.push(probe.mistake("expert", format!("no expert is called {expert:?}"), expected));
            }
            let given = probe.attributes.iter().flat_map(|(name, values)| values.iter().map(move |it| (name, it)));
            let given = given.map(|(name, value)| ("attributes", name, value));
            let read = probe.dimensions.iter().map(|(name, value)| ("dimensions", name, value));
            for (field, name, value) in given.chain(read) {
                match options.dimensions.get(name) {
                    None => {
                        let expected = format!("one of {dimensions}");
                        mistakes.push(probe.mistake(field, format!("{name:?} is no declared dimension"), expected));
                    }
                    Some(dimension) if !dimension.declares(value) => {
                        let expected = format!("one of {}", listed(dimension.names()));
                        let at = format!("{field}.{name}");
                        mistakes.push(probe.mistake(&at, format!("{value:?} is no declared value"), expected));
                    }
                    Some(_) => {}
                }
            }
        }
        mistakes
    }

    /// The tiers in the order of the file.
    pub fn tiers(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        self.probes.iter().map(|probe| probe.tier.as_str()).filter(|tier| seen.insert(*tier)).collect()
    }

    /// Keeps the probes of these tiers; what is judged over all of them is not judged any more.
    pub fn keep(&mut self, tiers: &[String]) {
        self.probes.retain(|probe| tiers.contains(&probe.tier));
        self.bars.retain(|tier, _| tiers.contains(tier));
    }

    /// Asks the gate every probe. `told` hears after each how many there were.
    pub async fn ask(&self, gate: &Gate, mut told: impl FnMut(usize)) -> Probed {
        let mut failures = Vec::new();
        for (at, probe) in self.probes.iter().enumerate() {
            let decision = gate.decide(&probe.query(), &Wishes::default(), Instant::now() + DEADLINE).await;
            failures.extend(probe.failure(&decision));
            told(at + 1);
        }
        let tally = |tier: &str, of: &dyn Fn(&str) -> bool| {
            let total = self.probes.iter().filter(|probe| of(&probe.tier)).count();
            let wrong = failures.iter().filter(|failure| of(&failure.tier)).count();
            Tally { tier: tier.to_owned(), right: total - wrong, total, bar: self.bars.get(tier).copied() }
        };
        let mut tiers: Vec<Tally> = self.tiers().into_iter().map(|tier| tally(tier, &|it| it == tier)).collect();
        if self.bars.contains_key(ALL) {
            tiers.push(tally(ALL, &|_| true));
        }
        Probed { tiers, failures }
    }
}

/// A new configuration of a gate has to take every tier's bar. Probes of experts that the gate does not know are passed
/// over: settings may come to a mesh before the expert that they are written for.
#[async_trait]
impl Trial for Probes {
    async fn pass(&self, gate: &Gate) -> Result<(), Error> {
        let mut asked = self.clone();
        asked.probes.retain(|probe| probe.expert.as_deref().is_none_or(|expert| gate.knows(expert)));
        let Probed { tiers, failures } = asked.ask(gate, |_| {}).await;
        // That these were not read says nothing of the settings.
        let unread = |reason: Reason| failures.iter().any(|failure| failure.reason == reason.as_str());
        if unread(Reason::EncoderUnavailable) {
            return Err(Error::Encode(EncodeError::Failed("a probe could not be encoded".into())));
        }
        if unread(Reason::DeadlineExceeded) {
            return Err(Error::Encode(EncodeError::DeadlineExceeded));
        }
        let below: Vec<Mistake> =
            tiers.iter().filter(|tally| !tally.passes()).map(|it| it.mistake(&failures)).collect();
        if below.is_empty() { Ok(()) } else { Err(Error::Trial(below)) }
    }
}

impl Probed {
    /// Whether every tier that is judged clears its bar.
    pub fn passes(&self) -> bool {
        self.tiers.iter().all(Tally::passes)
    }
}

impl Tally {
    /// Whether it clears its bar, where it has one.
    pub fn passes(&self) -> bool {
        // 0.9 of ten is nine, whatever the product's last bit says.
        self.bar.is_none_or(|bar| self.right as f64 >= bar * self.total as f64 - 1e-9)
    }

    fn mistake(&self, failures: &[Failure]) -> Mistake {
        let lines: Vec<String> = failures
            .iter()
            .filter(|failure| self.tier == ALL || failure.tier == self.tier)
            .map(|failure| failure.line.to_string())
            .collect();
        let named = lines.iter().take(LINES_NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if lines.len() > LINES_NAMED { ", …" } else { "" };
        let problem = format!("{} of {} right, wrong in line {named}{more}", self.right, self.total);
        Mistake::new(format!("gate.probes.{}", self.tier), problem, format!("a share of {}", self.bar.unwrap_or(1.0)))
    }
}

impl Probe {
    fn query(&self) -> Query {
        Query {
            text: self.text.clone(),
            attributes: self.attributes.clone(),
            labels: self.labels.clone(),
            ..Query::default()
        }
    }

    /// What is wrong with the decision, if anything is.
    fn failure(&self, decision: &Decision) -> Option<Failure> {
        let chosen: Vec<String> = decision.selected().map(|candidate| candidate.expert.to_string()).collect();
        let misread: Vec<String> =
            self.dimensions.iter().filter_map(|(name, value)| misread(name, value, decision)).collect();
        if chosen.first() == self.expert.as_ref() && misread.is_empty() {
            return None;
        }
        let own = decision.candidates.iter().find(|it| Some(&*it.expert) == self.expert.as_deref());
        let shown = decision.candidates.first().into_iter().flat_map(|it| {
            let name = format!("{} {:.2}", it.expert, it.probability);
            std::iter::once(name).chain(it.why().map(str::to_owned))
        });
        Some(Failure {
            line: self.line,
            tier: self.tier.clone(),
            text: self.text.clone(),
            expected: self.expert.clone(),
            chosen,
            outcome: decision.outcome.as_str(),
            reason: decision.reason.as_str(),
            gate_tier: decision.tier.as_str(),
            probability: own.map(|it| it.probability),
            why: misread.into_iter().chain(shown).collect(),
            note: self.note.clone(),
        })
    }

    fn mistake(&self, field: &str, problem: impl Into<String>, expected: impl Into<String>) -> Mistake {
        Mistake::new(format!("line {}, {field}", self.line), problem, expected)
    }
}

fn misread(name: &str, value: &str, decision: &Decision) -> Option<String> {
    let reading = decision.dimensions.iter().find(|reading| *reading.name == *name);
    if reading.is_some_and(|reading| reading.in_effect().iter().any(|it| *it.value == *value)) {
        return None;
    }
    let said = reading.and_then(|reading| Some((reading.source.as_str(), reading.values.first()?)));
    let said =
        said.map_or("not read".to_owned(), |(source, it)| format!("{source}, {} {:.2}", it.value, it.probability));
    Some(format!("{name} should be {value} and is {said}"))
}

fn bars(line: usize, text: &str, mistakes: &mut Vec<Mistake>) -> BTreeMap<String, f64> {
    let mut wrong = |field: &str, problem: String| {
        mistakes.push(Mistake::new(format!("line {line}{field}"), problem, EXPECTED_BARS));
    };
    let object = match object(line, text) {
        Ok(object) => object,
        Err(mistake) => {
            wrong("", mistake.problem);
            return BTreeMap::new();
        }
    };
    let stated = match object.get("bars") {
        Some(Value::Object(stated)) => stated,
        Some(other) => {
            wrong(", bars", format!("is {}", kind(other)));
            return BTreeMap::new();
        }
        None => {
            wrong(", bars", "is missing".to_owned());
            return BTreeMap::new();
        }
    };
    for key in object.keys().filter(|key| *key != "bars") {
        wrong(&format!(", {key}"), "does not belong here".to_owned());
    }
    let mut bars = BTreeMap::new();
    for (tier, bar) in stated {
        match bar.as_f64().filter(|bar| (0.0..=1.0).contains(bar)) {
            Some(bar) => {
                bars.insert(tier.clone(), bar);
            }
            None => wrong(&format!(", bars.{tier}"), "is no share".to_owned()),
        }
    }
    bars
}

fn probe(line: usize, object: &Map<String, Value>, mistakes: &mut Vec<Mistake>) -> Option<Probe> {
    let mut wrong = Wrong { line, mistakes: Vec::new() };
    for key in object.keys().filter(|key| !FIELDS.contains(&key.as_str())) {
        wrong.add(key, "is no field of a probe", &listed(FIELDS.into_iter()));
    }
    let mut word = |field: &str, needed: bool| match object.get(field) {
        Some(Value::String(text)) if !text.trim().is_empty() => Some(text.clone()),
        None | Some(Value::Null) if !needed => None,
        None => {
            wrong.add(field, "is missing", "a few words");
            None
        }
        Some(other) => {
            wrong.add(field, format!("is {}", kind(other)), "a few words");
            None
        }
    };
    let (tier, note) = (word("tier", true), word("note", false));
    let probe = Probe {
        line,
        tier: tier.unwrap_or_default(),
        text: wrong.text(object),
        expert: wrong.expert(object),
        attributes: wrong.lists(object, "attributes"),
        labels: wrong.strings(object, "labels"),
        dimensions: wrong.strings(object, "dimensions"),
        note,
    };
    let right = wrong.mistakes.is_empty();
    mistakes.extend(wrong.mistakes);
    right.then_some(probe)
}

/// A tier without a bar could not fail, and a bar without a probe could not be missed: both are slips.
fn compare(bars: &BTreeMap<String, f64>, probes: &[Probe], mistakes: &mut Vec<Mistake>) {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for probe in probes {
        first.entry(&probe.tier).or_insert(probe.line);
    }
    for (tier, line) in first.iter().filter(|(tier, _)| **tier == ALL || !bars.contains_key(**tier)) {
        let problem = if *tier == ALL { "is no tier's name".to_owned() } else { format!("{tier:?} has no bar") };
        mistakes.push(Mistake::new(format!("line {line}, tier"), problem, EXPECTED_BARS));
    }
    for tier in bars.keys().filter(|tier| *tier != ALL && !first.contains_key(tier.as_str())) {
        mistakes.push(Mistake::new(format!("line 1, bars.{tier}"), "has no probes", "a tier of the probes below"));
    }
    if probes.is_empty() {
        mistakes.push(Mistake::new("", "there is no probe in it", "a probe on each line after the first"));
    }
}

/// Texts are shown where they were asked for, and nowhere else.
impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, tier, expert, .. } = self;
        f.debug_struct("Probe").field("line", line).field("tier", tier).field("expert", expert).finish_non_exhaustive()
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, tier, expected, chosen, .. } = self;
        let mut failure = f.debug_struct("Failure");
        failure.field("line", line).field("tier", tier).field("expected", expected).field("chosen", chosen);
        failure.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Dimension;

    const BARS: &str = r#"{"bars": {"near": 0.9, "far": 1, "all": 0.95}}"#;
    const NEAR: &str =
        r#"{"tier": "near", "text": "a?", "expert": "one", "dimensions": {"who": "me"}, "note": "hard"}"#;
    const FAR: &str =
        r#"{"tier": "far", "text": "b?", "expert": null, "attributes": {"who": ["me"]}, "labels": {"x": "y"}}"#;

    fn wrong(lines: &[&str]) -> Vec<String> {
        Probes::parse(&lines.join("\n")).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_states_its_bars_and_its_probes() {
        let probes = Probes::parse(&[BARS, "", NEAR, FAR].join("\n")).unwrap();
        assert_eq!((probes.bars["near"], probes.bars["far"], probes.tiers()), (0.9, 1.0, vec!["near", "far"]));
        let [near, far] = &probes.probes[..] else { panic!("{probes:?}") };
        assert_eq!((near.line, near.expert.as_deref(), near.note.as_deref()), (3, Some("one"), Some("hard")));
        assert_eq!((far.expert.as_deref(), far.attributes["who"].len(), far.labels["x"].as_str()), (None, 1, "y"));
        assert!(!format!("{probes:?}").contains("a?"), "texts are not for logs");
    }

    #[test]
    fn a_file_without_bars_is_refused() {
        assert!(wrong(&[""])[0].contains("nothing in it"));
        assert!(wrong(&[NEAR])[0].starts_with("line 1, bars: is missing; expected {\"bars\""), "{:?}", wrong(&[NEAR]));
        assert!(wrong(&[r#"{"bars": {"near": 1}, "tier": 1}"#, NEAR])[0].starts_with("line 1, tier: does not belong"));
        assert!(wrong(&[r#"{"bars": {"near": 2}}"#, NEAR])[0].starts_with("line 1, bars.near: is no share"));
        assert!(wrong(&[BARS])[..].iter().any(|it| it.contains("no probe in it")), "{:?}", wrong(&[BARS]));
    }

    #[test]
    fn wrong_probes_are_named_with_line_and_field() {
        let said = wrong(&[
            BARS,
            r#"{"tier": "near", "text": "a?"}"#,
            r#"{"text": "a?", "expert": "one", "experts": []}"#,
            r#"{"tier": "near", "text": 3, "expert": "one", "attributes": {"who": []}}"#,
            "no json",
        ]);
        let places: Vec<&str> = said.iter().map(|it| it.split(": ").next().unwrap()).collect();
        let expected =
            ["line 2, expert", "line 3, experts", "line 3, tier", "line 4, text", "line 4, attributes.who", "line 5"];
        assert_eq!(places, expected);
    }

    #[test]
    fn tiers_and_bars_have_to_match() {
        let said = wrong(&[r#"{"bars": {"near": 0.9, "typo": 0.5}}"#, NEAR, FAR]);
        assert!(said.iter().any(|it| it.starts_with("line 3, tier: \"far\" has no bar")), "{said:?}");
        assert!(said.iter().any(|it| it.starts_with("line 1, bars.typo: has no probes")), "{said:?}");
    }

    #[test]
    fn what_the_mesh_does_not_know_is_a_mistake() {
        let probes = Probes::parse(&[BARS, NEAR, FAR].join("\n")).unwrap();
        let mut options = Options::default();
        let said = |options: &Options| -> Vec<String> {
            probes.check(&["two"], options).iter().map(|mistake| mistake.path.clone()).collect()
        };
        assert_eq!(said(&options), ["line 2, expert", "line 2, dimensions", "line 3, attributes"]);
        options.dimensions.insert("who".to_owned(), Dimension::given(["you"]));
        assert_eq!(said(&options), ["line 2, expert", "line 2, dimensions.who", "line 3, attributes.who"]);
        options.dimensions.insert("who".to_owned(), Dimension::given(["me"]));
        assert!(probes.check(&["one"], &options).is_empty());
    }

    #[test]
    fn a_bar_is_cleared_by_reaching_it() {
        let tally = |right, bar| Tally { tier: "near".into(), right, total: 10, bar };
        assert!(tally(9, Some(0.9)).passes() && tally(0, None).passes());
        assert!(!tally(8, Some(0.9)).passes());
    }

    #[test]
    fn of_some_tiers_the_whole_is_not_judged() {
        let mut probes = Probes::parse(&[BARS, NEAR, FAR].join("\n")).unwrap();
        probes.keep(&["far".to_owned()]);
        assert_eq!((probes.tiers(), probes.bars.len()), (vec!["far"], 1));
    }
}
