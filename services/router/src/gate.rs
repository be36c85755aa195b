//! Step 2: which experts know this. Asks the gate, then holds its choice against who is there to answer, and says who
//! stands behind whom.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use consilium_gate::{Candidate, Options, Outcome, Reason, Vector, Wishes};
use tracing::Span;

use crate::{
    admission::Admitted,
    catalog::Catalog,
    error::{Error, Violation},
    metrics::Metrics,
    spans,
};

/// The gate of the mesh, as the router uses it.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) model: Arc<consilium_gate::Gate>,
    pub(crate) policy: Arc<ArcSwap<Policy>>,
    pub(crate) metrics: Metrics,
}

/// Who stands behind whom, as the gate's settings say. Changes with them.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    fallback: Option<Arc<str>>,
    /// By the name of the first expert.
    cascades: BTreeMap<String, Cascade>,
}

/// Better experts behind a cheap one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cascade {
    /// In the order in which they are asked.
    pub(crate) experts: Vec<Arc<str>>,
    /// Each is asked when the answer before it is less sure than this.
    pub(crate) escalate_below: f64,
}

/// What the gate saw, scored and chose, and who of those it chose can be called.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    gate: consilium_gate::Decision,
    reason: &'static str,
    pinned: BTreeMap<String, String>,
    /// Chosen, but nobody live.
    unavailable: Vec<String>,
    /// Stands ready should none of the chosen answer.
    reserve: Option<Arc<str>>,
    /// Who may be asked after a chosen expert, by its name.
    behind: Vec<(Arc<str>, Cascade)>,
    /// Of the query's text, the gate was given a part.
    is_cut: bool,
}

/// An expert to call; the version where the caller pinned one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    pub(crate) expert: &'a str,
    pub(crate) version: Option<&'a str>,
}

impl Policy {
    pub(crate) fn of(options: &Options) -> Self {
        let cascades = options.cascade.iter().filter_map(|cascade| {
            let (first, rest) = cascade.experts.split_first()?;
            let experts = rest.iter().map(|expert| expert.as_str().into()).collect();
            Some((first.clone(), Cascade { experts, escalate_below: cascade.escalate_below }))
        });
        Self { fallback: options.fallback.as_deref().map(Arc::from), cascades: cascades.collect() }
    }
}

impl Gate {
    /// Values that the mesh does not declare, each as a violation.
    pub(crate) fn check_attributes(&self, attributes: &BTreeMap<String, Vec<String>>) -> Vec<Violation> {
        let mistakes = self.model.check_attributes(attributes).err().unwrap_or_default();
        mistakes
            .into_iter()
            .map(|mistake| Violation::new(mistake.path, format!("{}; expected {}", mistake.problem, mistake.expected)))
            .collect()
    }

    /// Decides, and tells the current span what. Never fails: that nobody is there to answer is a decision as well.
    pub(crate) async fn decide(&self, admitted: &Admitted, catalog: &Catalog) -> Decision {
        let options = admitted.options();
        let wishes =
            Wishes { top_k: options.top_k, min_confidence: options.min_confidence, experts: options.experts.clone() };
        let gate = self.model.decide(admitted.query(), &wishes, admitted.deadline()).await;
        let asked = Asked { pinned: options.versions.clone(), is_cut: admitted.is_cut() };
        let decision = asked.hold_against(gate, &self.policy.load(), catalog);
        self.metrics.decided(&decision, &Span::current());
        spans::decided(&decision);
        decision
    }
}

/// What of a request counts beside the gate's word.
struct Asked {
    /// Version by expert.
    pinned: BTreeMap<String, String>,
    is_cut: bool,
}

/// Says in the log whom the gate never chooses by itself, since there are too few queries to show that it may.
pub(crate) fn warn_of_bars(gate: &consilium_gate::Gate) {
    let experts = gate.out_of_reach().join(", ");
    if !experts.is_empty() {
        tracing::warn!(
            experts,
            "no probability is enough: their max_error takes more held-out queries, so they are never chosen"
        );
    }
}

