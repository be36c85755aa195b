//! Neighbours: the nearest examples of a class, and how near they are. Bounded: a class keeps so many exemplars and
//! no more, evenly spread over its examples, so that a query's cost does not grow with what an operator has collected.

use crate::vector::{Quantised, dot_bytes};

/// So many of the nearest are kept.
const KEPT: usize = 20;

#[derive(Debug)]
pub(crate) struct Exemplars {
    width: usize,
    /// The vectors in bytes, one after the other, and what one unit of each is worth.
    bytes: Vec<i8>,
    scales: Vec<f32>,
    /// Where each stands among the examples.
    at: Vec<usize>,
}

/// How near a text is to some exemplars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Nearness {
    /// The place among the examples of the nearest.
    pub(crate) at: Option<usize>,
    /// Cosines to the nearest, falling; below any cosine where there are fewer.
    best: [f32; KEPT],
}

impl Exemplars {
    /// Of `examples`, in pairs of place and vector, at most `most`. Empty vectors are none.
    pub(crate) fn new(examples: &[(usize, &[f32])], most: usize) -> Self {
        let examples: Vec<_> = examples.iter().filter(|(_, vector)| !vector.is_empty()).collect();
        let width = examples.first().map_or(0, |(_, vector)| vector.len());
        let kept = examples.len().min(most);
        let mut exemplars = Self { width, bytes: Vec::with_capacity(kept * width), scales: Vec::new(), at: Vec::new() };
        for (at, vector) in (0..kept).map(|pick| examples[pick * examples.len() / kept]) {
            if vector.len() == width {
                let Quantised { values, scale } = Quantised::new(vector);
                exemplars.bytes.extend(values);
                exemplars.scales.push(scale);
                exemplars.at.push(*at);
            }
        }
        exemplars
    }

    pub(crate) fn len(&self) -> usize {
        self.at.len()
    }

    pub(crate) fn nearness(&self, vector: &Quantised) -> Nearness {
        let mut found = Nearness::default();
        if vector.values.len() != self.width {
            return found;
        }
        for (index, row) in self.bytes.chunks_exact(self.width.max(1)).enumerate() {
            let similarity = dot_bytes(row, &vector.values) as f32 * self.scales[index] * vector.scale;
            if similarity > found.best[0] {
                found.at = Some(self.at[index]);
            }
            insert(&mut found.best, similarity);
        }
        found
    }
}

impl Nearness {
    /// Mean cosine to the nearest `count`, 20 at most, or to what there is; `None` without any.
    pub(crate) fn mean(&self, count: usize) -> Option<f32> {
        let kept = self.best.iter().take(count).take_while(|similarity| similarity.is_finite()).count();
        (kept > 0).then(|| self.best[..kept].iter().sum::<f32>() / kept as f32)
    }

    /// The nearest, by its place among the examples, and the cosine to it.
    pub(crate) fn nearest(&self) -> Option<(usize, f32)> {
        self.at.map(|at| (at, self.best[0]))
    }

    /// Counts what is near to either; the places of the other are of another class and are left out.
    pub(crate) fn merge(&mut self, other: &Self) {
        for similarity in other.best.into_iter().take_while(|similarity| similarity.is_finite()) {
            insert(&mut self.best, similarity);
        }
    }
}

impl Default for Nearness {
    fn default() -> Self {
        Self { at: None, best: [f32::NEG_INFINITY; KEPT] }
    }
}

/// Keeps the largest, in falling order.
fn insert(best: &mut [f32; KEPT], value: f32) {
    if value <= best[KEPT - 1] {
        return;
    }
    let at = best.partition_point(|kept| *kept >= value);
    best[at..].rotate_right(1);
    best[at] = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_named_and_means_are_over_the_nearest() {
        let vectors = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6], [-1.0, 0.0]];
        let examples: Vec<(usize, &[f32])> = vectors.iter().enumerate().map(|(at, v)| (at + 10, &v[..])).collect();
        let near = Exemplars::new(&examples, 99).nearness(&Quantised::new(&[1.0, 0.0]));
        assert_eq!(near.nearest().unwrap().0, 10);
        assert!((near.mean(3).unwrap() - (1.0 + 0.8 + 0.6) / 3.0).abs() < 5e-3);
        let mut one = Exemplars::new(&examples[1..2], 99).nearness(&Quantised::new(&[0.6, 0.8]));
        assert!((one.mean(3).unwrap() - 0.8).abs() < 5e-3);
        one.merge(&near);
        assert_eq!(one.nearest().unwrap().0, 11);
        assert!((one.mean(2).unwrap() - 0.9).abs() < 5e-3);
    }

    #[test]
    fn the_bound_keeps_exemplars_from_the_whole_range() {
        let vectors: Vec<[f32; 1]> = (0..1000).map(|at| [at as f32]).collect();
        let examples: Vec<(usize, &[f32])> = vectors.iter().enumerate().map(|(at, v)| (at, &v[..])).collect();
        let exemplars = Exemplars::new(&examples, 4);
        assert_eq!(exemplars.at, [0, 250, 500, 750]);
    }

    #[test]
    fn nothing_is_near_to_nothing() {
        for (examples, vector) in [(&[][..], &[1.0f32][..]), (&[(0, &[][..])], &[]), (&[(0, &[1.0][..])], &[])] {
            let near = Exemplars::new(examples, 9).nearness(&Quantised::new(vector));
            assert_eq!((near.mean(3), near.nearest()), (None, None));
        }
    }
}
