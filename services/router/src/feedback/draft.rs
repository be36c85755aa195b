//! A token in the making: what a request's walk tells about itself, kept until there is an answer.

use std::{sync::Arc, time::SystemTime};

use super::{
    Feedback,
    token::{Claims, Leg, MAX_LEGS, milliseconds},
};
use crate::{admission::Request, call::Reply, combine::Merged, gate::Decision, plan::Plan};

/// The gate takes the most probable experts, and nothing is left to chance: an expert that was chosen would be chosen
/// again.
const PROPENSITY: f64 = 1.0;

/// What is known so far. Knows nothing and says nothing where the mesh asks for no feedback.
#[derive(Debug)]
pub(crate) struct Draft {
    feedback: Option<Arc<Feedback>>,
    claims: Claims,
    /// Which of the claims' legs ran.
    ran: Vec<bool>,
}

impl Draft {
    pub(crate) fn new(feedback: Option<Arc<Feedback>>, request: &Request) -> Self {
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
        if self.feedback.is_none() {
            return;
        }
        let gate = decision.gate();
        let probability = |expert: &str| {
            let candidate = gate.candidates.iter().find(|candidate| candidate.expert == expert);
            candidate.map_or(0.0, |candidate| candidate.probability)
        };
        gate.outcome.as_str().clone_into(&mut self.claims.outcome);
        self.claims.gate_revision.clone_from(&gate.revision);
        // A caller may ask for 16 experts. Rules of a mesh that require more than fit make no token that is refused for
        // its length.
        let legs = plan.stages.iter().flat_map(|stage| &stage.legs).take(MAX_LEGS);
        self.claims.legs = legs
            .map(|leg| Leg {
                expert: leg.expert.to_string(),
                version: leg.version.to_string(),
                probability: to_six_digits(probability(&leg.expert)),
                propensity: PROPENSITY,
                answered: false,
            })
            .collect();
        self.ran = vec![false; self.claims.legs.len()];
    }

    pub(crate) fn replied(&mut self, reply: &Reply) {
        if let Some(ran) = self.ran.get_mut(reply.leg) {
            *ran = true;
        }
    }

    /// The token of the answer that is given now, or of the refusal; empty where the mesh asks for no feedback.
    pub(crate) fn token(&self, merged: Option<&Merged>, now: SystemTime) -> String {
        let Some(feedback) = &self.feedback else { return String::new() };
        feedback.terms.seal.close(&self.claims(merged, now))
    }

    fn claims(&self, merged: Option<&Merged>, now: SystemTime) -> Claims {
        let answered = |leg: usize| merged.is_some_and(|merged| merged.legs.contains(&leg));
        let ran = self.claims.legs.iter().zip(&self.ran).enumerate().filter(|(_, (_, ran))| **ran);
        let legs = ran.map(|(at, (leg, _))| Leg { answered: answered(at), ..leg.clone() }).collect();
        Claims { issued: milliseconds(now), legs, ..self.claims.clone() }
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
