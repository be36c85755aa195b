//! What to run for one request: stages of legs, each leg with its budget. Pure: a decision, the catalogue and a
//! deadline go in, a plan comes out, nothing is called and nothing can fail.

use std::{sync::Arc, time::Duration};

use consilium_mesh::registry::Slo;
use tokio::time::Instant;

use crate::{
    balance::Wanted,
    catalog::{Catalog, Target},
    gate::{Choice, Decision},
};

/// Kept back from the deadline for combining and for the way to the client, so that the caller gets our own answer
/// and not a bare timeout.
pub(crate) const RESERVE: Duration = Duration::from_millis(5);

/// Stages run in order until one satisfies.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) stages: Vec<Stage>,
}

/// Legs that run side by side.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stage {
    pub(crate) legs: Vec<Leg>,
}

/// One (expert, version) of a stage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leg {
    /// Position in the plan, over all stages.
    pub(crate) index: usize,
    /// Counted from 1.
    pub(crate) stage: usize,
    pub(crate) expert: Arc<str>,
    pub(crate) version: Arc<str>,
    /// Where one of the expert's models is asked and not the expert: only instances that have it loaded will do.
    pub(crate) model: Option<Arc<str>>,
    /// The model's; empty for any.
    pub(crate) model_version: Arc<str>,
    /// Whether it asks for a model that no record lists.
    pub(crate) is_unlisted: bool,
    /// How long it may take, retries included; never beyond the request's deadline, whatever the stages before took.
    pub(crate) budget: Duration,
    pub(crate) slo: Slo,
    pub(crate) idempotent: bool,
    /// Live instances when the plan was made.
    pub(crate) live: usize,
    /// Whether it runs once its stage is reached.
    pub(crate) turn: Turn,
}

/// When a leg runs, of those before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Turn {
    /// Whatever they did: it is of the first stage.
    First,
    /// When the leg at this position of the plan failed, or answered with less than this confidence.
    Escalation { after: usize, below: f64 },
    /// When none of them has an answer.
    Reserve,
}

impl Leg {
    fn new((index, stage): (usize, usize), turn: Turn, expert: &str, target: &Target<'_>) -> Self {
        Self {
            index,
            stage,
            expert: expert.into(),
            version: target.card.version.as_str().into(),
            model: None,
            model_version: Arc::default(),
            is_unlisted: false,
            budget: Duration::ZERO,
            slo: target.card.slo,
            idempotent: target.card.idempotent,
            live: target.live,
            turn,
        }
    }

    /// The instances that it may run on.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        Wanted {
            version: &self.version,
            model: self.model.as_deref(),
            model_version: &self.model_version,
            is_unlisted: self.is_unlisted,
        }
    }
}

/// The leg of a request that names its expert, or one of the expert's models, by itself: it may use all of the time.
pub(crate) fn single(expert: &str, wanted: Wanted<'_>, target: &Target<'_>, remaining: Duration) -> Leg {
    Leg {
        model: wanted.model.map(Arc::from),
        model_version: wanted.model_version.into(),
        is_unlisted: wanted.is_unlisted,
        budget: remaining.saturating_sub(RESERVE),
        ..Leg::new((0, 1), Turn::First, expert, target)
    }
}

impl Plan {
    /// The leg that begins what this one goes on with; the leg itself, where it goes on with nothing.
    pub(crate) fn root(&self, leg: usize) -> usize {
        let mut root = leg;
        // Each step leads to an earlier leg.
        while let Some(Leg { turn: Turn::Escalation { after, .. }, .. }) = self.leg(root)
            && *after < root
        {
            root = *after;
        }
        root
    }

    fn leg(&self, index: usize) -> Option<&Leg> {
        self.stages.iter().flat_map(|stage| &stage.legs).find(|leg| leg.index == index)
    }
}

