//! Prototypes: a class is at most 16 directions, and a query is close to the class when it is close to some of them.
//! A class with several themes (doses and contraindications, say) keeps them apart where a centroid would blur them.

use crate::vector::dot;

/// Most prototypes a class. A class with fewer vectors keeps each of them.
pub(crate) const MAX_PROTOTYPES: usize = 16;
const MAX_ROUNDS: usize = 20;
/// How much the nearest prototypes count above the others. The nearest alone is the wrong measure: with 36 examples an
/// expert, 5-fold accuracy was 0.74 by the nearest and 0.84 by the soft maximum at this sharpness.
const SHARPNESS: f64 = 8.0;

#[derive(Debug)]
pub(crate) struct Prototypes {
    centres: Vec<Vec<f32>>,
}

impl Prototypes {
    /// Spherical k-means over unit vectors. The first centre is the first vector and each further one the vector
    /// farthest from those chosen, so nothing is drawn by chance.
    pub(crate) fn fit(vectors: &[&[f32]]) -> Self {
        let mut centres = spread(vectors);
        if vectors.len() > MAX_PROTOTYPES {
            let mut owners = Vec::new();
            for _ in 0..MAX_ROUNDS {
                let assigned: Vec<usize> = vectors.iter().map(|vector| nearest(&centres, vector)).collect();
                if assigned == owners {
                    break;
                }
                owners = assigned;
                for (at, centre) in centres.iter_mut().enumerate() {
                    if let Some(mean) =
                        direction(vectors.iter().zip(&owners).filter(|(_, o)| **o == at).map(|(v, _)| *v))
                    {
                        *centre = mean;
                    }
                }
            }
        }
        Self { centres }
    }

    /// A soft maximum of the cosines to the prototypes, in -1..=1: their mean when all are equal, and at most
    /// `ln(prototypes) / SHARPNESS` below the largest. -1 without prototypes.
    pub(crate) fn similarity(&self, vector: &[f32]) -> f64 {
        if self.centres.is_empty() {
            return -1.0;
        }
        let powers = self.centres.iter().map(|centre| (SHARPNESS * f64::from(dot(centre, vector))).exp());
        (powers.sum::<f64>() / self.centres.len() as f64).ln() / SHARPNESS
    }
}

fn spread(vectors: &[&[f32]]) -> Vec<Vec<f32>> {
    let mut centres: Vec<Vec<f32>> = Vec::new();
    let mut closest = vec![f32::NEG_INFINITY; vectors.len()];
    let mut next = vectors.first().copied();
    while let Some(vector) = next.filter(|_| centres.len() < MAX_PROTOTYPES) {
        for (best, other) in closest.iter_mut().zip(vectors) {
            *best = best.max(dot(vector, other));
        }
        centres.push(vector.to_vec());
        // Strictly less, so that the first of equals is taken; a vector that is a centre already adds nothing.
        let mut farthest = 1.0 - 1e-6;
        next = None;
        for (best, other) in closest.iter().zip(vectors) {
            if *best < farthest {
                farthest = *best;
                next = Some(other);
            }
        }
    }
    centres
}

fn nearest(centres: &[Vec<f32>], vector: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (at, centre) in centres.iter().enumerate() {
        let similarity = dot(centre, vector);
        if similarity > best.1 {
            best = (at, similarity);
        }
    }
    best.0
}

/// The mean, scaled to unit norm; `None` for no vectors or ones that cancel out.
fn direction<'a>(vectors: impl Iterator<Item = &'a [f32]>) -> Option<Vec<f32>> {
    let mut sum: Vec<f32> = Vec::new();
    for vector in vectors {
        sum.resize(vector.len(), 0.0);
        for (total, value) in sum.iter_mut().zip(vector) {
            *total += value;
        }
    }
    let norm = dot(&sum, &sum).sqrt();
    (norm > 1e-6).then(|| sum.into_iter().map(|value| value / norm).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_circle(degrees: f32) -> Vec<f32> {
        vec![degrees.to_radians().cos(), degrees.to_radians().sin()]
    }

    fn fit(vectors: &[Vec<f32>]) -> Prototypes {
        Prototypes::fit(&vectors.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn few_vectors_are_their_own_prototypes() {
        let vectors: Vec<Vec<f32>> = [0.0, 40.0, 170.0].map(on_circle).to_vec();
        let centres = fit(&vectors).centres;
        assert_eq!(centres.len(), vectors.len());
        assert!(vectors.iter().all(|vector| centres.contains(vector)));
    }

    #[test]
    fn many_vectors_become_sixteen_that_cover_them() {
        let vectors: Vec<Vec<f32>> = (0..200).map(|i| on_circle(i as f32 * 1.8)).collect();
        let head = fit(&vectors);
        assert_eq!(head.centres.len(), MAX_PROTOTYPES);
        for vector in &vectors {
            let nearest = head.centres.iter().map(|centre| dot(centre, vector)).fold(-1.0, f32::max);
            assert!(nearest > 0.9, "{nearest}");
        }
    }

    #[test]
    fn a_class_is_closer_the_nearer_its_themes_are() {
        let head = fit(&[0.0, 10.0, 90.0, 100.0].map(on_circle));
        let [on_theme, between, away] = [5.0, 50.0, 250.0].map(|degrees| head.similarity(&on_circle(degrees)));
        assert!(1.0 > on_theme && on_theme > between && between > away && away > -1.0, "{on_theme} {between} {away}");
    }

    #[test]
    fn repeated_vectors_do_not_take_up_prototypes() {
        let vectors: Vec<Vec<f32>> = (0..40).map(|i| on_circle(if i % 2 == 0 { 0.0 } else { 90.0 })).collect();
        assert_eq!(fit(&vectors).centres.len(), 2);
    }
}
