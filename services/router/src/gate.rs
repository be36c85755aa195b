//! Step 2: which experts know this. Asks the gate, then holds its choice against who is there to answer.

use std::{collections::BTreeMap, sync::Arc};

use consilium_gate::{Candidate, Outcome, Reason, Vector, Wishes};
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
    pub(crate) fallback: Option<String>,
    pub(crate) metrics: Metrics,
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
    reserve: Option<String>,
}

/// An expert to call; the version where the caller pinned one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    pub(crate) expert: &'a str,
    pub(crate) version: Option<&'a str>,
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
        let decision = self.hold_against(gate, options.versions.clone(), catalog);
        self.metrics.decided(&decision, &Span::current());
        spans::decided(&decision);
        decision
    }

    /// Replaces chosen experts that have no live instance: by the fallback where there is one, else by the honest
    /// word that nobody is there.
    fn hold_against(
        &self,
        mut gate: consilium_gate::Decision,
        pinned: BTreeMap<String, String>,
        catalog: &Catalog,
    ) -> Decision {
        let live = |expert: &str| {
            let version = pinned.get(expert).map(String::as_str);
            catalog.target(expert, version).is_some_and(|target| target.live > 0)
        };
        let mut reason = gate.reason.as_str();
        let mut unavailable = Vec::new();
        for candidate in gate.candidates.iter_mut().filter(|candidate| candidate.selected) {
            if !live(&candidate.expert) {
                candidate.selected = false;
                candidate.reasons.insert(0, "no live instance".to_owned());
                unavailable.push(candidate.expert.clone());
            }
        }
        let fallback = self.fallback.as_deref().filter(|expert| live(expert));
        let eligible = |candidate: &Candidate| !candidate.excluded && Some(candidate.expert.as_str()) == fallback;
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
        let reserve = gate
            .candidates
            .iter()
            .find(|candidate| eligible(candidate) && !candidate.selected)
            .map(|candidate| candidate.expert.clone());
        Decision { gate, reason, pinned, unavailable, reserve }
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
