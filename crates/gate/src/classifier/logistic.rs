//! Logistic regression on a handful of facts that starts from a prior: what is learned is a correction to a score that
//! stands by itself, and with little to learn from it stays near nothing. What was learned from one kind of text is in
//! turn the prior for another kind.

use crate::heads::matrix::Cholesky;

/// Strength of the pull to what was known before, for facts in units of their own spread: to no correction at first, and
/// later to the first correction. The intercept is nearly free.
const PULL: f64 = 1.0;
const LATER_PULL: f64 = 10.0;
const INTERCEPT_PULL: f64 = 0.01;
const MAX_STEPS: usize = 30;

/// `score + intercept + weights · (facts − centre) / spread`, a logit.
#[derive(Clone, Debug)]
pub(crate) struct Logistic<const N: usize> {
    centre: [f64; N],
    spread: [f64; N],
    weights: [f64; N],
    intercept: f64,
    /// The weights before, and how strongly they pull at these.
    before: [f64; N],
    pull: f64,
}

/// One observation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample<const N: usize> {
    pub(crate) facts: [f64; N],
    /// The logit by the prior alone.
    pub(crate) prior: f64,
    pub(crate) truth: bool,
    pub(crate) weight: f64,
}

impl<const N: usize> Logistic<N> {
    /// The prior, uncorrected.
    pub(crate) fn prior() -> Self {
        Self { centre: [0.0; N], spread: [1.0; N], weights: [0.0; N], intercept: 0.0, before: [0.0; N], pull: PULL }
    }

    pub(crate) fn fit(samples: &[Sample<N>]) -> Self {
        Self::standardised(samples).minimised(samples)
    }

    /// Corrects what is known by other observations.
    pub(crate) fn refit(&self, samples: &[Sample<N>]) -> Self {
        Self { before: self.weights, pull: LATER_PULL, ..self.clone() }.minimised(samples)
    }

    /// By Newton's method with halved steps where a full one overshoots.
    fn minimised(self, samples: &[Sample<N>]) -> Self {
        let mut fitted = self;
        let mut loss = fitted.loss(samples);
        for _ in 0..MAX_STEPS {
            let Some(step) = fitted.newton(samples) else { break };
            let (next, lower) = fitted.descend(samples, &step, loss);
            let gained = loss - lower;
            (fitted, loss) = (next, lower);
            if gained <= 1e-7 * loss.abs() {
                break;
            }
        }
        fitted
    }

    pub(crate) fn probability(&self, facts: &[f64; N], prior: f64) -> f64 {
        sigmoid(self.logit(facts, prior))
    }

    fn logit(&self, facts: &[f64; N], prior: f64) -> f64 {
        prior + self.intercept + (0..N).map(|at| self.weights[at] * self.standard(facts, at)).sum::<f64>()
    }

    fn standard(&self, facts: &[f64; N], at: usize) -> f64 {
        (facts[at] - self.centre[at]) / self.spread[at]
    }

    fn standardised(samples: &[Sample<N>]) -> Self {
        let mut fitted = Self::prior();
        let count = samples.len().max(1) as f64;
        for at in 0..N {
            let mean = samples.iter().map(|sample| sample.facts[at]).sum::<f64>() / count;
            let variance = samples.iter().map(|sample| (sample.facts[at] - mean).powi(2)).sum::<f64>() / count;
            fitted.centre[at] = mean;
            // A fact that never varied says nothing; should it vary one day, it must not shout.
            fitted.spread[at] = if variance > 1e-10 { variance.sqrt() + 1e-3 } else { 1.0 };
        }
        fitted
    }

    fn loss(&self, samples: &[Sample<N>]) -> f64 {
        let fit: f64 = samples
            .iter()
            .map(|sample| {
                let logit = self.logit(&sample.facts, sample.prior);
                sample.weight * softplus(if sample.truth { -logit } else { logit })
            })
            .sum();
        let moved: f64 = self.weights.iter().zip(self.before).map(|(weight, before)| (weight - before).powi(2)).sum();
        fit + 0.5 * (self.pull * moved + INTERCEPT_PULL * self.intercept * self.intercept)
    }

