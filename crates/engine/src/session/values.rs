//! Tensors to ONNX values and back: one copy each way, since raw bytes may lie anywhere and a value's must be aligned.

use bytemuck::{NoUninit, Pod, cast_slice, pod_collect_to_vec};
use bytes::Bytes;
use half::{bf16, f16};
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType};

use consilium_tensor::{DataType, Tensor, strings_in};

// Bytes on the wire are little-endian; here they become numbers, and numbers bytes, as they are.
#[cfg(target_endian = "big")]
compile_error!("tensors are copied as the little-endian bytes that they are");

/// Applies a generic function of one element type to the type that a [`DataType`] stands for.
macro_rules! for_datatype {
    ($datatype:expr, $numbers:ident($($argument:expr),*), $bools:expr, $strings:expr) => {
        match $datatype {
            DataType::Uint8 => $numbers::<u8>($($argument),*),
            DataType::Uint16 => $numbers::<u16>($($argument),*),
            DataType::Uint32 => $numbers::<u32>($($argument),*),
            DataType::Uint64 => $numbers::<u64>($($argument),*),
            DataType::Int8 => $numbers::<i8>($($argument),*),
            DataType::Int16 => $numbers::<i16>($($argument),*),
            DataType::Int32 => $numbers::<i32>($($argument),*),
            DataType::Int64 => $numbers::<i64>($($argument),*),
            DataType::Fp16 => $numbers::<f16>($($argument),*),
            DataType::Bf16 => $numbers::<bf16>($($argument),*),
            DataType::Fp32 => $numbers::<f32>($($argument),*),
            DataType::Fp64 => $numbers::<f64>($($argument),*),
            DataType::Bool => $bools,
            DataType::Bytes => $strings,
        }
    };
}

/// An aligned copy of raw bytes. The caller has checked length and shape; ONNX Runtime's wrapper checks them again.
pub(super) fn to_value(datatype: DataType, shape: &[i64], data: &[u8]) -> ort::Result<DynValue> {
    for_datatype!(
        datatype,
        numbers_to_value(shape, data),
        // Whatever is not zero is true: a value of ONNX Runtime holds nothing but 0 and 1.
        array_to_value(shape, data.iter().map(|byte| *byte != 0).collect()),
        strings_to_value(shape, data)
    )
}

fn numbers_to_value<T>(shape: &[i64], data: &[u8]) -> ort::Result<DynValue>
where
    T: Pod + PrimitiveTensorElementType + std::fmt::Debug,
{
    array_to_value::<T>(shape, pod_collect_to_vec(data))
}

fn array_to_value<T>(shape: &[i64], values: Vec<T>) -> ort::Result<DynValue>
where
    T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    OrtTensor::from_array((shape.to_vec(), values)).map(OrtTensor::into_dyn)
}

fn strings_to_value(shape: &[i64], data: &[u8]) -> ort::Result<DynValue> {
    // Owned, since the wrapper wants strings that live for ever or are its own.
    let text = |string: &[u8]| std::str::from_utf8(string).ok().map(str::to_owned);
    let strings: Option<Vec<String>> = strings_in(data).map(|string| string.and_then(text)).collect();
    let strings = strings.ok_or_else(|| ort::Error::new("strings that are not text"))?;
    OrtTensor::from_string_array((shape.to_vec(), &strings[..])).map(OrtTensor::into_dyn)
}

/// A copy of what a run gave, in its actual shape.
pub(super) fn from_value(name: &str, value: &DynValue) -> ort::Result<Tensor> {
    let datatype = value.dtype().tensor_type().and_then(from_element_type);
    let datatype = datatype.ok_or_else(|| ort::Error::new(format!("output `{name}` has a type without a datatype")))?;
    for_datatype!(
        datatype,
        numbers_from_value(name, datatype, value),
        numbers_from_value::<bool>(name, datatype, value),
        {
            let (shape, strings) = value.try_extract_strings()?;
            Ok(Tensor::strings(name, shape.to_vec(), &strings))
        }
    )
}

