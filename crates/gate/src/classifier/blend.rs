//! The blend: what the heads say of each class in, `P(class | it belongs to some class)` out. A product of experts in
//! the statistical sense, `softmax(Σ weight · head)`, with weights learned on texts that the heads had not seen, so that
//! a mesh with ten examples an expert and one with a thousand both trust the heads that deserve it there.

use crate::heads::matrix::Cholesky;
use crate::heads::{Candidate, HEADS};

/// Where the weights start and what pulls at them while there is little to learn from: linear, lexical, prototypes,
/// neighbours, centre, card. Close to what comes out on public sets with 10 to 100 examples a class.
const PRIOR: [f64; HEADS] = [1.0, 0.5, 0.5, 0.5, 0.1, 0.1];
/// A head that was of no use on the examples may still be on live queries: the least to start over from.
const LEAST: f64 = 0.05;
/// Strength of that pull, for each weight in units of its prior. Stronger once there is something to go back to: a few
/// hundred labelled queries may correct what thousands of examples said, not overturn it.
const PULL: f64 = 10.0;
const LATER_PULL: f64 = 30.0;
const MAX_STEPS: usize = 30;

#[derive(Clone, Debug)]
pub(crate) struct Blend {
    /// Never negative: more evidence by a head must not lower a class.
    weights: [f64; HEADS],
    /// What pulls at them while learning, and how strongly.
    prior: [f64; HEADS],
    pull: f64,
}

impl Blend {
    pub(crate) fn prior() -> Self {
        Self { weights: PRIOR, prior: PRIOR, pull: PULL }
    }

    /// Learns from shortlists and, for each, the place of the right class on it; what was known before is the prior.
    pub(crate) fn learn(&self, texts: &[(&[Candidate], usize)]) -> Self {
        if texts.is_empty() {
            return self.clone();
        }
        let start = self.weights.map(|weight| weight.max(LEAST));
        let mut blend = Self { weights: start, prior: start, pull: self.pull };
        let mut loss = blend.loss(texts);
        for _ in 0..MAX_STEPS {
            let Some((next, lower)) = blend.step(texts, loss) else { break };
            let gained = loss - lower;
            (blend, loss) = (next, lower);
            if gained <= 1e-6 * loss {
                break;
            }
        }
        Self { pull: LATER_PULL, ..blend }
    }

