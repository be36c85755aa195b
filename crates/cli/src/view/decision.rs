//! What the gate decided and what would run.

use consilium_proto::v1;
use serde::Serialize;

use super::{ms, word};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Decision {
    /// `dispatched`, `fallback`, `refused` or `unavailable`.
    pub(crate) outcome: String,
    pub(crate) reason: String,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) dimensions: Vec<Dimension>,
    pub(crate) rules_matched: Vec<String>,
    pub(crate) gate_revision: String,
    pub(crate) gate_tier: String,
    pub(crate) elapsed_ms: Option<f64>,
    pub(crate) unavailable_experts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Candidate {
    pub(crate) expert: String,
    pub(crate) version: String,
    pub(crate) probability: f64,
    pub(crate) selected: bool,
    pub(crate) reasons: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Dimension {
    pub(crate) name: String,
    pub(crate) values: Vec<Value>,
    pub(crate) source: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Value {
    pub(crate) value: String,
    pub(crate) probability: f64,
}

/// The reply to Explain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Explanation {
    pub(crate) request_id: String,
    pub(crate) decision: Decision,
    pub(crate) plan: Plan,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Plan {
    pub(crate) stages: Vec<Stage>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Stage {
    pub(crate) legs: Vec<Leg>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Leg {
    pub(crate) expert: String,
    pub(crate) version: String,
    pub(crate) budget_ms: Option<f64>,
    pub(crate) live_instances: u32,
}

impl Decision {
    pub(crate) fn selected(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| candidate.selected)
    }

    /// Nobody was asked, because nobody should be.
    pub(crate) fn is_refusal(&self) -> bool {
        self.outcome == "refused"
    }
}

impl From<v1::Decision> for Decision {
    fn from(decision: v1::Decision) -> Self {
        Self {
            outcome: word(decision.outcome().as_str_name(), "OUTCOME_"),
            reason: decision.reason,
            candidates: decision.candidates.into_iter().map(Candidate::from).collect(),
            dimensions: decision.dimensions.into_iter().map(Dimension::from).collect(),
            rules_matched: decision.rules_matched,
            gate_revision: decision.gate_revision,
            gate_tier: decision.gate_tier,
            elapsed_ms: ms(decision.elapsed),
            unavailable_experts: decision.unavailable_experts,
        }
    }
}

impl From<v1::decision::Candidate> for Candidate {
    fn from(candidate: v1::decision::Candidate) -> Self {
        Self {
            expert: candidate.expert,
            version: candidate.version,
            probability: candidate.probability,
            selected: candidate.selected,
            reasons: candidate.reasons,
        }
    }
}

impl From<v1::decision::Dimension> for Dimension {
    fn from(dimension: v1::decision::Dimension) -> Self {
        let values = dimension.values.into_iter().map(|it| Value { value: it.value, probability: it.probability });
        Self { name: dimension.name, values: values.collect(), source: dimension.source }
    }
}

impl From<v1::ExplainResponse> for Explanation {
    fn from(reply: v1::ExplainResponse) -> Self {
        Self {
            request_id: reply.request_id,
            decision: reply.decision.unwrap_or_default().into(),
            plan: reply.plan.map(Plan::from).unwrap_or_default(),
        }
    }
}

impl From<v1::Plan> for Plan {
    fn from(plan: v1::Plan) -> Self {
        let leg = |leg: v1::plan::Leg| Leg {
            expert: leg.expert,
            version: leg.version,
            budget_ms: ms(leg.budget),
            live_instances: leg.live_instances,
        };
        let stages = plan.stages.into_iter().map(|stage| Stage { legs: stage.legs.into_iter().map(leg).collect() });
        Self { stages: stages.collect() }
    }
}
