//! Vectors side by side, and the rows most like another vector. Pure arithmetic.

/// Rows of equal length, one after another.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    width: usize,
    values: Vec<f32>,
}

impl Matrix {
    pub(crate) fn new(width: usize) -> Matrix {
        Matrix { width, values: Vec::new() }
    }

    /// Appends a row. `row` has the matrix's width; every caller takes rows from one encoder, which checks it.
    pub(crate) fn push(&mut self, row: &[f32]) {
        debug_assert_eq!(row.len(), self.width, "rows of one matrix are equally long");
        self.values.extend_from_slice(row);
    }

    /// The row most like `query`; the first among equals. `None` when there are no rows.
    pub(crate) fn best(&self, query: &[f32]) -> Option<usize> {
        let scores = self.values.chunks_exact(self.width.max(1)).map(|row| dot(row, query)).enumerate();
        scores.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(index, _)| index)
    }
}

/// The positions of the `k` highest scores, best first; of equal ones the first in order, so that the same query
/// always gets the same passages.
pub(crate) fn top(scores: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    let by_rank = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if k < order.len() {
        // Linear in the number of passages, where a full sort is not.
        order.select_nth_unstable_by(k, by_rank);
        order.truncate(k);
    }
    order.sort_unstable_by(by_rank);
    order.into_iter().map(|(index, _)| index).collect()
}

/// The cosine, where both are of unit length. Eight sums side by side let the compiler use vector instructions, which
/// it may not do with one sum: that would change the rounding.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_scores_keep_their_order() {
        assert_eq!(top(&[0.5, 0.9, 0.5, 0.9], 3), [1, 3, 0]);
        assert_eq!(top(&[0.1], 5), [0]);
        assert!(top(&[], 5).is_empty());
    }

    #[test]
    fn the_best_row_is_the_first_among_equals() {
        let mut matrix = Matrix::new(2);
        assert_eq!(matrix.best(&[0.0, 1.0]), None);
        for row in [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, 1.0]] {
            matrix.push(&row);
        }
        assert_eq!(matrix.best(&[0.0, 1.0]), Some(1));
        assert_eq!(matrix.best(&[1.0, 0.0]), Some(0));
    }

    proptest! {
        #[test]
        fn top_is_the_start_of_a_full_sort(scores in prop::collection::vec(-1.0f32..1.0, 0..200), k in 0usize..20) {
            let mut sorted: Vec<usize> = (0..scores.len()).collect();
            sorted.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
            sorted.truncate(k);
            prop_assert_eq!(top(&scores, k), sorted);
        }

        #[test]
        fn dot_is_the_sum_of_products(pairs in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 0..50)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let expected: f64 = pairs.iter().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            prop_assert!((f64::from(dot(&a, &b)) - expected).abs() < 1e-4);
        }
    }
}
