//! The decision: what follows from rules, dimensions, lists and readings. Pure; no encoder, no clock.
//!
//! In this order, and the first that applies decides:
//!
//! 1. No experts known: unavailable.
//! 2. `forbid` rules, the caller's list and the given dimensions put experts out. Nobody left: refused.
//! 3. `require` rules: those of the required experts that are not out are asked, however many. All of them out or
//!    unknown: the fallback expert, else refused.
//! 4. P(nobody) above `refuse_above`: refused. A fallback expert is for hard questions, not for everything.
//! 5. The experts that clear the bar, best first, at most `top_k`.
//! 6. Otherwise the fallback expert, else refused.
//!
//! An expert that is out keeps its probability. The others do not become better because it may not answer: a query
//! for the expert on medicines does not become one for the laboratory because medicines are forbidden here.
//!
//! The bar of step 5 is on P(c | known), so doubt about the scope, judged in step 4, is not counted twice. Experts
//! whose examples cannot be told apart ("kin") split their probability without either being in doubt, so each clears
//! the bar with the sum of both, provided that it is not far behind the other.

use crate::blend::{Blend, blend};
use crate::decision::{Candidate, Outcome, Reason};
use crate::fit::{Fitted, Reading};
use crate::options::Options;
use crate::query::{Profile, Query, Wishes};
use crate::rules::Verdict;

/// Of the better kin's probability: what an expert needs for the two to count as one. Below, the head has a preference.
const NEAR_TIE: f64 = 0.5;
/// Longest quotation of an example in a reason, in characters.
const QUOTED: usize = 100;

/// One query on its way through the steps.
pub(crate) struct Walk<'a> {
    options: &'a Options,
    fitted: &'a Fitted,
    verdict: &'a Verdict,
    top_k: usize,
    bar: f64,
    /// Why each expert is out, if it is; in the order of the fitted experts.
    out: Vec<Option<String>>,
}

/// The part of a decision that is decided here.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) outcome: Outcome,
    pub(crate) reason: Reason,
    pub(crate) candidates: Vec<Candidate>,
}

