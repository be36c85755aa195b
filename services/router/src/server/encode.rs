//! The router's own types as protobuf replies.

use consilium_gate::{Candidate, DimensionReading, Outcome};
use consilium_mesh::message::duration;
use consilium_proto::v1::{self, decision, plan, reply::Result as ReplyResult};

use crate::{
    call::{Attempt, Reply},
    error::Failure,
    gate::Decision,
    plan::{Leg, Plan},
};

pub(super) fn decision(decision: &Decision) -> v1::Decision {
    let gate = decision.gate();
    let outcome = match gate.outcome {
        Outcome::Dispatched => decision::Outcome::Dispatched,
        Outcome::Fallback => decision::Outcome::Fallback,
        Outcome::Refused => decision::Outcome::Refused,
        Outcome::Unavailable => decision::Outcome::Unavailable,
    };
    v1::Decision {
        outcome: outcome.into(),
        reason: decision.reason().to_owned(),
        candidates: gate.candidates.iter().map(candidate).collect(),
        dimensions: gate.dimensions.iter().map(dimension).collect(),
        rules_matched: gate.rules_matched.clone(),
        gate_revision: gate.revision.to_string(),
        gate_tier: gate.tier.as_str().to_owned(),
        elapsed: Some(duration(gate.elapsed)),
        unavailable_experts: decision.unavailable().to_vec(),
        calibrated: gate.calibrated,
        truncated: decision.is_truncated(),
        min_confidence: gate.bar,
    }
}

fn candidate(candidate: &Candidate) -> decision::Candidate {
    decision::Candidate {
        expert: candidate.expert.to_string(),
        version: candidate.version.to_string(),
        probability: candidate.probability,
        selected: candidate.selected,
        reasons: candidate.why().map(str::to_owned).collect(),
    }
}

fn dimension(reading: &DimensionReading) -> decision::Dimension {
    let value = |value: &consilium_gate::DimensionValue| decision::Value {
        value: value.value.to_string(),
        probability: value.probability,
    };
    decision::Dimension {
        name: reading.name.to_string(),
        values: reading.values.iter().map(value).collect(),
        source: reading.source.as_str().to_owned(),
    }
}

pub(super) fn plan(plan: &Plan) -> v1::Plan {
    let leg = |leg: &Leg| plan::Leg {
        expert: leg.expert.to_string(),
        version: leg.version.to_string(),
        budget: Some(duration(leg.budget)),
        live_instances: u32::try_from(leg.live).unwrap_or(u32::MAX),
    };
    let stages = plan.stages.iter().map(|stage| plan::Stage { legs: stage.legs.iter().map(leg).collect() });
    v1::Plan { stages: stages.collect() }
}

pub(super) fn reply(reply: &Reply) -> v1::Reply {
    let result = match &reply.result {
        Ok(answer) => ReplyResult::Answer(answer.to_message()),
        Err(failure) => ReplyResult::Failure(self::failure(failure)),
    };
    v1::Reply {
        expert: reply.expert.to_string(),
        version: reply.version.to_string(),
        instance: reply.instance.clone().unwrap_or_default(),
        result: Some(result),
        attempts: reply.attempts.iter().map(attempt).collect(),
        timings: reply.timings,
    }
}

fn failure(failure: &Failure) -> v1::Failure {
    v1::Failure {
        code: failure.code.into(),
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        retry_after: failure.retry_after.map(duration),
        metadata: failure.metadata.clone().into_iter().collect(),
    }
}

fn attempt(attempt: &Attempt) -> v1::Attempt {
    v1::Attempt {
        instance: attempt.instance.clone(),
        code: attempt.code.into(),
        start_offset: Some(duration(attempt.start_offset)),
        duration: Some(duration(attempt.duration)),
        hedge: false,
    }
}
