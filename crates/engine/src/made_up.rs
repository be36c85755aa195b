//! Inputs that nobody sent: warm-up runs a model on them, and `prove` compares what comes out. The same every time.

use bytes::{BufMut as _, Bytes, BytesMut};
use half::{bf16, f16};

use crate::manifest::TensorEntry;
use consilium_tensor::{DataType, Tensor, dimension};

/// A model may fix dimensions of any size; inputs beyond this are not made up.
const MOST_BYTES: usize = 32 << 20;

/// Why there are none, for a log.
pub(crate) const TOO_LARGE: &str = "its inputs are too large to be made up";

/// Length of an element that is a string: four bytes say how long it is, and at most this many follow.
const LONGEST_STRING: usize = 20;

/// What goes into a free dimension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Into the first.
    pub(crate) rows: usize,
    /// Into every other.
    pub(crate) inner: usize,
}

/// Zeros and empty strings. `None`: too large to be made up.
pub(crate) fn blank(inputs: &[TensorEntry], sizes: Sizes) -> Option<Vec<Tensor>> {
    shaped(inputs, sizes, |datatype, elements| {
        // An empty string is its length, four zero bytes.
        Some(vec![0; elements.checked_mul(datatype.size().unwrap_or(4))?].into())
    })
}

/// Values that differ from element to element: floats of -1 to 1 with some zeros, integers of a range, digits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Varying {
    /// Another seed, other values.
    pub(crate) seed: u64,
    /// Floats above 0 only: roots and logarithms take them.
    pub(crate) positive: bool,
    /// The first and the last integer.
    pub(crate) integers: (u8, u8),
}

/// `None`: too large to be made up.
pub(crate) fn varying(inputs: &[TensorEntry], sizes: Sizes, values: Varying) -> Option<Vec<Tensor>> {
    let mut random = Random::new(values.seed);
    shaped(inputs, sizes, |datatype, elements| {
        let width = datatype.size().unwrap_or(4 + LONGEST_STRING);
        let mut data = BytesMut::with_capacity(elements.checked_mul(width)?);
        (0..elements).for_each(|_| put(&mut data, datatype, random.next(), values));
        Some(data.freeze())
    })
}

/// Only the inputs that must be given. `fill` gives the data of so many elements.
fn shaped(
    inputs: &[TensorEntry],
    sizes: Sizes,
    mut fill: impl FnMut(DataType, usize) -> Option<Bytes>,
) -> Option<Vec<Tensor>> {
    let free = |at: usize| dimension(if at == 0 { sizes.rows } else { sizes.inner });
    let mut left = MOST_BYTES;
    let needed = inputs.iter().filter(|entry| !entry.optional);
    let made = needed.map(|entry| {
        let shape = entry.shape.iter().enumerate().map(|(at, size)| if *size == -1 { free(at) } else { *size });
        let TensorEntry { name, datatype, .. } = entry;
        let tensor = Tensor { name: name.clone(), datatype: *datatype, shape: shape.collect(), data: Bytes::new() };
        let elements = tensor.elements()?;
        left = left.checked_sub(elements.checked_mul(datatype.size().unwrap_or(4 + LONGEST_STRING))?)?;
        Some(Tensor { data: fill(*datatype, elements)?, ..tensor })
    });
    made.collect()
}

fn put(data: &mut BytesMut, datatype: DataType, random: u64, values: Varying) {
    let (first, last) = values.integers;
    // At most 255, so it fits every integer type as it is, but the signed byte, whose range callers keep to.
    let integer = u64::from(first) + random % (u64::from(last.saturating_sub(first)) + 1);
    // 1 / 2^53 to 1: the upper bits are the more random ones.
    let unit = ((random >> 11) + 1) as f64 / (1u64 << 53) as f64;
    let float = match (values.positive, random % 8) {
        (true, _) => unit,
        // Zero is a value that many models treat as no other.
        (false, 0) => 0.0,
        (false, _) => unit.mul_add(2.0, -1.0),
    };
    match datatype {
        DataType::Bool => data.put_u8((random >> 63) as u8),
        DataType::Uint8 | DataType::Int8 => data.put_u8(integer as u8),
        DataType::Uint16 | DataType::Int16 => data.put_u16_le(integer as u16),
        DataType::Uint32 | DataType::Int32 => data.put_u32_le(integer as u32),
        DataType::Uint64 | DataType::Int64 => data.put_u64_le(integer),
        DataType::Fp16 => data.put_slice(&f16::from_f64(float).to_le_bytes()),
        DataType::Bf16 => data.put_slice(&bf16::from_f64(float).to_le_bytes()),
        DataType::Fp32 => data.put_f32_le(float as f32),
        DataType::Fp64 => data.put_f64_le(float),
        DataType::Bytes => {
            let digits = (random >> 32).to_string();
            data.put_u32_le(digits.len() as u32);
            data.put_slice(digits.as_bytes());
        }
    }
}

