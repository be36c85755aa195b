//! What a request's tensors hold: raw as they are, typed ones made raw. Every number here is a client's.

use bytes::{BufMut, Bytes, BytesMut};
use consilium_proto::inference::{InferTensorContents, model_infer_request::InferInputTensor};
use consilium_tensor::{DataType, Tensor, strings_in};

use super::{
    Invalid,
    request::{check_parameters, label},
};

/// NumPy's bound before its version 2; no model comes near it.
const MAX_RANK: usize = 32;

/// The tensors of `inputs`: all of them raw, or all of them typed. The bytes of each are what its shape says.
pub(super) fn tensors(inputs: Vec<InferInputTensor>, raw: Vec<Bytes>) -> Result<Vec<Tensor>, Invalid> {
    // All of them first: an input in shared memory, which is refused, has no raw entry.
    let inputs = inputs.into_iter().enumerate().map(Input::read).collect::<Result<Vec<_>, _>>()?;
    if raw.is_empty() {
        return inputs.into_iter().map(Input::typed).collect();
    }
    if raw.len() != inputs.len() {
        let problem = format!("{} entries for {} inputs: one for each is expected", raw.len(), inputs.len());
        return Err(Invalid::new("raw_input_contents", problem));
    }
    inputs.into_iter().zip(raw).map(|(input, data)| input.raw(data)).collect()
}

/// An input without its data.
struct Input {
    /// `inputs[NAME]`
    field: String,
    name: String,
    datatype: DataType,
    shape: Vec<i64>,
    /// The product of the shape.
    elements: usize,
    contents: InferTensorContents,
}

impl Input {
    fn read((index, input): (usize, InferInputTensor)) -> Result<Self, Invalid> {
        let InferInputTensor { name, datatype, shape, parameters, contents } = input;
        let field = format!("inputs[{}]", label(&name, index));
        if name.is_empty() {
            return Err(Invalid::new(format!("inputs[{index}].name"), "a name is expected"));
        }
        check_parameters(&parameters, || field.clone())?;
        let datatype = datatype
            .parse::<DataType>()
            .map_err(|unknown| Invalid::new(format!("{field}.datatype"), unknown.to_string()))?;
        let elements = elements(&shape).map_err(|problem| Invalid::new(format!("{field}.shape"), problem))?;
        Ok(Self { field, name, datatype, shape, elements, contents: contents.unwrap_or_default() })
    }

    fn raw(self, data: Bytes) -> Result<Tensor, Invalid> {
        if filled(&self.contents).next().is_some() {
            let problem = "raw_input_contents holds it already: one or the other is expected";
            return Err(Invalid::new(format!("{}.contents", self.field), problem));
        }
        let wrong = match self.datatype.size() {
            Some(size) => match self.elements.checked_mul(size) {
                Some(expected) if expected == data.len() => None,
                Some(expected) => Some(format!("{} bytes, {expected} are expected", data.len())),
                None => Some("more bytes than there can be are expected".to_owned()),
            },
            None => match strings_in(&data).try_fold(0, |count, string| string.map(|_| count + 1)) {
                Some(count) if count == self.elements => None,
                Some(count) => Some(format!("{count} elements, {} are expected", self.elements)),
                None => Some("an element's length reaches beyond the end".to_owned()),
            },
        };
        match wrong {
            None => Ok(self.with(data)),
            Some(problem) => Err(Invalid::new(format!("{}.data", self.field), problem)),
        }
    }

    fn typed(mut self) -> Result<Tensor, Invalid> {
        let contents = std::mem::take(&mut self.contents);
        let fail = |problem: String| Err(Invalid::new(format!("{}.contents", self.field), problem));
        let Some(arm) = arm(self.datatype) else {
            if self.elements == 0 && filled(&contents).next().is_none() {
                return Ok(self.with(Bytes::new()));
            }
            return fail(format!("{} has no typed form: it is sent in raw_input_contents", self.datatype));
        };
        if let Some((other, _)) = filled(&contents).find(|(name, _)| *name != arm) {
            return fail(format!("{other} is filled, {} is expected in {arm}", self.datatype));
        }
        let count = filled(&contents).next().map_or(0, |(_, count)| count);
        if count != self.elements {
            return fail(format!("{count} elements, {} are expected", self.elements));
        }
        match little_endian(self.datatype, &contents) {
            Some(data) => Ok(self.with(data)),
            None => fail(format!("an element is not {}", self.datatype)),
        }
    }