impl Asked {
    /// Replaces chosen experts that have no live instance: by the next one of their cascade, by the fallback where there is
    /// one, else by the honest word that nobody is there.
    fn hold_against(self, mut gate: consilium_gate::Decision, policy: &Policy, catalog: &Catalog) -> Decision {
        let live = |expert: &str| self.is_live(expert, catalog);
        let mut reason = gate.reason.as_str();
        let mut unavailable = Vec::new();
        let mut behind: Vec<(Arc<str>, Cascade)> = Vec::new();
        let selected = gate.candidates.iter().enumerate().filter(|(_, candidate)| candidate.selected);
        let selected: Vec<(usize, Arc<str>)> = selected.map(|(at, it)| (at, Arc::clone(&it.expert))).collect();
        for (at, expert) in selected {
            let is_live = live(&expert);
            if !is_live && let Some(candidate) = gate.candidates.get_mut(at) {
                candidate.selected = false;
                candidate.reasons.insert(0, "no live instance".to_owned());
                unavailable.push(expert.to_string());
            }
            let Some(cascade) = policy.cascades.get(&*expert) else { continue };
            let mut next = free(cascade, &gate.candidates, &behind, live);
            let first = if is_live {
                expert
            } else if next.is_empty() {
                continue;
            } else {
                let stand_in = next.remove(0);
                tell(&mut gate.candidates, &stand_in, |candidate| {
                    candidate.selected = true;
                    candidate.reasons.insert(0, format!("stands in for {expert}, which has no live instance"));
                });
                stand_in
            };
            let below = cascade.escalate_below;
            for better in &next {
                let reason = format!("behind {first}, for answers below {below:.2}");
                tell(&mut gate.candidates, better, |candidate| candidate.reasons.push(reason));
            }
            behind.push((first, Cascade { experts: next, escalate_below: below }));
        }
        let fallback = policy.fallback.as_ref().filter(|expert| live(expert));
        let eligible = |candidate: &Candidate| candidate.excluded.is_none() && Some(&candidate.expert) == fallback;
        // Whoever is chosen is one of the first, and then this is a short search.
        let nobody = !gate.candidates.iter().any(|candidate| candidate.selected);
        if nobody && !unavailable.is_empty() {
            reason = "NO_LIVE_INSTANCE";
            gate.outcome = Outcome::Unavailable;
            if let Some(stand_in) = gate.candidates.iter_mut().find(|candidate| eligible(candidate)) {
                stand_in.selected = true;
                stand_in
                    .reasons
                    .insert(0, format!("stands in for {}, which has no live instance", unavailable.join(", ")));
                gate.outcome = Outcome::Fallback;
            }
        }
        let is_behind = |expert: &Arc<str>| behind.iter().any(|(_, cascade)| cascade.experts.contains(expert));
        let reserve = fallback.and_then(|_| gate.candidates.iter().find(|candidate| eligible(candidate)));
        let reserve = reserve.filter(|candidate| !candidate.selected && !is_behind(&candidate.expert));
        let reserve = reserve.map(|candidate| Arc::clone(&candidate.expert));
        Decision { gate, reason, pinned: self.pinned, unavailable, reserve, behind, is_cut: self.is_cut }
    }

    fn is_live(&self, expert: &str, catalog: &Catalog) -> bool {
        let version = self.pinned.get(expert).map(String::as_str);
        catalog.target(expert, version).is_some_and(|target| target.live > 0)
    }
}

/// Those of a cascade who may be asked after its first: known to the gate, not out, there to answer, and not asked anyway.
fn free(
    cascade: &Cascade,
    candidates: &[Candidate],
    behind: &[(Arc<str>, Cascade)],
    live: impl Fn(&str) -> bool,
) -> Vec<Arc<str>> {
    let may = |expert: &Arc<str>| {
        let candidate = candidates.iter().find(|candidate| candidate.expert == *expert);
        candidate.is_some_and(|candidate| !candidate.selected && candidate.excluded.is_none())
    };
    let taken = |expert: &Arc<str>| behind.iter().any(|(_, others)| others.experts.contains(expert));
    cascade.experts.iter().filter(|expert| may(expert) && !taken(expert) && live(expert)).cloned().collect()
}

fn tell(candidates: &mut [Candidate], expert: &Arc<str>, what: impl FnOnce(&mut Candidate)) {
    if let Some(candidate) = candidates.iter_mut().find(|candidate| candidate.expert == *expert) {
        what(candidate);
    }
}

impl Decision {
    pub(crate) fn gate(&self) -> &consilium_gate::Decision {
        &self.gate
    }

    pub(crate) fn reason(&self) -> &'static str {
        self.reason
    }

    pub(crate) fn unavailable(&self) -> &[String] {
        &self.unavailable
    }

    pub(crate) fn vector(&self) -> Option<&Vector> {
        self.gate.vector.as_ref()
    }

    /// The experts to call, most probable first.
    pub(crate) fn selected(&self) -> impl Iterator<Item = Choice<'_>> {
        self.gate
            .candidates
            .iter()
            .filter(|candidate| candidate.selected)
            .map(|candidate| self.choice(&candidate.expert))
    }

    /// Who may be asked after this one of the selected, in order, and below which confidence.
    pub(crate) fn behind<'a>(&'a self, choice: Choice<'_>) -> Option<(impl Iterator<Item = Choice<'a>>, f64)> {
        let (_, cascade) = self.behind.iter().find(|(expert, _)| **expert == *choice.expert)?;
        Some((cascade.experts.iter().map(|expert| self.choice(expert)), cascade.escalate_below))
    }

    /// Whether a part of the query was not read.
    pub(crate) fn is_truncated(&self) -> bool {
        self.gate.truncated || self.is_cut
    }

    /// The expert to call when none of the selected can answer.
    pub(crate) fn reserve(&self) -> Option<Choice<'_>> {
        self.selected().next()?;
        self.reserve.as_deref().map(|expert| self.choice(expert))
    }

    /// Whether the answer lacks somebody from the start.
    pub(crate) fn misses_somebody(&self) -> bool {
        !self.unavailable.is_empty()
    }

    /// True for a refusal, which is an answer too; an error when somebody should run and nobody can.
    pub(crate) fn runs_nothing(&self) -> Result<bool, Error> {
        match self.gate.outcome {
            Outcome::Dispatched | Outcome::Fallback => Ok(false),
            Outcome::Refused => Ok(true),
            Outcome::Unavailable if !self.unavailable.is_empty() => {
                Err(Error::NoLiveInstance { experts: self.unavailable.clone() })
            }
            Outcome::Unavailable if self.gate.reason == Reason::DeadlineExceeded => Err(Error::DeadlineExceeded),
            Outcome::Unavailable => Err(Error::GateUnavailable { reason: self.reason }),
        }
    }

    fn choice<'a>(&'a self, expert: &'a str) -> Choice<'a> {
        Choice { expert, version: self.pinned.get(expert).map(String::as_str) }
    }
}
