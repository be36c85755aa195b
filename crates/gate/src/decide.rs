//! The decision: what follows from rules, dimensions, lists and readings. Pure; no encoder, no clock.
//!
//! In this order, and the first that applies decides:
//!
//! 1. No experts known: unavailable.
//! 2. `forbid` rules, the caller's list and the given dimensions put experts out. Nobody left: refused.
//! 3. `require` rules: those of the required experts that are not out are asked, however many. All of them out or
//!    unknown: the fallback expert, else refused. Up to here nothing has been read in the query.
//! 4. The same once more with what was read: inferred dimensions put experts out, and the rules that read them apply.
//! 5. Parts of the query (`multi_intent`) that clear the bar for different experts: all of these, at most `top_k`.
//! 6. P(nobody) above `refuse_above`: refused. A fallback expert is for hard questions, not for everything.
//! 7. The best expert that clears its bar, and after it those that reach the floor, at most `top_k`.
//! 8. Otherwise the fallback expert, else refused.
//!
//! An expert that is out keeps its probability. The others do not become better because it may not answer: a query
//! for the expert on medicines does not become one for the laboratory because medicines are forbidden here.
//!
//! Bars are on P(c), the chance that the expert is the right one with the chance that nobody is taken off, so that a bar
//! says how often an accepted answer is right. However low the bar: an expert that is less likely than nobody does not
//! clear it, unless `refuse_above` is 1 or the bar is the caller's own. Experts whose examples cannot be told apart ("kin") split their
//! probability without either being in doubt, so each clears the bar with the sum of both, provided that it is not far
//! behind the other.

mod trust;

use std::sync::Arc;

pub(crate) use self::trust::PartTrust;
use crate::bars::in_scope;
use crate::classifier::Reading;
use crate::decision::{Candidate, DimensionReading, Outcome, Reason};
use crate::dimensions;
use crate::knowledge::{Expert, Knowledge};
use crate::query::{Query, Wishes};
use crate::reading::Read;
use crate::rules::{Known, Verdict};

/// Of the better kin's probability: what an expert needs for the two to count as one. Below, the head has a preference.
const NEAR_TIE: f64 = 0.5;
/// A matching `prefer` rule triples the odds: decisive between near-ties, powerless against clear evidence.
const PREFER_ODDS: f64 = 3.0;
/// Besides the selected, so many of the most probable experts come with reasons.
const EXPLAINED: usize = 5;
/// Longest quotation of an example in a reason, in characters.
const QUOTED: usize = 100;

/// One query on its way through the steps.
pub(crate) struct Walk<'a> {
    knowledge: &'a Knowledge,
    query: &'a Query,
    verdict: Verdict<'a>,
    top_k: usize,
    /// The caller's own bar.
    bar: Option<f64>,
    /// Why each expert is out, if it is; in the order of the experts.
    out: Vec<Option<Arc<str>>>,
    /// Those that were given, and once the query is read the inferred and unknown as well; in the order of the axes.
    dimensions: Vec<DimensionReading>,
}

/// The part of a decision that is decided here.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) outcome: Outcome,
    pub(crate) reason: Reason,
    pub(crate) candidates: Vec<Candidate>,
    /// The bar of the most probable expert, where one was applied.
    pub(crate) bar: Option<f64>,
    /// Whether the probabilities are those of the reading: no rule moved them, and none took their place.
    pub(crate) as_read: bool,
}

