//! Prototypes: a class is at most 16 directions, and a text is close to the class when it is close to some of them.
//! A class with several themes (doses and contraindications, say) keeps them apart where a centroid would blur them.

use super::matrix::Matrix;
use crate::vector::{Quantised, dot, dot_bytes};

/// Most prototypes that come from examples; with the card's there are 16. A class with fewer examples keeps each.
const FROM_EXAMPLES: usize = 15;
const MAX_ROUNDS: usize = 8;
/// How much the nearest prototype counts against the second. The nearest alone is at the mercy of one odd example.
const NEAREST: f32 = 0.75;

#[derive(Debug)]
pub(crate) struct Prototypes {
    centres: Vec<Quantised>,
}

impl Prototypes {
    /// Spherical k-means over unit vectors. The first centre is the first vector and each further one the vector
    /// farthest from those chosen, so nothing is drawn by chance.
    ///
    /// The card, if it has a vector, is one more prototype: what the class says of itself.
    pub(crate) fn fit(vectors: &[&[f32]], card: &[f32]) -> Self {
        let mut centres = spread(vectors);
        if vectors.len() > FROM_EXAMPLES {
            let mut owners = Vec::new();
            for _ in 0..MAX_ROUNDS {
                let assigned: Vec<usize> = vectors.iter().map(|vector| nearest(&centres, vector)).collect();
                if assigned == owners {
                    break;
                }
                owners = assigned;
                move_to_means(&mut centres, vectors, &owners);
            }
        }
        let card = (!card.is_empty()).then_some(card);
        let rows = (0..centres.rows()).map(|at| centres.row(at)).chain(card);
        Self { centres: rows.map(Quantised::new).collect() }
    }

    /// The cosine to the nearest prototype, and a little of that to the second; -1 without prototypes.
    pub(crate) fn similarity(&self, vector: &Quantised) -> f32 {
        let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for centre in self.centres.iter().filter(|centre| centre.values.len() == vector.values.len()) {
            let similarity = dot_bytes(&centre.values, &vector.values) as f32 * centre.scale * vector.scale;
            if similarity > first {
                (first, second) = (similarity, first);
            } else if similarity > second {
                second = similarity;
            }
        }
        match (first.is_finite(), second.is_finite()) {
            (true, true) => NEAREST * first + (1.0 - NEAREST) * second,
            (true, false) => first,
            (false, _) => -1.0,
        }
    }
}

fn spread(vectors: &[&[f32]]) -> Matrix {
    let mut centres = Matrix { columns: vectors.first().map_or(0, |vector| vector.len()), values: Vec::new() };
    let mut closest = vec![f32::NEG_INFINITY; vectors.len()];
    let mut next = vectors.first().copied().filter(|vector| !vector.is_empty());
    while let Some(vector) = next.filter(|_| centres.rows() < FROM_EXAMPLES) {
        for (best, other) in closest.iter_mut().zip(vectors) {
            *best = best.max(dot(vector, other));
        }
        centres.values.extend_from_slice(vector);
        // Strictly less, so that the first of equals is taken; a vector that is a centre already adds nothing.
        let mut farthest = 1.0 - 1e-6;
        next = None;
        for (best, other) in closest.iter().zip(vectors) {
            if *best < farthest && other.len() == centres.columns {
                farthest = *best;
                next = Some(other);
            }
        }
    }
    centres
}

fn nearest(centres: &Matrix, vector: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for at in 0..centres.rows() {
        let similarity = dot(centres.row(at), vector);
        if similarity > best.1 {
            best = (at, similarity);
        }
    }
    best.0
}

/// Each centre to the direction of what it owns. One that owns nothing, or vectors that cancel out, stays.
fn move_to_means(centres: &mut Matrix, vectors: &[&[f32]], owners: &[usize]) {
    let mut sums = Matrix::zeros(centres.rows(), centres.columns);
    for (vector, &owner) in vectors.iter().zip(owners) {
        for (sum, value) in sums.row_mut(owner).iter_mut().zip(*vector) {
            *sum += value;
        }
    }
    for at in 0..sums.rows() {
        let norm = dot(sums.row(at), sums.row(at)).sqrt();
        if norm > 1e-6 {
            for (value, sum) in centres.row_mut(at).iter_mut().zip(sums.row(at)) {
                *value = sum / norm;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_circle(degrees: f32) -> Vec<f32> {
        vec![degrees.to_radians().cos(), degrees.to_radians().sin()]
    }

    fn fit(vectors: &[Vec<f32>]) -> Prototypes {
        Prototypes::fit(&vectors.iter().map(Vec::as_slice).collect::<Vec<_>>(), &[])
    }

    fn closeness(head: &Prototypes, vector: &[f32]) -> f32 {
        head.similarity(&Quantised::new(vector))
    }

    #[test]
    fn few_vectors_are_their_own_prototypes() {
        let vectors: Vec<Vec<f32>> = [0.0, 40.0, 170.0].map(on_circle).to_vec();
        assert_eq!(fit(&vectors).centres.len(), 3);
    }

    #[test]
    fn many_vectors_become_few_that_cover_them() {
        let vectors: Vec<Vec<f32>> = (0..200).map(|i| on_circle(i as f32 * 1.8)).collect();
        let head = fit(&vectors);
        assert_eq!(head.centres.len(), FROM_EXAMPLES);
        assert!(vectors.iter().all(|vector| closeness(&head, vector) > 0.8));
    }

    #[test]
    fn a_class_is_closer_the_nearer_its_themes_are() {
        let head = fit(&[0.0, 10.0, 90.0, 100.0].map(on_circle));
        let [on_theme, between, away] = [5.0, 50.0, 250.0].map(|degrees| closeness(&head, &on_circle(degrees)));
        assert!(1.0 >= on_theme && on_theme > between && between > away && away >= -1.0, "{on_theme} {between} {away}");
    }

    #[test]
    fn repeated_vectors_do_not_take_up_prototypes() {
        let vectors: Vec<Vec<f32>> = (0..40).map(|i| on_circle(if i % 2 == 0 { 0.0 } else { 90.0 })).collect();
        assert_eq!(fit(&vectors).centres.len(), 2);
    }

    #[test]
    fn the_card_alone_is_a_prototype_and_nothing_is_none() {
        assert!(closeness(&Prototypes::fit(&[], &on_circle(30.0)), &on_circle(30.0)) > 0.99);
        assert!(closeness(&fit(&[]), &on_circle(0.0)) <= -1.0);
        assert!(closeness(&fit(&[vec![], vec![]]), &[]) <= -1.0);
    }
}
