//! The head on vectors: multinomial logistic regression with an L2 penalty on the weights and none on the intercepts, by
//! full-batch L-BFGS. The objective is convex, so the result hardly depends on where the search starts or ends.
//!
//! It starts at the classes' mean directions, which classify by themselves, and is preconditioned with the curvature at
//! zero, `XᵀX / outputs + penalty`, which is the same for every output: one factorisation of the vectors' width squared.
//! Measured on 15,000 queries of 150 classes, 8 steps are as good as 40 without (95.9 against 95.8 of 100 right).

use super::extend::{Ranks, log_sum_exp};
use super::matrix::{Cholesky, Factor, Matrix, product};
use crate::vector::{add, dot, scale};

/// Strength of the L2 penalty against the summed loss.
const PENALTY: f32 = 0.1;
/// Steps, by the number of texts times outputs: where steps are cheap they go on until they gain nothing.
const STEPS: [(usize, usize); 3] = [(1_500_000, 30), (20_000_000, 16), (usize::MAX, 4)];
/// A step that lowers the objective by less than this share ends the search.
const ENOUGH: f64 = 1e-4;
/// Length of the starting weights: what the means of a hundred queries a class grow to.
const START: f32 = 12.0;
/// Pairs of (step, change of gradient) that L-BFGS remembers.
const MEMORY: usize = 8;
/// Texts whose scores are held at once, so that memory does not grow with texts × classes.
const CHUNK: usize = 1024;

#[derive(Debug)]
pub(crate) struct Linear {
    /// One row an output: the weights, then the intercept.
    rows: Matrix,
}

/// One vector to learn from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample<'a> {
    pub(crate) vector: &'a [f32],
    pub(crate) output: usize,
    /// How much it counts, about 1 on average.
    pub(crate) weight: f32,
}

