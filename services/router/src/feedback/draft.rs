//! A token in the making: what a request's walk tells about itself, kept until there is an answer.

use std::{sync::Arc, time::SystemTime};

use super::{
    Feedback,
    token::{Claims, Leg, MAX_LEGS, milliseconds},
};
use crate::{admission::Request, call::Reply, combine::Merged, gate::Decision, plan::Plan};

/// The gate takes the most probable experts, and nothing is left to chance: an expert that was put into a stage of the plan
/// would be put there again.
const PROPENSITY: f64 = 1.0;

/// What is known so far. There is one only where the mesh asks for feedback.
#[derive(Debug)]
pub(crate) struct Draft {
    feedback: Arc<Feedback>,
    claims: Claims,
    /// Which of the claims' legs ran.
    ran: Vec<bool>,
}

impl Draft {
    pub(crate) fn new(feedback: Arc<Feedback>, request: &Request) -> Self {
        let claims = Claims {
            request_id: request.id.clone(),
            issued: 0,
            tenant: request.query.caller.tenant.clone(),
            outcome: String::new(),
            gate_revision: String::new(),
            legs: Vec::new(),
        };
        Self { feedback, claims, ran: Vec::new() }
    }

    pub(crate) fn decided(&mut self, decision: &Decision, plan: &Plan) {
        let gate = decision.gate();
        let probability = |expert: &str| {
            let candidate = gate.candidates.iter().find(|candidate| *candidate.expert == *expert);
            candidate.map_or(0.0, |candidate| candidate.probability)
        };
        gate.outcome.as_str().clone_into(&mut self.claims.outcome);
        self.claims.gate_revision = gate.revision.to_string();
        let stages = plan.stages.iter().enumerate();
        let legs = stages.flat_map(|(at, stage)| stage.legs.iter().map(move |leg| (at, leg)));
        // A caller may ask for 16 experts. Rules of a mesh that require more than fit make no token that is refused for
        // its length.
        let legs = legs.take(MAX_LEGS).map(|(stage, leg)| Leg {
            expert: leg.expert.to_string(),
            version: leg.version.to_string(),
            stage,
            probability: to_six_digits(probability(&leg.expert)),
            propensity: PROPENSITY,
            answered: false,
        });
        self.claims.legs = legs.collect();
        self.ran = vec![false; self.claims.legs.len()];
    }

    pub(crate) fn replied(&mut self, reply: &Reply) {
        if let Some(ran) = self.ran.get_mut(reply.leg) {
            *ran = true;
        }
    }

    /// The token of the answer that is given `now`, or of the refusal.
    pub(crate) fn token(self, merged: Option<&Merged>, now: SystemTime) -> String {
        let Self { feedback, claims, ran } = self;
        let answered = |leg: usize| merged.is_some_and(|merged| merged.legs.contains(&leg));
        let legs = claims.legs.into_iter().zip(ran).enumerate().filter(|(_, (_, ran))| *ran);
        let legs = legs.map(|(at, (leg, _))| Leg { answered: answered(at), ..leg }).collect();
        feedback.terms.seal.close(&Claims { issued: milliseconds(now), legs, ..claims })
    }
}

/// More than a calibrated probability is worth, and read back as the same number by everybody.
fn to_six_digits(probability: f64) -> f64 {
    (probability.clamp(0.0, 1.0) * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_keep_what_they_are_worth() {
        for (exact, kept) in [(0.0, 0.0), (1.0, 1.0), (2.0 / 3.0, 0.666_667), (1e-9, 0.0), (1.000_000_1, 1.0)] {
            assert!((to_six_digits(exact) - kept).abs() < f64::EPSILON, "{exact}");
        }
    }
}