fn numbers_from_value<T>(name: &str, datatype: DataType, value: &DynValue) -> ort::Result<Tensor>
where
    T: NoUninit + PrimitiveTensorElementType,
{
    let (shape, values) = value.try_extract_tensor::<T>()?;
    let data = Bytes::copy_from_slice(cast_slice(values));
    Ok(Tensor { name: name.to_owned(), datatype, shape: shape.to_vec(), data })
}

/// The protocol's datatype, if it has one.
pub(super) fn from_element_type(element: TensorElementType) -> Option<DataType> {
    Some(match element {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Bfloat16 => DataType::Bf16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn onnx_runtime() {
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/lib/libonnxruntime.so");
        crate::runtime::load(Some(&library)).expect("run make setup first");
    }

    #[test]
    fn every_datatype_survives_onnx_runtime() {
        onnx_runtime();
        let numbers = [
            (DataType::Bool, vec![1, 0]),
            (DataType::Uint8, vec![255, 1]),
            (DataType::Int8, vec![0x80, 1]),
            (DataType::Uint16, vec![1, 2, 3, 4]),
            (DataType::Int16, vec![1, 0x80, 3, 4]),
            (DataType::Fp16, vec![0x00, 0x3c, 0xff, 0x7b]),
            (DataType::Bf16, vec![0x80, 0x3f, 0x01, 0x00]),
            (DataType::Uint32, (0..8).collect()),
            (DataType::Int32, (100..108).collect()),
            (DataType::Fp32, [1.5f32, -0.0].iter().flat_map(|value| value.to_le_bytes()).collect()),
            (DataType::Uint64, (0..16).collect()),
            (DataType::Int64, (200..216).collect()),
            (DataType::Fp64, [1.5f64, f64::MIN].iter().flat_map(|value| value.to_le_bytes()).collect()),
        ];
        let numbers =
            numbers.map(|(datatype, data)| Tensor { name: "x".into(), datatype, shape: vec![2, 1], data: data.into() });
        let strings = Tensor::strings("x", vec![2, 1], &["", "wörter"]);
        for tensor in numbers.into_iter().chain([strings]) {
            let value = to_value(tensor.datatype, &tensor.shape, &tensor.data).unwrap();
            assert_eq!(from_value("x", &value).unwrap(), tensor, "{}", tensor.datatype);
        }
    }

    #[test]
    fn nothing_and_a_single_value_are_tensors_too() {
        onnx_runtime();
        for datatype in [DataType::Bool, DataType::Fp16, DataType::Fp32, DataType::Int64, DataType::Bytes] {
            for shape in [vec![0], vec![0, 3], vec![2, 0, 4]] {
                let nothing = Tensor { name: "x".into(), datatype, shape, data: Bytes::new() };
                let value = to_value(datatype, &nothing.shape, &nothing.data).unwrap();
                assert_eq!(from_value("x", &value).unwrap(), nothing);
            }
            let data = match datatype.size() {
                Some(size) => vec![1; size],
                None => vec![1, 0, 0, 0, b'x'],
            };
            let scalar = Tensor { name: "x".into(), datatype, shape: vec![], data: data.into() };
            let value = to_value(datatype, &[], &scalar.data).unwrap();
            assert_eq!(from_value("x", &value).unwrap(), scalar);
        }
    }

    #[test]
    fn bytes_may_lie_anywhere() {
        onnx_runtime();
        let data: Bytes = [0u8].into_iter().chain(1.5f64.to_le_bytes()).chain(2.5f64.to_le_bytes()).collect();
        let value = to_value(DataType::Fp64, &[2], &data.slice(1..)).unwrap();
        assert_eq!(from_value("x", &value).unwrap().data, data.slice(1..));
        // Any byte but zero is true, and comes back as 1.
        let value = to_value(DataType::Bool, &[3], &[0, 1, 200]).unwrap();
        assert_eq!(&from_value("x", &value).unwrap().data[..], [0, 1, 1]);
    }
}