/// The experts that the decision selected make the first stage. Those that stand behind one of them make the next ones, a
/// stage for each step of a cascade; where a fallback expert stands ready and was not selected itself, it is the last, for
/// the case that nobody else can answer.
pub(crate) fn build(decision: &Decision, catalog: &Catalog, deadline: Instant, now: Instant) -> Plan {
    let mut draft = Draft { catalog, stages: Vec::new(), legs: 0 };
    // Of each cascade: its last leg so far, who comes next, below which confidence.
    let mut cascades = Vec::new();
    for choice in decision.selected() {
        if let Some(leg) = draft.add(1, Turn::First, choice)
            && let Some((next, below)) = decision.behind(choice)
        {
            cascades.push((leg, next, below));
        }
    }
    let mut stage = 2;
    while !cascades.is_empty() {
        cascades.retain_mut(|(after, next, below)| {
            let Some(choice) = next.next() else { return false };
            if let Some(leg) = draft.add(stage, Turn::Escalation { after: *after, below: *below }, choice) {
                *after = leg;
            }
            true
        });
        stage = draft.stages.len() + 1;
    }
    if let Some(choice) = decision.reserve() {
        draft.add(stage, Turn::Reserve, choice);
    }
    let Draft { mut stages, .. } = draft;
    allot(&mut stages, deadline.saturating_duration_since(now).saturating_sub(RESERVE));
    Plan { stages }
}

/// A plan in the making.
struct Draft<'a> {
    catalog: &'a Catalog,
    stages: Vec<Stage>,
    legs: usize,
}

impl Draft<'_> {
    /// Puts a leg into this stage, the last one or the one after it, and tells its position; `None` for an expert that is
    /// not in the catalogue.
    fn add(&mut self, stage: usize, turn: Turn, choice: Choice<'_>) -> Option<usize> {
        let target = self.catalog.target(choice.expert, choice.version)?;
        let index = self.legs;
        let leg = Leg::new((index, stage), turn, choice.expert, &target);
        match self.stages.get_mut(stage - 1) {
            Some(stage) => stage.legs.push(leg),
            None => self.stages.push(Stage { legs: vec![leg] }),
        }
        self.legs += 1;
        Some(index)
    }
}

/// Gives every leg its budget: the last stage may use all that remains, an earlier one leaves to each later one that
/// stage's objective, but never gets less than its own objective as long as that much remains.
fn allot(stages: &mut [Stage], remaining: Duration) {
    let mut later = Duration::ZERO;
    for stage in stages.iter_mut().rev() {
        let objective = stage.legs.iter().map(|leg| leg.slo.latency).max().unwrap_or_default();
        for leg in &mut stage.legs {
            leg.budget = remaining.saturating_sub(later).max(leg.slo.latency.min(remaining));
        }
        later += objective;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stage(latencies: &[u64]) -> Stage {
        let leg = |ms: &u64| Leg {
            index: 0,
            stage: 1,
            expert: "e".into(),
            version: "1".into(),
            model: None,
            model_version: Arc::default(),
            is_unlisted: false,
            budget: Duration::ZERO,
            slo: Slo { latency: Duration::from_millis(*ms), objective: 0.99, first_token: None },
            idempotent: true,
            live: 1,
            turn: Turn::First,
        };
        Stage { legs: latencies.iter().map(leg).collect() }
    }

    fn budgets(stages: &[Stage]) -> Vec<u128> {
        stages.iter().flat_map(|stage| &stage.legs).map(|leg| leg.budget.as_millis()).collect()
    }

    #[test]
    fn the_first_stage_leaves_the_fallback_its_objective() {
        let mut stages = [stage(&[150]), stage(&[200])];
        allot(&mut stages, Duration::from_secs(2));
        assert_eq!(budgets(&stages), [1800, 2000]);
    }

    #[test]
    fn when_time_is_short_the_chosen_expert_comes_first() {
        let mut stages = [stage(&[150]), stage(&[200])];
        allot(&mut stages, Duration::from_millis(250));
        assert_eq!(budgets(&stages), [150, 250]);
        allot(&mut stages, Duration::from_millis(100));
        assert_eq!(budgets(&stages), [100, 100]);
    }

    proptest! {
        #[test]
        fn no_leg_gets_more_than_remains(
            plan in prop::collection::vec(prop::collection::vec(1..5000_u64, 1..4), 1..4),
            remaining in 0..10_000_u64,
        ) {
            let mut stages: Vec<_> = plan.iter().map(|latencies| stage(latencies)).collect();
            allot(&mut stages, Duration::from_millis(remaining));
            for (stage, latencies) in stages.iter().zip(&plan) {
                for (leg, latency) in stage.legs.iter().zip(latencies) {
                    prop_assert!(leg.budget <= Duration::from_millis(remaining));
                    prop_assert!(leg.budget >= Duration::from_millis(remaining.min(*latency)));
                }
            }
        }
    }
}