/// What is known of each expert when the choice is made: its probability and what speaks for it.
struct Standing {
    probability: f64,
    reasons: Vec<String>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        options: &'a Options,
        fitted: &'a Fitted,
        verdict: &'a Verdict,
        query: &Query,
        wishes: &Wishes,
    ) -> Self {
        let out =
            fitted.experts.iter().map(|expert| exclusion(&expert.profile, options, verdict, query, wishes)).collect();
        Self {
            options,
            fitted,
            verdict,
            top_k: wishes.top_k.unwrap_or(options.top_k).max(1),
            bar: wishes.min_confidence.filter(|bar| (0.0..=1.0).contains(bar)).unwrap_or(options.min_confidence),
            out,
        }
    }

    /// Steps 1 to 3; `None` when the query has to be read.
    pub(crate) fn without_encoder(&self) -> Option<Choice> {
        if self.fitted.experts.is_empty() {
            return Some(Choice { outcome: Outcome::Unavailable, reason: Reason::NoExperts, candidates: Vec::new() });
        }
        if self.out.iter().all(Option::is_some) {
            return Some(self.choose(Outcome::Refused, Reason::Excluded, &[], self.unread_standings()));
        }
        if self.verdict.required.is_empty() {
            return None;
        }
        let required: Vec<usize> = (0..self.out.len())
            .filter(|&at| Verdict::rule_for(&self.verdict.required, self.name(at)).is_some())
            .collect();
        let free: Vec<usize> = required.iter().copied().filter(|&at| self.out[at].is_none()).collect();
        let mut standings = self.unread_standings();
        for &at in &required {
            let rule = Verdict::rule_for(&self.verdict.required, self.name(at)).unwrap_or_default();
            standings[at].reasons.push(format!("rule {rule} requires it"));
        }
        if free.is_empty() {
            let reason = if required.is_empty() { Reason::RequiredUnknown } else { Reason::Excluded };
            let names: Vec<&str> = self.verdict.required.iter().map(|(_, expert)| expert.as_str()).collect();
            let what = if required.is_empty() { "unknown here" } else { "out" };
            let note = format!("fallback: {}, required by a rule, {what}", names.join(", "));
            return Some(self.fall_back(Outcome::Refused, reason, note, standings));
        }
        for &at in &free {
            standings[at].probability = 1.0 / free.len() as f64;
        }
        Some(self.choose(Outcome::Dispatched, Reason::Required, &free, standings))
    }

    /// Steps 4 to 6.
    pub(crate) fn with_reading(&self, reading: &Reading) -> Choice {
        let mut evidence = reading.evidence.clone();
        for (at, evidence) in evidence.iter_mut().enumerate() {
            evidence.preferred = self.verdict.preferred.iter().filter(|(_, expert)| expert == self.name(at)).count();
        }
        let blended = blend(&evidence, &reading.background);
        let standings = self.read_standings(reading, &blended);
        if blended.nobody > self.options.refuse_above {
            return self.choose(Outcome::Refused, Reason::OutOfScope, &[], standings);
        }
        let cleared: Vec<usize> =
            by_falling(&blended.known).into_iter().filter(|&at| self.clears(&blended, at)).collect();
        let free: Vec<usize> = cleared.iter().copied().filter(|&at| self.out[at].is_none()).take(self.top_k).collect();
        if !free.is_empty() {
            return self.choose(Outcome::Dispatched, Reason::Confident, &free, standings);
        }
        let best = cleared.first().copied().or_else(|| by_falling(&blended.known).first().copied()).unwrap_or_default();
        let (reason, verdict) = if cleared.is_empty() {
            (Reason::LowConfidence, format!("below {:.2}", self.bar))
        } else {
            (Reason::Excluded, "but out".to_owned())
        };
        let note = format!("fallback: best was {} with {:.2}, {verdict}", self.name(best), blended.known[best]);
        self.fall_back(Outcome::Refused, reason, note, standings)
    }

    /// The choice when the query could not be read: the fallback expert, else unavailable.
    pub(crate) fn unread(&self, reason: Reason) -> Choice {
        let note = match reason {
            Reason::DeadlineExceeded => "fallback: the deadline passed before the query was encoded",
            _ => "fallback: the encoder is unavailable",
        };
        self.fall_back(Outcome::Unavailable, reason, note.to_owned(), self.unread_standings())
    }

    /// Whether the expert, together with its near-tied kin, clears the bar.
    fn clears(&self, blended: &Blend, at: usize) -> bool {
        let own = blended.known[at];
        let kin = self.fitted.experts[at].kin.iter().map(|&other| blended.known[other]);
        let best = kin.clone().fold(own, f64::max);
        if own < NEAR_TIE * best {
            return false;
        }
        own + kin.filter(|&other| other >= NEAR_TIE * best).sum::<f64>() >= self.bar
    }

    /// The fallback expert if there is one and it is not out, else the given outcome without any expert.
    fn fall_back(&self, otherwise: Outcome, reason: Reason, note: String, mut standings: Vec<Standing>) -> Choice {
        let at =
            self.options.fallback.as_deref().and_then(|fallback| {
                (0..self.out.len()).find(|&at| self.name(at) == fallback && self.out[at].is_none())
            });
        match at {
            Some(at) => {
                standings[at].reasons.insert(0, note);
                self.choose(Outcome::Fallback, reason, &[at], standings)
            }
            None => self.choose(otherwise, reason, &[], standings),
        }
    }

    fn choose(&self, outcome: Outcome, reason: Reason, selected: &[usize], standings: Vec<Standing>) -> Choice {
        let mut candidates: Vec<Candidate> = standings
            .into_iter()
            .enumerate()
            .map(|(at, standing)| {
                let profile = &self.fitted.experts[at].profile;
                Candidate {
                    expert: profile.expert.clone(),
                    version: profile.version.clone(),
                    probability: standing.probability,
                    selected: selected.contains(&at),
                    excluded: self.out[at].is_some(),
                    reasons: self.out[at].iter().cloned().chain(standing.reasons).collect(),
                }
            })
            .collect();
        candidates.sort_by(|a, b| {
            b.selected
                .cmp(&a.selected)
                .then(b.probability.total_cmp(&a.probability))
                .then_with(|| a.expert.cmp(&b.expert))
        });
        Choice { outcome, reason, candidates }
    }

    fn unread_standings(&self) -> Vec<Standing> {
        self.out.iter().map(|_| Standing { probability: 0.0, reasons: Vec::new() }).collect()
    }

    fn read_standings(&self, reading: &Reading, blended: &Blend) -> Vec<Standing> {
        let mut standings = self.unread_standings();
        for (at, standing) in standings.iter_mut().enumerate() {
            standing.probability = blended.probability(at);
            let reasons = &mut standing.reasons;
            if let Some(rule) = Verdict::rule_for(&self.verdict.preferred, self.name(at)) {
                reasons.push(format!("rule {rule} prefers it"));
            }
            if let Some((example, similarity)) = reading.closest[at]
                && let Some(text) = self.fitted.experts[at].profile.examples.get(example)
            {
                reasons.push(format!("close to \"{}\" ({similarity:.2})", shortened(text)));
            }
            reasons.push(format!("linear head {:.2}", reading.evidence[at].linear));
            reasons.push(format!("card {:.2}", reading.evidence[at].card));
        }
        standings
    }

    fn name(&self, at: usize) -> &str {
        &self.fitted.experts[at].profile.expert
    }
}

/// Why an expert may not answer this query; what the operator forbids is named before what the caller limits.
fn exclusion(
    profile: &Profile,
    options: &Options,
    verdict: &Verdict,
    query: &Query,
    wishes: &Wishes,
) -> Option<String> {
    if let Some(rule) = Verdict::rule_for(&verdict.forbidden, &profile.expert) {
        return Some(format!("rule {rule} forbids it"));
    }
    if !wishes.experts.is_empty() && !wishes.experts.contains(&profile.expert) {
        return Some("not among the experts the caller allows".to_owned());
    }
    query.attributes.iter().find_map(|(dimension, given)| {
        let declared = &options.dimensions.get(dimension)?.values;
        let served = profile.serves.get(dimension)?;
        // Several given values are alternatives: one that is served is enough.
        if given.is_empty() || given.iter().any(|value| served.contains(value)) {
            return None;
        }
        let shown: Vec<&str> = given.iter().map(String::as_str).filter(|v| declared.iter().any(|d| d == v)).collect();
        Some(format!("does not serve {dimension}={}", shown.join(" or ")))
    })
}

/// Indices by falling value; equal values keep their order, which is that of the names.
fn by_falling(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= QUOTED {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(QUOTED).collect::<String>())
    }
}