    /// P(class | one of these), in their order.
    pub(crate) fn known(&self, candidates: &[Candidate]) -> Vec<f64> {
        let mut scores: Vec<f64> = candidates
            .iter()
            .map(|candidate| {
                self.weights.iter().zip(candidate.heads).map(|(weight, head)| weight * f64::from(head)).sum()
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for score in &mut scores {
            *score = (*score - largest).exp();
        }
        let sum: f64 = scores.iter().sum();
        for score in &mut scores {
            *score /= sum;
        }
        scores
    }

    fn loss(&self, texts: &[(&[Candidate], usize)]) -> f64 {
        let fit: f64 = texts.iter().map(|(candidates, right)| -self.known(candidates)[*right].max(1e-12).ln()).sum();
        let pull: f64 =
            self.weights.iter().zip(self.prior).map(|(weight, prior)| ((weight - prior) / prior).powi(2)).sum();
        fit + 0.5 * self.pull * pull
    }

    /// A Newton step, cut off at zero for each weight and halved until it lowers the loss.
    fn step(&self, texts: &[(&[Candidate], usize)], loss: f64) -> Option<(Self, f64)> {
        let mut gradient = [0.0; HEADS];
        let mut curvature = [[0.0; HEADS]; HEADS];
        for head in 0..HEADS {
            gradient[head] = self.pull * (self.weights[head] - self.prior[head]) / self.prior[head].powi(2);
            curvature[head][head] = self.pull / self.prior[head].powi(2);
        }
        for (candidates, right) in texts {
            let known = self.known(candidates);
            let mut mean = [0.0; HEADS];
            for (p, candidate) in known.iter().zip(*candidates) {
                (0..HEADS).for_each(|head| mean[head] += p * f64::from(candidate.heads[head]));
            }
            for head in 0..HEADS {
                gradient[head] += mean[head] - f64::from(candidates[*right].heads[head]);
            }
            for (p, candidate) in known.iter().zip(*candidates) {
                let off: [f64; HEADS] = std::array::from_fn(|head| f64::from(candidate.heads[head]) - mean[head]);
                for head in 0..HEADS {
                    (0..=head).for_each(|other| curvature[head][other] += p * off[head] * off[other]);
                }
            }
        }
        // A weight at zero that would go below stays there and must not bend the others' step.
        let held: [bool; HEADS] = std::array::from_fn(|head| self.weights[head] <= 0.0 && gradient[head] > 0.0);
        let factors = Cholesky::new(HEADS, |row, column| {
            if held[row] || held[column] { f64::from(u8::from(row == column)) } else { curvature[row][column] }
        })?;
        let mut step: [f32; HEADS] = std::array::from_fn(|head| if held[head] { 0.0 } else { gradient[head] as f32 });
        factors.solve(&mut step, 1);
        let mut length = 1.0;
        for _ in 0..10 {
            let weights = std::array::from_fn(|head| (self.weights[head] - length * f64::from(step[head])).max(0.0));
            let next = Self { weights, ..self.clone() };
            let lower = next.loss(texts);
            if lower < loss {
                return Some((next, lower));
            }
            length *= 0.5;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        prop::collection::vec(prop::array::uniform6(-10.0..10.0f32), 1..12).prop_map(|heads| {
            heads.into_iter().enumerate().map(|(class, heads)| Candidate { class, heads, closest: None }).collect()
        })
    }

    proptest! {
        #[test]
        fn everything_is_a_probability_and_sums_to_one(candidates in candidates()) {
            let known = Blend::prior().known(&candidates);
            prop_assert!(known.iter().all(|p| (0.0..=1.0).contains(p)));
            prop_assert!((known.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }

        #[test]
        fn more_evidence_never_lowers_a_class(
            candidates in candidates(), rights in prop::collection::vec(candidates_of(4), 1..20), head in 0..HEADS, more in 0.0..5.0f32,
        ) {
            let texts: Vec<(&[Candidate], usize)> = rights.iter().map(|text| (&text[..], 0)).collect();
            let blend = Blend::prior().learn(&texts);
            let mut raised = candidates.clone();
            raised[0].heads[head] += more;
            prop_assert!(blend.known(&raised)[0] >= blend.known(&candidates)[0] - 1e-12);
        }
    }

    fn candidates_of(count: usize) -> impl Strategy<Value = Vec<Candidate>> {
        prop::collection::vec(prop::array::uniform6(-10.0..10.0f32), count).prop_map(|heads| {
            heads.into_iter().enumerate().map(|(class, heads)| Candidate { class, heads, closest: None }).collect()
        })
    }

    /// Two classes; the linear head is right 3 times of 4, the lexical head always, the others say nothing.
    fn texts(count: usize) -> Vec<Vec<Candidate>> {
        (0..count)
            .map(|at| {
                let linear = if at % 4 == 0 { -1.0 } else { 1.0 };
                let of = |class: usize, sign: f32| Candidate {
                    class,
                    heads: [sign * linear, sign, 0.0, 0.0, 0.0, 0.0],
                    closest: None,
                };
                vec![of(0, 1.0), of(1, -1.0)]
            })
            .collect()
    }

    #[test]
    fn the_head_that_is_right_is_trusted() {
        let texts = texts(400);
        let labelled: Vec<(&[Candidate], usize)> = texts.iter().map(|text| (&text[..], 0)).collect();
        let blend = Blend::prior().learn(&labelled);
        assert!(blend.weights[1] > 1.2 && blend.weights[1] > 3.0 * blend.weights[0], "{:?}", blend.weights);
    }

    #[test]
    fn with_little_to_learn_from_the_prior_stands() {
        assert_eq!(Blend::prior().learn(&[]).weights.to_vec(), PRIOR);
        let texts = texts(1);
        let blend = Blend::prior().learn(&[(&texts[0], 0)]);
        assert!(blend.weights.iter().zip(PRIOR).all(|(weight, prior)| (weight - prior).abs() < 0.3 * prior));
    }
}