    fn with(self, data: Bytes) -> Tensor {
        Tensor { name: self.name, datatype: self.datatype, shape: self.shape, data }
    }
}

/// The product of the dimensions, or what is wrong with them.
fn elements(shape: &[i64]) -> Result<usize, String> {
    if shape.len() > MAX_RANK {
        return Err(format!("{} dimensions, at most {MAX_RANK} are taken", shape.len()));
    }
    let mut product = Some(1usize);
    for (index, dimension) in shape.iter().enumerate() {
        let Ok(dimension) = u64::try_from(*dimension) else {
            return Err(format!("dimension {index} is negative"));
        };
        product = usize::try_from(dimension).ok().and_then(|dimension| product?.checked_mul(dimension));
    }
    product.ok_or_else(|| "more elements than there can be".to_owned())
}

/// The field in which a datatype's elements are; 16-bit floats have none.
fn arm(datatype: DataType) -> Option<&'static str> {
    Some(match datatype {
        DataType::Bool => "bool_contents",
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "int_contents",
        DataType::Int64 => "int64_contents",
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => "uint_contents",
        DataType::Uint64 => "uint64_contents",
        DataType::Fp32 => "fp32_contents",
        DataType::Fp64 => "fp64_contents",
        DataType::Bytes => "bytes_contents",
        DataType::Fp16 | DataType::Bf16 => return None,
    })
}

/// The fields that hold something, and how many elements.
fn filled(contents: &InferTensorContents) -> impl Iterator<Item = (&'static str, usize)> {
    let arms = [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ];
    arms.into_iter().filter(|(_, count)| *count > 0)
}

/// The raw form of the datatype's field; `None` where an element does not fit.
fn little_endian(datatype: DataType, contents: &InferTensorContents) -> Option<Bytes> {
    /// Every element converted by `bytes`, which says no to one that does not fit.
    fn each<T: Copy, const N: usize>(elements: &[T], bytes: impl Fn(T) -> Option<[u8; N]>) -> Option<Bytes> {
        let mut data = BytesMut::with_capacity(elements.len() * N);
        for element in elements {
            data.put_slice(&bytes(*element)?);
        }
        Some(data.freeze())
    }
    let InferTensorContents { int_contents: int, uint_contents: uint, .. } = contents;
    match datatype {
        DataType::Bool => each(&contents.bool_contents, |value| Some([u8::from(value)])),
        DataType::Int8 => each(int, |value| Some(i8::try_from(value).ok()?.to_le_bytes())),
        DataType::Int16 => each(int, |value| Some(i16::try_from(value).ok()?.to_le_bytes())),
        DataType::Int32 => each(int, |value| Some(value.to_le_bytes())),
        DataType::Int64 => each(&contents.int64_contents, |value| Some(value.to_le_bytes())),
        DataType::Uint8 => each(uint, |value| Some(u8::try_from(value).ok()?.to_le_bytes())),
        DataType::Uint16 => each(uint, |value| Some(u16::try_from(value).ok()?.to_le_bytes())),
        DataType::Uint32 => each(uint, |value| Some(value.to_le_bytes())),
        DataType::Uint64 => each(&contents.uint64_contents, |value| Some(value.to_le_bytes())),
        DataType::Fp32 => each(&contents.fp32_contents, |value| Some(value.to_le_bytes())),
        DataType::Fp64 => each(&contents.fp64_contents, |value| Some(value.to_le_bytes())),
        DataType::Bytes => {
            let elements = &contents.bytes_contents;
            let mut data = BytesMut::with_capacity(elements.iter().map(|element| 4 + element.len()).sum());
            for element in elements {
                data.put_u32_le(u32::try_from(element.len()).ok()?);
                data.put_slice(element);
            }
            Some(data.freeze())
        }
        DataType::Fp16 | DataType::Bf16 => None,
    }
}
