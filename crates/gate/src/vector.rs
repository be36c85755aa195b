//! Arithmetic on unit vectors: scaling, dot products, nearest neighbours. No meaning, no text.

use std::sync::Arc;

use crate::encoder::EncodeError;

/// Scales to unit norm, or says why the numbers are no vector.
pub(crate) fn unit(mut values: Vec<f32>) -> Result<Arc<[f32]>, EncodeError> {
    let norm = values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    if !norm.is_finite() {
        return Err(EncodeError::Invalid { problem: "it is not finite" });
    }
    if norm < 1e-12 {
        return Err(EncodeError::Invalid { problem: "it is empty or zero" });
    }
    for value in &mut values {
        *value = (f64::from(*value) / norm) as f32;
    }
    Ok(values.into())
}

/// The dot product, which for unit vectors is the cosine. The shorter of the two lengths counts.
///
/// Eight running sums: a single one makes every addition wait for the one before, and the compiler may not reorder
/// float additions by itself.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// The mean of the `count` largest values, of all if there are fewer, and 0 of none.
pub(crate) fn mean_of_largest(values: impl Iterator<Item = f32>, count: usize) -> f64 {
    let mut best: Vec<f32> = Vec::with_capacity(count + 1);
    for value in values {
        let at = best.partition_point(|&kept| kept >= value);
        if at < count {
            best.insert(at, value);
            best.truncate(count);
        }
    }
    if best.is_empty() { 0.0 } else { best.iter().map(|&value| f64::from(value)).sum::<f64>() / best.len() as f64 }
}

/// Exponentials scaled to sum 1; a softmax that cannot overflow.
pub(crate) fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_counts_the_rest_that_fills_no_chunk() {
        let a: Vec<f32> = (0..19).map(|i| i as f32).collect();
        let expected: f32 = (0..19).map(|i| (i * i) as f32).sum();
        assert!((dot(&a, &a) - expected).abs() < 1e-3);
    }

    #[test]
    fn unit_refuses_what_has_no_direction() {
        assert!(unit(vec![]).is_err());
        assert!(unit(vec![0.0, 0.0]).is_err());
        assert!(unit(vec![1.0, f32::NAN]).is_err());
        assert!(unit(vec![1.0, f32::INFINITY]).is_err());
        assert_eq!(&*unit(vec![3.0, 4.0]).unwrap(), &[0.6, 0.8]);
    }

    #[test]
    fn the_mean_is_over_the_largest_only() {
        let values = [0.1f32, 0.9, 0.5, 0.7];
        assert!((mean_of_largest(values.into_iter(), 2) - 0.8).abs() < 1e-6);
        assert!((mean_of_largest(values.into_iter(), 9) - 0.55).abs() < 1e-6);
        assert!(mean_of_largest(std::iter::empty(), 3).abs() < f64::EPSILON);
    }

    #[test]
    fn softmax_survives_large_scores() {
        let p = softmax(&[1000.0, 1000.0, -1000.0]);
        assert!((p[0] - 0.5).abs() < 1e-12 && p[2].abs() < 1e-12);
    }
}