/// The elements of a tensor as numbers, where it has floats.
pub(crate) fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    let data = &tensor.data;
    Some(match tensor.datatype {
        DataType::Fp16 => data.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f64()).collect(),
        DataType::Bf16 => data.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f64()).collect(),
        DataType::Fp32 => data.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
        DataType::Fp64 => data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
        _ => return None,
    })
}

/// xorshift64*: the same numbers every time, and not for secrets.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Seeds that are alike, as 1 and 2, shall not give numbers that are; and the state is never zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    #[cfg(test)]
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { rows: 3, inner: 2 };
    const VALUES: Varying = Varying { seed: 7, positive: false, integers: (1, 7) };
    const ALL: [DataType; 14] = [
        DataType::Bool,
        DataType::Uint8,
        DataType::Uint16,
        DataType::Uint32,
        DataType::Uint64,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Fp16,
        DataType::Bf16,
        DataType::Fp32,
        DataType::Fp64,
        DataType::Bytes,
    ];

    fn entry(datatype: DataType, shape: &[i64], optional: bool) -> TensorEntry {
        TensorEntry { name: "x".to_owned(), datatype, shape: shape.to_vec(), optional, any_rank: false }
    }

    #[test]
    fn shapes_are_filled_in_and_data_fits_them() {
        for datatype in ALL {
            let inputs = [entry(datatype, &[-1, 4, -1], false), entry(datatype, &[5], true)];
            for made in [blank(&inputs, SIZES).unwrap(), varying(&inputs, SIZES, VALUES).unwrap()] {
                let [tensor] = &made[..] else { panic!("what need not be given is left out: {made:?}") };
                assert_eq!((&tensor.shape[..], tensor.elements()), (&[3, 4, 2][..], Some(24)));
                match datatype.size() {
                    Some(size) => assert_eq!(tensor.data.len(), 24 * size),
                    None => assert_eq!(tensor.to_strings().unwrap().len(), 24),
                }
            }
        }
    }

    #[test]
    fn values_vary_within_their_bounds() {
        for datatype in [DataType::Fp16, DataType::Bf16, DataType::Fp32, DataType::Fp64] {
            let values = |positive| {
                let made = varying(&[entry(datatype, &[-1, 500], false)], SIZES, Varying { positive, ..VALUES });
                floats(&made.unwrap()[0]).unwrap()
            };
            assert!(values(false).iter().any(|value| *value < -0.5) && values(false).iter().any(|value| *value > 0.5));
            assert!(values(true).iter().all(|value| (0.0..=1.0).contains(value)));
        }
        let made = varying(&[entry(DataType::Uint8, &[-1, 500], false)], SIZES, VALUES).unwrap();
        assert!(
            (1..=7).all(|value| made[0].data.contains(&value))
                && made[0].data.iter().all(|value| (1..=7).contains(value))
        );
        let other =
            varying(&[entry(DataType::Uint8, &[-1, 500], false)], SIZES, Varying { seed: 8, ..VALUES }).unwrap();
        assert_ne!(made[0].data, other[0].data);
    }

    #[test]
    fn what_does_not_fit_into_memory_is_not_made_up() {
        for shape in [&[-1, i64::MAX][..], &[i64::MAX, i64::MAX], &[1 << 40], &[-1, 3 << 20]] {
            assert!(blank(&[entry(DataType::Fp32, shape, false)], SIZES).is_none(), "{shape:?}");
            assert!(varying(&[entry(DataType::Bytes, shape, false)], SIZES, VALUES).is_none(), "{shape:?}");
        }
        // No dimension is too large beside one of zero.
        assert!(blank(&[entry(DataType::Fp32, &[0, 1 << 40], false)], SIZES).is_some());
    }
}
