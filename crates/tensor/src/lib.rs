//! Tensors as they travel: a name, a datatype, a shape and raw little-endian bytes. Nothing here knows ONNX Runtime or
//! protobuf.

use std::fmt;
use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The datatypes of the Open Inference Protocol, under their protocol names (`FP32`, `INT64`, `BYTES`, …).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Strings: each element is a little-endian `u32` length and that many bytes.
    Bytes,
}

impl DataType {
    const ALL: [(DataType, &str); 14] = [
        (Self::Bool, "BOOL"),
        (Self::Uint8, "UINT8"),
        (Self::Uint16, "UINT16"),
        (Self::Uint32, "UINT32"),
        (Self::Uint64, "UINT64"),
        (Self::Int8, "INT8"),
        (Self::Int16, "INT16"),
        (Self::Int32, "INT32"),
        (Self::Int64, "INT64"),
        (Self::Fp16, "FP16"),
        (Self::Bf16, "BF16"),
        (Self::Fp32, "FP32"),
        (Self::Fp64, "FP64"),
        (Self::Bytes, "BYTES"),
    ];

    /// The protocol's name, e.g. `FP32`.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(datatype, _)| *datatype == self).map_or("", |(_, name)| name)
    }

    /// Bytes per element; `None` for [`DataType::Bytes`], whose elements differ in size.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no datatype of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a datatype: expected BOOL, UINT8…UINT64, INT8…INT64, FP16, BF16, FP32, FP64 or BYTES")]
pub struct UnknownDataType;

impl FromStr for DataType {
    type Err = UnknownDataType;

    fn from_str(name: &str) -> Result<Self, UnknownDataType> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(datatype, _)| *datatype).ok_or(UnknownDataType)
    }
}

/// One named tensor. `data` is row-major and little-endian, exactly `elements × size` bytes;
/// for [`DataType::Bytes`] every element is a `u32` length followed by its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    /// The model's name for it.
    pub name: String,
    /// Type of every element.
    pub datatype: DataType,
    /// Sizes of the dimensions, outermost first. Empty for a scalar.
    pub shape: Vec<i64>,
    /// The elements.
    pub data: Bytes,
}

impl fmt::Debug for Tensor {
    /// Name, type, shape and size: the values may be a patient's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tensor")
            .field("name", &self.name)
            .field("datatype", &self.datatype)
            .field("shape", &self.shape)
            .field("bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

impl Tensor {
    /// A tensor of 32-bit floats. `values.len()` should be the product of `shape`; the engine checks it.
    pub fn fp32(name: impl Into<String>, shape: Vec<i64>, values: &[f32]) -> Self {
        let mut data = BytesMut::with_capacity(size_of_val(values));
        for value in values {
            data.put_f32_le(*value);
        }
        Self { name: name.into(), datatype: DataType::Fp32, shape, data: data.freeze() }
    }

    /// A tensor of 64-bit integers. `values.len()` should be the product of `shape`; the engine checks it.
    pub fn int64(name: impl Into<String>, shape: Vec<i64>, values: &[i64]) -> Self {
        let mut data = BytesMut::with_capacity(size_of_val(values));
        for value in values {
            data.put_i64_le(*value);
        }
        Self { name: name.into(), datatype: DataType::Int64, shape, data: data.freeze() }
    }

    /// A tensor of strings.
    pub fn strings<S: AsRef<[u8]>>(name: impl Into<String>, shape: Vec<i64>, values: &[S]) -> Self {
        let mut data = BytesMut::new();
        for value in values {
            let value = value.as_ref();
            data.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
            data.put_slice(value);
        }
        Self { name: name.into(), datatype: DataType::Bytes, shape, data: data.freeze() }
    }

    /// The values of a [`DataType::Fp32`] tensor; `None` for any other datatype.
    pub fn to_fp32(&self) -> Option<Vec<f32>> {
        (self.datatype == DataType::Fp32)
            .then(|| self.data.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect())
    }

    /// Number of elements that `shape` describes; `None` when a dimension is negative or the product overflows.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, &dimension| product.checked_mul(usize::try_from(dimension).ok()?))
    }

    /// The elements of a [`DataType::Bytes`] tensor; `None` when the lengths do not add up to exactly the data.
    pub fn to_strings(&self) -> Option<Vec<Bytes>> {
        (self.datatype == DataType::Bytes).then_some(())?;
        strings_in(&self.data).map(|string| string.map(|string| self.data.slice_ref(string))).collect()
    }
}

/// The elements in the data of a [`DataType::Bytes`] tensor, one after the other and without an allocation. The last is
/// `None` when the lengths do not add up to exactly the data.
pub fn strings_in(data: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let string = split_string(rest);
        rest = string.map_or(&[], |(_, rest)| rest);
        Some(string.map(|(string, _)| string))
    })
}

/// The first string of `data`, and what follows it.
fn split_string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// A size of ours as a dimension. No allocation is larger than `isize::MAX`, so it always fits.
pub fn dimension(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datatype_has_one_name_both_ways_and_in_json() {
        for (datatype, name) in DataType::ALL {
            assert_eq!(datatype.to_string(), name);
            assert_eq!(name.parse(), Ok(datatype));
            assert_eq!(serde_json::to_value(datatype).unwrap(), name);
        }
        assert_eq!("float".parse::<DataType>(), Err(UnknownDataType));
    }

    #[test]
    fn strings_survive_the_round_trip_and_broken_lengths_are_seen() {
        let tensor = Tensor::strings("text", vec![3], &["", "aspirin", "ß"]);
        let back = tensor.to_strings().unwrap();
        assert_eq!(back, ["".as_bytes(), b"aspirin", "ß".as_bytes()]);
        for cut in 1..tensor.data.len() {
            let broken = Tensor { data: tensor.data.slice(..cut), ..tensor.clone() };
            assert!(broken.to_strings().is_none_or(|strings| strings.len() < 3), "cut at {cut}");
        }
    }

    #[test]
    fn debug_shows_no_values() {
        let shown = format!("{:?}", Tensor::strings("text", vec![1], &["metformin"]));
        assert!(!shown.contains("metformin") && !shown.contains("109"), "{shown}");
    }

    #[test]
    fn a_product_that_overflows_is_no_number_of_elements() {
        let tensor = Tensor { shape: vec![i64::MAX, i64::MAX], ..Tensor::fp32("a", vec![], &[]) };
        assert_eq!(tensor.elements(), None);
        assert_eq!(Tensor { shape: vec![-1], ..tensor }.elements(), None);
    }
}