impl Linear {
    /// Vectors of another length than `width` teach nothing; an output without any keeps an intercept of nearly zero.
    pub(crate) fn fit(samples: &[Sample<'_>], width: usize, outputs: usize) -> Self {
        let problem = Problem::new(samples, width, outputs);
        let columns = minimise(&problem);
        Self { rows: Matrix { columns: outputs, values: columns }.transposed() }
    }

    /// The outputs in `kept`, by their numbers here and in this order, and where there is none a new one. The rows of
    /// the others stand as they are, so a new row has only to be told apart from all of these together: that takes a
    /// sample of the texts, and no time to speak of. `samples` have the new numbers.
    pub(crate) fn extended(&self, samples: &[Sample<'_>], kept: &[Option<usize>]) -> Self {
        let columns = self.rows.columns;
        let old: Vec<usize> = kept.iter().copied().flatten().collect();
        let ranks = Ranks::new(kept);
        let ahead = samples.iter().map(|sample| {
            let scores = self.scores(sample.vector);
            log_sum_exp(old.iter().map(|&output| scores[output]))
        });
        let ahead: Vec<f32> = if old.is_empty() { Vec::new() } else { ahead.collect() };
        let together: Vec<Sample<'_>> =
            samples.iter().map(|sample| Sample { output: ranks.of[sample.output], ..*sample }).collect();
        let mut problem = Problem::new(&together, columns.saturating_sub(1), ranks.count);
        problem.lead(&together, &ahead);
        let learned = Matrix { columns: ranks.count, values: minimise(&problem) }.transposed();
        let mut rows = Matrix::zeros(kept.len(), columns);
        for (output, old) in kept.iter().enumerate() {
            let row = rows.row_mut(output);
            if let Some(old) = old {
                row.copy_from_slice(self.rows.row(*old));
            } else {
                // Only differences of scores mean anything, and those of the others are to stay.
                row.copy_from_slice(learned.row(ranks.of[output]));
                add(row, -1.0, learned.row(0));
            }
        }
        Self { rows }
    }

    pub(crate) fn outputs(&self) -> usize {
        self.rows.rows()
    }

    /// The score of every output, a logit; the intercepts alone for a vector of another length.
    pub(crate) fn scores(&self, vector: &[f32]) -> Vec<f32> {
        let width = self.rows.columns.saturating_sub(1);
        let fits = vector.len() == width;
        self.rows
            .values
            .chunks_exact(width + 1)
            .map(|row| row[width] + if fits { dot(&row[..width], vector) } else { 0.0 })
            .collect()
    }
}

struct Problem {
    /// A row a text: the vector, then a one for the intercept.
    texts: Matrix,
    outputs: usize,
    /// For each text the output it belongs to and its weight.
    truth: Vec<(usize, f32)>,
    /// For each text what the first output scores beside its weights; empty for nothing.
    ahead: Vec<f32>,
}

impl Problem {
    fn new(samples: &[Sample<'_>], width: usize, outputs: usize) -> Self {
        let mut texts = Matrix { columns: width + 1, values: Vec::with_capacity(samples.len() * (width + 1)) };
        let mut truth = Vec::with_capacity(samples.len());
        for sample in samples.iter().filter(|sample| sample.vector.len() == width) {
            texts.values.extend_from_slice(sample.vector);
            texts.values.push(1.0);
            truth.push((sample.output, sample.weight));
        }
        Self { texts, outputs, truth, ahead: Vec::new() }
    }

    /// Gives the first output a head start, one a sample.
    fn lead(&mut self, samples: &[Sample<'_>], ahead: &[f32]) {
        let read = samples.iter().zip(ahead).filter(|(sample, _)| sample.vector.len() + 1 == self.texts.columns);
        self.ahead = read.map(|(_, ahead)| *ahead).collect();
    }

    /// The objective and its gradient at `weights`, which has a row for each column of the texts.
    fn evaluate(&self, weights: &[f32]) -> (f64, Vec<f32>) {
        let columns = self.texts.columns;
        let mut gradient: Vec<f32> = weights.iter().map(|weight| PENALTY * weight).collect();
        let intercepts = (columns - 1) * self.outputs;
        gradient[intercepts..].fill(0.0);
        let penalised = &weights[..intercepts];
        let mut loss = 0.5 * f64::from(PENALTY) * inner(penalised, penalised);
        let mut scores = vec![0.0f32; CHUNK.min(self.truth.len()) * self.outputs];
        let mut ahead = self.ahead.iter();
        for (texts, truth) in self.texts.values.chunks(CHUNK * columns).zip(self.truth.chunks(CHUNK)) {
            let texts = Factor::new(texts, columns);
            let scores = &mut scores[..truth.len() * self.outputs];
            product(texts, Factor::new(weights, self.outputs), 0.0, scores);
            for (scores, &(output, weight)) in scores.chunks_exact_mut(self.outputs).zip(truth) {
                scores[0] += ahead.next().copied().unwrap_or_default();
                loss += f64::from(weight) * to_residuals(scores, output, weight);
            }
            product(texts.turned(), Factor::new(scores, self.outputs), 1.0, &mut gradient);
        }
        (loss, gradient)
    }

    fn steps(&self) -> usize {
        let size = self.truth.len() * self.outputs;
        STEPS.iter().find(|(most, _)| size <= *most).map_or(1, |(_, steps)| *steps)
    }

    /// The mean direction of each output less the mean of these, and no intercepts.
    fn start(&self) -> Vec<f32> {
        let columns = self.texts.columns;
        let mut means = Matrix::zeros(self.outputs, columns);
        for (row, &(output, weight)) in self.texts.values.chunks_exact(columns).zip(&self.truth) {
            add(&mut means.row_mut(output)[..columns - 1], weight, row);
        }
        let mut middle = vec![0.0; columns];
        for output in 0..self.outputs {
            let mean = means.row_mut(output);
            let norm = dot(mean, mean).sqrt();
            scale(mean, if norm > 0.0 { START / norm } else { 0.0 });
            add(&mut middle, (self.outputs as f32).recip(), mean);
        }
        for output in 0..self.outputs {
            add(means.row_mut(output), -1.0, &middle);
        }
        means.transposed().values
    }

    fn curvature(&self) -> Option<Cholesky> {
        let columns = self.texts.columns;
        let weighted: Vec<f32> = self
            .texts
            .values
            .chunks_exact(columns)
            .zip(&self.truth)
            .flat_map(|(row, &(_, weight))| row.iter().map(move |value| value * weight))
            .collect();
        let mut moments = vec![0.0; columns * columns];
        product(Factor::new(&weighted, columns).turned(), Factor::new(&self.texts.values, columns), 0.0, &mut moments);
        let share = 1.0 / self.outputs.max(1) as f64;
        Cholesky::new(columns, |row, column| {
            // The intercept has no penalty; a trace of one keeps the factorisation from failing on a lone class.
            let penalty = if row != column {
                0.0
            } else if row + 1 == columns {
                1e-3
            } else {
                f64::from(PENALTY)
            };
            f64::from(moments[row * columns + column]) * share + penalty
        })
    }
}

/// Turns the scores of a text into its residuals, weighted, and returns its loss, unweighted.
fn to_residuals(scores: &mut [f32], output: usize, weight: f32) -> f64 {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let own = scores[output] - largest;
    let mut sum = 0.0f32;
    for score in scores.iter_mut() {
        let below = *score - largest;
        *score = if below < -20.0 { 0.0 } else { below.exp() };
        sum += *score;
    }
    scale(scores, weight / sum);
    scores[output] -= weight;
    f64::from(sum.ln() - own)
}

/// L-BFGS with a backtracking line search (Nocedal and Wright, algorithms 7.4 and 3.1).
fn minimise(problem: &Problem) -> Vec<f32> {
    if problem.truth.is_empty() || problem.outputs < 2 {
        return vec![0.0; problem.texts.columns * problem.outputs];
    }
    let mut at = problem.start();
    let curvature = problem.curvature();
    let (mut value, mut gradient) = problem.evaluate(&at);
    let mut pairs: Vec<Pair> = Vec::new();
    for _ in 0..problem.steps() {
        let direction = descent(&gradient, &pairs, curvature.as_ref(), problem.outputs);
        let slope = inner(&direction, &gradient);
        let Some((point, new_value, new_gradient)) = search(problem, (&at, value), &direction, slope) else {
            break; // at the precision of f32 sums: as low as it gets
        };
        let step = difference(&point, &at);
        let change = difference(&new_gradient, &gradient);
        let bend = inner(&step, &change);
        if bend > 1e-12 {
            if pairs.len() == MEMORY {
                pairs.remove(0);
            }
            pairs.push(Pair { step, change, bend });
        }
        let gained = value - new_value;
        (at, value, gradient) = (point, new_value, new_gradient);
        if gained < ENOUGH * value {
            break;
        }
    }
    at
}

/// The first point along `direction` that lowers the objective enough, with its value and gradient.
fn search(
    problem: &Problem,
    (at, value): (&[f32], f64),
    direction: &[f32],
    slope: f64,
) -> Option<(Vec<f32>, f64, Vec<f32>)> {
    let mut length = 1.0f32;
    for _ in 0..12 {
        let point: Vec<f32> = at.iter().zip(direction).map(|(x, d)| x + length * d).collect();
        let (new_value, new_gradient) = problem.evaluate(&point);
        if new_value <= value + 1e-4 * f64::from(length) * slope {
            return Some((point, new_value, new_gradient));
        }
        length *= 0.4;
    }
    None
}

struct Pair {
    step: Vec<f32>,
    change: Vec<f32>,
    bend: f64,
}

/// The two-loop recursion around the preconditioner.
fn descent(gradient: &[f32], pairs: &[Pair], curvature: Option<&Cholesky>, outputs: usize) -> Vec<f32> {
    let mut direction: Vec<f32> = gradient.iter().map(|slope| -slope).collect();
    let mut shares = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let share = inner(&pair.step, &direction) / pair.bend;
        add(&mut direction, -share as f32, &pair.change);
        shares.push(share);
    }
    if let Some(curvature) = curvature {
        curvature.solve(&mut direction, outputs);
    }
    if let Some(last) = pairs.last() {
        // The curvature has the right shape but, away from zero, not the right size.
        let mut expected = last.change.clone();
        if let Some(curvature) = curvature {
            curvature.solve(&mut expected, outputs);
        }
        scale(&mut direction, (last.bend / inner(&last.change, &expected)) as f32);
    }
    for (pair, share) in pairs.iter().zip(shares.iter().rev()) {
        let correction = inner(&pair.change, &direction) / pair.bend;
        add(&mut direction, (share - correction) as f32, &pair.step);
    }
    direction
}

fn inner(a: &[f32], b: &[f32]) -> f64 {
    // In blocks: f32 sums of a thousand are exact enough and four times as fast as f64 throughout.
    a.chunks(1024).zip(b.chunks(1024)).map(|(a, b)| f64::from(dot(a, b))).sum()
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(x, y)| x - y).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: [(&[f32], usize); 7] = [
        (&[1.0, 0.0, 0.0], 0),
        (&[0.96, 0.28, 0.0], 0),
        (&[0.0, 1.0, 0.0], 1),
        (&[0.28, 0.96, 0.0], 1),
        (&[0.0, 0.96, 0.28], 1),
        (&[0.0, 0.8, 0.6], 1),
        (&[0.0, 0.0, 1.0], 2),
    ];

    fn samples<'a>(data: &[(&'a [f32], usize)]) -> Vec<Sample<'a>> {
        data.iter().map(|&(vector, output)| Sample { vector, output, weight: 1.0 }).collect()
    }

    fn probabilities(head: &Linear, vector: &[f32]) -> Vec<f64> {
        let powers: Vec<f64> = head.scores(vector).into_iter().map(|score| f64::from(score).exp()).collect();
        powers.iter().map(|power| power / powers.iter().sum::<f64>()).collect()
    }

    #[test]
    fn separable_classes_are_told_apart() {
        let head = Linear::fit(&samples(&DATA), 3, 3);
        for (vector, class) in DATA {
            let p = probabilities(&head, vector);
            let best = (0..3).max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap();
            assert_eq!(best, class, "{vector:?} → {p:?}");
        }
    }

    #[test]
    fn the_fit_ends_where_the_gradient_nearly_vanishes() {
        let problem = Problem::new(&samples(&DATA), 3, 3);
        let (start, end) = (problem.evaluate(&problem.start()).1, problem.evaluate(&minimise(&problem)).1);
        assert!(inner(&end, &end) < 1e-3 * inner(&start, &start));
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let problem = Problem::new(&samples(&DATA), 3, 3);
        let at: Vec<f32> = (0..12u8).map(|i| f32::from(i) * 0.1 - 0.5).collect();
        let (_, gradient) = problem.evaluate(&at);
        for i in 0..at.len() {
            let moved = |by: f32| {
                let mut point = at.clone();
                point[i] += by;
                problem.evaluate(&point).0
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient[i])).abs() < 1e-3, "weight {i}: {slope} against {}", gradient[i]);
        }
    }

    #[test]
    fn weights_keep_a_large_class_from_winning_by_its_size() {
        let mut data = vec![Sample { vector: &[1.0, 0.0], output: 0, weight: 50.0 }];
        data.extend(std::iter::repeat_n(Sample { vector: &[0.0, 1.0], output: 1, weight: 0.5 }, 100));
        let half = std::f32::consts::FRAC_1_SQRT_2;
        let p = probabilities(&Linear::fit(&data, 2, 2), &[half, half]);
        assert!((p[0] - 0.5).abs() < 0.05, "{p:?}");
    }

    #[test]
    fn without_vectors_every_output_is_alike() {
        let head = Linear::fit(&[Sample { vector: &[], output: 1, weight: 1.0 }], 0, 3);
        assert_eq!(head.scores(&[]).len(), 3);
        let none = Linear::fit(&[], 4, 2);
        assert_eq!(none.scores(&[1.0, 0.0, 0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(none.scores(&[1.0]), [0.0, 0.0]);
    }
}