    /// The step to take off the weights and, last, the intercept.
    fn newton(&self, samples: &[Sample<N>]) -> Option<Vec<f32>> {
        let size = N + 1;
        let mut gradient: Vec<f64> =
            self.weights.iter().zip(self.before).map(|(weight, before)| self.pull * (weight - before)).collect();
        gradient.push(INTERCEPT_PULL * self.intercept);
        let mut curvature = vec![0.0; size * size];
        for at in 0..N {
            curvature[at * size + at] = self.pull;
        }
        curvature[size * size - 1] = INTERCEPT_PULL;
        let mut row = vec![1.0; size];
        for sample in samples {
            let p = self.probability(&sample.facts, sample.prior);
            let slope = sample.weight * (p - f64::from(u8::from(sample.truth)));
            let bend = sample.weight * p * (1.0 - p);
            (0..N).for_each(|at| row[at] = self.standard(&sample.facts, at));
            for at in 0..size {
                gradient[at] += slope * row[at];
                for other in 0..=at {
                    curvature[at * size + other] += bend * row[at] * row[other];
                }
            }
        }
        let factors = Cholesky::new(size, |row, column| curvature[row * size + column])?;
        let mut step: Vec<f32> = gradient.into_iter().map(|slope| slope as f32).collect();
        factors.solve(&mut step, 1);
        Some(step)
    }

    fn descend(&self, samples: &[Sample<N>], step: &[f32], loss: f64) -> (Self, f64) {
        let mut length = 1.0;
        for _ in 0..8 {
            let mut next = self.clone();
            for (weight, step) in next.weights.iter_mut().chain([&mut next.intercept]).zip(step) {
                *weight -= length * f64::from(*step);
            }
            let lower = next.loss(samples);
            if lower < loss {
                return (next, lower);
            }
            length *= 0.5;
        }
        (self.clone(), loss)
    }
}

pub(crate) fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// The logit of a probability, which is kept a millionth away from certainty.
pub(crate) fn logit(probability: f64) -> f64 {
    let kept = probability.clamp(1e-6, 1.0 - 1e-6);
    (kept / (1.0 - kept)).ln()
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` observations whose odds are known: logit = 1 + 2·fact.
    fn known(count: usize) -> Vec<Sample<2>> {
        (0..count)
            .map(|at| {
                let fact = (at % 41) as f64 / 10.0 - 2.0;
                // A low-discrepancy draw, so that shares come out as they should with few observations.
                let draw = (at as f64 * 0.618_033_988_749_895).fract();
                Sample { facts: [fact, 7.0], prior: 0.0, truth: draw < sigmoid(1.0 + 2.0 * fact), weight: 1.0 }
            })
            .collect()
    }

    #[test]
    fn known_odds_are_found_again() {
        let fitted = Logistic::fit(&known(20_000));
        for fact in [-1.5, -0.5, 0.0, 1.0] {
            let p = fitted.probability(&[fact, 7.0], 0.0);
            assert!((p - sigmoid(1.0 + 2.0 * fact)).abs() < 0.02, "{fact}: {p}");
        }
    }

    #[test]
    fn a_fact_that_never_varied_does_not_shout() {
        let fitted = Logistic::fit(&known(2000));
        assert!((fitted.probability(&[0.5, 7.0], 0.0) - fitted.probability(&[0.5, 8.0], 0.0)).abs() < 1e-6);
    }

    #[test]
    fn with_nothing_to_learn_from_the_prior_stands() {
        let fitted = Logistic::<2>::fit(&[]);
        assert!((fitted.probability(&[3.0, -3.0], 1.2) - sigmoid(1.2)).abs() < 1e-12);
        let one = Logistic::fit(&[Sample { facts: [1.0, 0.0], prior: 0.0, truth: true, weight: 1.0 }]);
        assert!(one.probability(&[-5.0, 0.0], 0.0) > 0.0);
    }

    #[test]
    fn facts_that_separate_perfectly_leave_finite_weights() {
        let samples: Vec<Sample<1>> =
            (0..100).map(|at| Sample { facts: [f64::from(at)], prior: 0.0, truth: at >= 50, weight: 1.0 }).collect();
        let fitted = Logistic::fit(&samples);
        assert!(fitted.weights[0].is_finite() && fitted.probability(&[99.0], 0.0) > 0.95);
    }
}