/// What is known of the experts when the choice is made.
struct Standings<'r> {
    /// P(c), by expert.
    probability: Vec<f64>,
    /// Experts by falling probability; equal ones in their order, which is that of the names.
    order: Vec<usize>,
    nobody: f64,
    /// `None` when the query was not read, or a rule decided in its place.
    reading: Option<&'r Reading>,
    moved: bool,
    /// What is to be said of single experts before everything else.
    notes: Vec<(usize, String)>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(knowledge: &'a Knowledge, query: &'a Query, wishes: &Wishes) -> Self {
        let dimensions: Vec<_> = knowledge.axes.iter().filter_map(|axis| axis.given(query)).collect();
        let known = known(knowledge, &dimensions, false);
        let mut walk = Self {
            verdict: knowledge.rules.start(query, &known),
            top_k: wishes.top_k.unwrap_or(knowledge.options.top_k).max(1),
            bar: wishes.min_confidence.filter(|bar| (0.0..=1.0).contains(bar)),
            out: vec![None; knowledge.experts.len()],
            knowledge,
            query,
            dimensions,
        };
        walk.exclude_forbidden();
        walk.exclude_unwished(wishes);
        walk.exclude_unserved();
        walk
    }

    /// Steps 1 to 3; `None` when the query has to be read.
    pub(crate) fn without_reading(&self) -> Option<Choice> {
        if self.knowledge.experts.is_empty() {
            let (outcome, reason) = (Outcome::Unavailable, Reason::NoExperts);
            return Some(Choice { outcome, reason, candidates: Vec::new(), bar: None, as_read: false });
        }
        if self.nobody_left() {
            return Some(self.choose(Outcome::Refused, Reason::Excluded, &[], &self.unread_standings()));
        }
        self.verdict.requires_for_certain().then(|| self.required())
    }

    /// Takes in what was read of the dimensions, and what the rules that waited for it say.
    pub(crate) fn take_in(&mut self, read: &Read) {
        let axes = self.knowledge.axes.iter().zip(&read.axes);
        let given = |name: &str| self.dimensions.iter().find(|reading| *reading.name == *name);
        self.dimensions = axes
            .filter_map(|(axis, reading)| match given(&axis.name) {
                Some(given) => Some(given.clone()),
                None => reading.as_ref().map(|reading| axis.inferred(reading)),
            })
            .collect();
        self.finish_rules(true);
        self.exclude_unserved();
    }

    /// Steps 4 to 8, after [`take_in`](Self::take_in). `parts` are the readings of the parts of the query, in their order.
    pub(crate) fn with_reading(&self, read: &Read, parts: &[Arc<Read>]) -> Choice {
        let standings = self.read_standings(&read.experts);
        if self.nobody_left() {
            return self.choose(Outcome::Refused, Reason::Excluded, &[], &standings);
        }
        if self.verdict.required().next().is_some() {
            return self.required();
        }
        let picks = self.picks(parts);
        if picks.len() > 1 {
            return self.choose_parts(&picks, parts.len(), standings);
        }
        if standings.nobody > self.knowledge.options.refuse_above {
            return self.choose(Outcome::Refused, Reason::OutOfScope, &[], &standings);
        }
        let cleared: Vec<usize> = standings.order.iter().copied().filter(|&at| self.clears(&standings, at)).collect();
        if let Some(&first) = cleared.iter().find(|&&at| self.out[at].is_none()) {
            let followers =
                standings.order.iter().copied().filter(|&at| {
                    at != first && self.out[at].is_none() && standings.probability[at] >= self.floor_of(at)
                });
            let selected: Vec<usize> = [first].into_iter().chain(followers).take(self.top_k).collect();
            return self.choose(Outcome::Dispatched, Reason::Confident, &selected, &standings);
        }
        let best = cleared.first().or(standings.order.first()).copied().unwrap_or_default();
        let (reason, verdict) = if cleared.is_empty() {
            (Reason::LowConfidence, format!("below {:.2}", self.bar_of(best)))
        } else {
            (Reason::Excluded, "but out".to_owned())
        };
        let name = &self.knowledge.experts[best].name;
        let note = format!("fallback: best was {name} with {:.2}, {verdict}", standings.probability[best]);
        self.fall_back(Outcome::Refused, reason, note, standings)
    }

    /// The choice when the query could not be read: the fallback expert, else unavailable. Guards that waited for the
    /// reading fail closed.
    pub(crate) fn unread(&mut self, reason: Reason) -> Choice {
        self.finish_rules(false);
        if self.nobody_left() {
            return self.choose(Outcome::Refused, Reason::Excluded, &[], &self.unread_standings());
        }
        if self.verdict.required().next().is_some() {
            return self.required();
        }
        let note = match reason {
            Reason::DeadlineExceeded => "fallback: the deadline passed before the query was encoded",
            _ => "fallback: the encoder is unavailable",
        };
        self.fall_back(Outcome::Unavailable, reason, note.to_owned(), self.unread_standings())
    }

    /// Whether parts of the query are worth reading: only where several experts may be chosen.
    pub(crate) fn reads_parts(&self) -> bool {
        self.knowledge.options.multi_intent && self.top_k > 1
    }

    pub(crate) fn rules_matched(&self) -> Vec<String> {
        self.verdict.names()
    }

    pub(crate) fn into_dimensions(self) -> Vec<DimensionReading> {
        self.dimensions
    }

    fn finish_rules(&mut self, read: bool) {
        let known = known(self.knowledge, &self.dimensions, read);
        self.verdict.finish(self.query, &known);
        self.exclude_forbidden();
    }

    fn exclude_forbidden(&mut self) {
        for (expert, note) in self.verdict.forbidden() {
            if let Some(at) = self.knowledge.expert(expert) {
                self.out[at].get_or_insert_with(|| Arc::clone(note));
            }
        }
    }

    fn exclude_unwished(&mut self, wishes: &Wishes) {
        if wishes.experts.is_empty() {
            return;
        }
        let mut wished = vec![false; self.out.len()];
        for at in wishes.experts.iter().filter_map(|expert| self.knowledge.expert(expert)) {
            wished[at] = true;
        }
        let note: Arc<str> = "not among the experts the caller allows".into();
        for (out, _) in self.out.iter_mut().zip(wished).filter(|(_, wished)| !wished) {
            out.get_or_insert_with(|| Arc::clone(&note));
        }
    }

    fn exclude_unserved(&mut self) {
        for reading in &self.dimensions {
            let axis = self.knowledge.axes.iter().find(|axis| axis.name == reading.name);
            if let Some((note, experts)) = axis.and_then(|axis| axis.unserved(reading)) {
                for at in experts {
                    self.out[at].get_or_insert_with(|| Arc::clone(&note));
                }
            }
        }
    }

    fn nobody_left(&self) -> bool {
        self.out.iter().all(Option::is_some)
    }

    fn required(&self) -> Choice {
        let mut standings = self.unread_standings();
        let mut required: Vec<usize> = Vec::new();
        for (expert, note) in self.verdict.required() {
            if let Some(at) = self.knowledge.expert(expert).filter(|at| !required.contains(at)) {
                required.push(at);
                standings.notes.push((at, note.to_string()));
            }
        }
        let free: Vec<usize> = required.iter().copied().filter(|&at| self.out[at].is_none()).collect();
        if free.is_empty() {
            let reason = if required.is_empty() { Reason::RequiredUnknown } else { Reason::Excluded };
            let names: Vec<&str> = self.verdict.required().map(|(expert, _)| expert).collect();
            let what = if required.is_empty() { "unknown here" } else { "out" };
            let note = format!("fallback: {}, required by a rule, {what}", names.join(", "));
            return self.fall_back(Outcome::Refused, reason, note, standings);
        }
        for &at in &free {
            standings.probability[at] = 1.0 / free.len() as f64;
        }
        self.choose(Outcome::Dispatched, Reason::Required, &free, &standings)
    }

    /// For each part that clears a bar its best expert with the part's number and the probability, best first and none
    /// twice; of experts that may answer.
    fn picks(&self, parts: &[Arc<Read>]) -> Vec<(usize, usize, f64)> {
        let mut picks: Vec<(usize, usize, f64)> = Vec::new();
        for (part, read) in parts.iter().enumerate() {
            let standings = self.read_standings(&read.experts);
            let Some(&best) = standings.order.first() else { continue };
            let is_somebodys = standings.nobody <= self.knowledge.options.refuse_above;
            if is_somebodys && self.clears(&standings, best) && self.out[best].is_none() {
                picks.push((best, part + 1, standings.probability[best]));
            }
        }
        picks.sort_by(|a, b| b.2.total_cmp(&a.2));
        let mut seen = Vec::new();
        picks.retain(|(expert, ..)| {
            let is_new = !seen.contains(expert);
            seen.push(*expert);
            is_new
        });
        picks
    }

    fn choose_parts(&self, picks: &[(usize, usize, f64)], parts: usize, mut standings: Standings<'_>) -> Choice {
        let picks = &picks[..picks.len().min(self.top_k)];
        for (expert, part, probability) in picks {
            standings.notes.push((*expert, format!("part {part} of {parts}: {probability:.2}")));
        }
        let selected: Vec<usize> = picks.iter().map(|(expert, ..)| *expert).collect();
        self.choose(Outcome::Dispatched, Reason::Confident, &selected, &standings)
    }

    /// Whether the expert, together with its near-tied kin, clears the bar and is likelier than nobody.
    fn clears(&self, standings: &Standings<'_>, at: usize) -> bool {
        let own = standings.probability[at];
        let kin = self.knowledge.experts[at].kin.iter().map(|&other| standings.probability[other]);
        let best = kin.clone().fold(own, f64::max);
        if own < NEAR_TIE * best {
            return false;
        }
        let together = own + kin.filter(|&other| other >= NEAR_TIE * best).sum::<f64>();
        // Whoever names a bar has said what a likely nobody is to count for.
        let is_enough = |bar| together >= bar;
        self.bar.map_or_else(
            || {
                is_enough(self.knowledge.experts[at].bar)
                    && in_scope(together, standings.nobody, self.knowledge.options.refuse_above)
            },
            is_enough,
        )
    }

    fn bar_of(&self, at: usize) -> f64 {
        self.bar.unwrap_or(self.knowledge.experts[at].bar)
    }

    /// A caller who is content with less in the first place is so in the second.
    fn floor_of(&self, at: usize) -> f64 {
        let floor = self.knowledge.experts[at].floor;
        self.bar.map_or(floor, |bar| floor.min(bar))
    }

    /// The fallback expert if there is one and it is not out, else the given outcome without any expert.
    fn fall_back(&self, otherwise: Outcome, reason: Reason, note: String, mut standings: Standings<'_>) -> Choice {
        let fallback = self.knowledge.options.fallback.as_deref();
        match fallback.and_then(|name| self.knowledge.expert(name)).filter(|&at| self.out[at].is_none()) {
            Some(at) => {
                standings.notes.insert(0, (at, note));
                self.choose(Outcome::Fallback, reason, &[at], &standings)
            }
            None => self.choose(otherwise, reason, &[], &standings),
        }
    }

    fn choose(&self, outcome: Outcome, reason: Reason, selected: &[usize], standings: &Standings<'_>) -> Choice {
        let mut is_selected = vec![false; self.out.len()];
        for &at in selected {
            is_selected[at] = true;
        }
        let explained = &standings.order[..standings.order.len().min(EXPLAINED)];
        let candidate = |at: usize| {
            let Expert { name, version, .. } = &self.knowledge.experts[at];
            let selected = is_selected[at];
            let mut reasons: Vec<String> = Vec::new();
            reasons.extend(standings.notes.iter().filter(|(of, _)| *of == at).map(|(_, note)| note.clone()));
            if selected || explained.contains(&at) {
                self.explain(at, standings, &mut reasons);
            }
            Candidate {
                expert: Arc::clone(name),
                version: Arc::clone(version),
                probability: standings.probability[at],
                selected,
                excluded: self.out[at].clone(),
                reasons,
            }
        };
        // Of the selected the most probable first as well, whatever chose them.
        let chosen = standings.order.iter().copied().filter(|&at| is_selected[at]);
        let rest = standings.order.iter().copied().filter(|&at| !is_selected[at]);
        let candidates = chosen.chain(rest).map(candidate).collect();
        let bar = standings.reading.and_then(|_| standings.order.first()).map(|&best| self.bar_of(best));
        let as_read = standings.reading.is_some() && !standings.moved;
        Choice { outcome, reason, candidates, bar, as_read }
    }

    fn explain(&self, at: usize, standings: &Standings<'_>, reasons: &mut Vec<String>) {
        let Some(reading) = standings.reading else { return };
        let expert = &self.knowledge.experts[at];
        let preferring = self.verdict.preferred().find(|(preferred, _)| *preferred == &*expert.name);
        reasons.extend(preferring.map(|(_, note)| note.to_string()));
        if let Some((example, similarity)) = reading.closest.get(at).copied().flatten()
            && let Some(text) = expert.examples.get(example)
        {
            reasons.push(format!("close to \"{}\" ({similarity:.2})", shortened(text)));
        }
    }

    fn unread_standings(&self) -> Standings<'static> {
        let experts = self.out.len();
        Standings {
            probability: vec![0.0; experts],
            order: (0..experts).collect(),
            nobody: 0.0,
            reading: None,
            moved: false,
            notes: Vec::new(),
        }
    }

    fn read_standings<'r>(&self, reading: &'r Reading) -> Standings<'r> {
        let (known, moved) = self.with_preference(&reading.known);
        let probability: Vec<f64> = known.into_iter().map(|known| (1.0 - reading.nobody) * known).collect();
        let order = by_falling(&probability);
        Standings { probability, order, nobody: reading.nobody, reading: Some(reading), moved, notes: Vec::new() }
    }

    /// P(c | some expert) with the odds that `prefer` rules raise, and whether they raised any.
    fn with_preference(&self, known: &[f64]) -> (Vec<f64>, bool) {
        let mut known = known.to_vec();
        let preferred: Vec<usize> =
            self.verdict.preferred().filter_map(|(expert, _)| self.knowledge.expert(expert)).collect();
        for &at in &preferred {
            known[at] *= PREFER_ODDS;
        }
        if !preferred.is_empty() {
            let sum: f64 = known.iter().sum();
            for known in &mut known {
                *known /= sum.max(f64::MIN_POSITIVE);
            }
        }
        (known, !preferred.is_empty())
    }
}

/// What rules may read of the dimensions; nothing is collected where none reads any.
fn known(knowledge: &Knowledge, dimensions: &[DimensionReading], read: bool) -> Known {
    if knowledge.rules.reads_dimensions() { dimensions::known(&knowledge.axes, dimensions, read) } else { Known::new() }
}

/// The largest value and where it stands; the first of equals.
fn best(values: &[f64]) -> Option<(usize, f64)> {
    values.iter().copied().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// Indices by falling value; equal values keep their order.
fn by_falling(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
