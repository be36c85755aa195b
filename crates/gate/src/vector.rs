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

/// Multiplies each of the values.
pub(crate) fn scale(values: &mut [f32], factor: f32) {
    for value in values {
        *value *= factor;
    }
}

/// Calls a function as compiled for AVX2 where the processor has it: the baseline of x86-64 is half as wide. The
/// function is plain Rust, `inline(always)` so that it takes on the features of whom it is called from.
macro_rules! widest {
    ($function:ident($($argument:ident),*)) => {{
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "calling code for AVX2 is unsafe in itself")]
            // SAFETY: the processor has AVX2, it was asked just above; the code is safe Rust.
            return unsafe { avx2::$function($($argument),*) };
        }
        $function($($argument),*)
    }};
}
/// The dot product, which for unit vectors is the cosine. The shorter of the two lengths counts.
///
/// Sixteen running sums: a single one makes every addition wait for the one before, and the compiler may not reorder
/// float additions by itself. The sums are the same on every processor; wider registers only make them sooner.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    widest!(sum_of_products(a, b))
}

/// A vector in bytes with one scale: a quarter of the memory, and exact to about a thousandth of the cosine. What is
/// compared with every text (exemplars, prototypes, cards) is kept this way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quantised {
    pub(crate) values: Vec<i8>,
    /// What one unit is worth.
    pub(crate) scale: f32,
}

impl Quantised {
    pub(crate) fn new(vector: &[f32]) -> Self {
        let largest = vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = largest / 127.0;
        let values = vector.iter().map(|value| if scale > 0.0 { (value / scale).round() as i8 } else { 0 }).collect();
        Self { values, scale }
    }
}

/// The dot product of vectors in bytes, in units of both scales. At most 130,000 numbers long, else it could overflow.
pub(crate) fn dot_bytes(a: &[i8], b: &[i8]) -> i32 {
    widest!(sum_of_byte_products(a, b))
}

/// Adds `factor` times the bytes to the sums.
pub(crate) fn add_bytes(sums: &mut [f32], factor: f32, bytes: &[i8]) {
    widest!(add_scaled_bytes(sums, factor, bytes));
}

/// Adds `factor` times the values to the sums.
pub(crate) fn add(sums: &mut [f32], factor: f32, values: &[f32]) {
    widest!(add_scaled(sums, factor, values));
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    #[target_feature(enable = "avx2")]
    pub(super) fn sum_of_products(a: &[f32], b: &[f32]) -> f32 {
        super::sum_of_products(a, b)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn sum_of_byte_products(a: &[i8], b: &[i8]) -> i32 {
        super::sum_of_byte_products(a, b)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn add_scaled_bytes(sums: &mut [f32], factor: f32, bytes: &[i8]) {
        super::add_scaled_bytes(sums, factor, bytes);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn add_scaled(sums: &mut [f32], factor: f32, values: &[f32]) {
        super::add_scaled(sums, factor, values);
    }
}

#[expect(clippy::inline_always, reason = "has to take on the features of its caller, see `widest`")]
#[inline(always)]
fn sum_of_products(a: &[f32], b: &[f32]) -> f32 {
    let both = a.len().min(b.len());
    let (a, b) = (&a[..both], &b[..both]);
    let mut sums = [0.0f32; 16];
    let (a_chunks, b_chunks) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[expect(clippy::inline_always, reason = "has to take on the features of its caller, see `widest`")]
#[inline(always)]
fn sum_of_byte_products(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum()
}

#[expect(clippy::inline_always, reason = "has to take on the features of its caller, see `widest`")]
#[inline(always)]
fn add_scaled_bytes(sums: &mut [f32], factor: f32, bytes: &[i8]) {
    for (sum, byte) in sums.iter_mut().zip(bytes) {
        *sum += factor * f32::from(*byte);
    }
}

#[expect(clippy::inline_always, reason = "has to take on the features of its caller, see `widest`")]
#[inline(always)]
fn add_scaled(sums: &mut [f32], factor: f32, values: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
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
    fn the_shorter_length_counts() {
        let (short, long) = ([1.0f32; 20], [1.0f32; 40]);
        assert!((dot(&short, &long) - 20.0).abs() < 1e-6 && dot(&short, &[]).abs() < 1e-9);
    }

    #[test]
    fn bytes_keep_the_cosine() {
        let of = |step: f32| unit((0..384u16).map(|i| (f32::from(i) * step).sin()).collect()).unwrap();
        for (x, y) in [(of(0.1), of(0.1)), (of(0.1), of(0.11)), (of(0.3), of(0.7))] {
            let (a, b) = (Quantised::new(&x), Quantised::new(&y));
            let cosine = dot_bytes(&a.values, &b.values) as f32 * a.scale * b.scale;
            assert!((cosine - dot(&x, &y)).abs() < 4e-3, "{cosine} against {}", dot(&x, &y));
        }
        assert_eq!(Quantised::new(&[0.0, 0.0]).values, [0, 0]);
    }

    #[test]
    fn wide_registers_change_no_sum() {
        let a: Vec<f32> = (0..389u16).map(|i| (f32::from(i) * 0.37).sin()).collect();
        let b: Vec<f32> = (0..389u16).map(|i| (f32::from(i) * 0.73).cos()).collect();
        assert_eq!(dot(&a, &b).to_bits(), sum_of_products(&a, &b).to_bits());
        let (mut sums, mut same) = (a.clone(), a.clone());
        add(&mut sums, 0.3, &b);
        add_scaled(&mut same, 0.3, &b);
        assert_eq!(sums, same);
        let bytes = Quantised::new(&b).values;
        add_bytes(&mut sums, 0.3, &bytes);
        add_scaled_bytes(&mut same, 0.3, &bytes);
        assert_eq!(sums, same);
        assert_eq!(dot_bytes(&bytes, &bytes), sum_of_byte_products(&bytes, &bytes));
    }
}
