//! The types of a graph's inputs and outputs, as the file declares them. Shapes are ONNX Runtime's to tell, which infers
//! more than the file says; only whether there is one is read here, since it does not tell a scalar from "no shape".

use std::fmt;

use super::wire::{Fields, Value, utf8};
use super::{Malformed, deeper};

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Type,
}

/// What may flow there. Shown in ONNX's notation: `sequence(tensor(float))`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    /// The file leaves it to be inferred.
    Unsaid,
    Tensor {
        /// A `TensorProto.DataType`.
        element: u64,
        /// It says how many dimensions there are.
        ranked: bool,
    },
    Optional(Box<Type>),
    Sequence(Box<Type>),
    Map {
        key: u64,
        value: Box<Type>,
    },
    Sparse {
        element: u64,
    },
    Opaque,
}

impl Type {
    /// Whether a tensor of the protocol can go in. What the file leaves unsaid, ONNX Runtime tells.
    pub(crate) fn goes_in(&self) -> bool {
        match self {
            Self::Optional(inner) => matches!(**inner, Self::Tensor { .. }) && inner.comes_out(),
            other => other.comes_out(),
        }
    }

    /// Whether a tensor of the protocol comes out. An optional one may be nothing, which no tensor can say.
    pub(crate) fn comes_out(&self) -> bool {
        match self {
            Self::Unsaid => true,
            Self::Tensor { element, .. } => *element == STRING || super::element_type(*element).is_some(),
            Self::Optional(_) | Self::Sequence(_) | Self::Map { .. } | Self::Sparse { .. } | Self::Opaque => false,
        }
    }

    /// Whether the file says how many dimensions it has.
    pub(crate) fn is_ranked(&self) -> bool {
        match self {
            Self::Tensor { ranked, .. } => *ranked,
            Self::Optional(inner) => inner.is_ranked(),
            _ => false,
        }
    }
}

// Field numbers of onnx.proto, the few that are read.
mod value_info {
    pub(super) const NAME: u64 = 1;
    pub(super) const TYPE: u64 = 2;
}
mod kind {
    pub(super) const TENSOR: u64 = 1;
    pub(super) const SEQUENCE: u64 = 4;
    pub(super) const MAP: u64 = 5;
    pub(super) const OPAQUE: u64 = 7;
    pub(super) const SPARSE_TENSOR: u64 = 8;
    pub(super) const OPTIONAL: u64 = 9;
}
/// `TensorProto.STRING`, which has no raw bytes.
const STRING: u64 = 8;
/// Of all kinds: the type of what is inside.
const ELEMENT: u64 = 1;
/// Of tensors.
const SHAPE: u64 = 2;
/// Of maps.
const VALUE: u64 = 2;

pub(super) fn read_port(bytes: &[u8]) -> Result<Port<'_>, Malformed> {
    let mut port = Port { name: "", kind: Type::Unsaid };
    for field in Fields(bytes) {
        match field? {
            (value_info::NAME, Value::Bytes(name)) => port.name = utf8(name)?,
            (value_info::TYPE, Value::Bytes(kind)) => port.kind = read_type(kind, 0)?,
            _ => {}
        }
    }
    Ok(port)
}

fn read_type(bytes: &[u8], depth: usize) -> Result<Type, Malformed> {
    let depth = deeper(depth)?;
    let mut found = Type::Unsaid;
    for field in Fields(bytes) {
        let (number, Value::Bytes(inside)) = field? else {
            continue;
        };
        found = match number {
            kind::TENSOR => Type::Tensor { element: read_number(inside)?, ranked: has(inside, SHAPE)? },
            kind::SPARSE_TENSOR => Type::Sparse { element: read_number(inside)? },
            kind::SEQUENCE => Type::Sequence(Box::new(read_inner(inside, ELEMENT, depth)?)),
            kind::OPTIONAL => Type::Optional(Box::new(read_inner(inside, ELEMENT, depth)?)),
            kind::MAP => Type::Map { key: read_number(inside)?, value: Box::new(read_inner(inside, VALUE, depth)?) },
            kind::OPAQUE => Type::Opaque,
            // The denotation, a name without consequences.
            _ => continue,
        };
    }
    Ok(found)
}

fn read_inner(bytes: &[u8], wanted: u64, depth: usize) -> Result<Type, Malformed> {
    let mut inner = Type::Unsaid;
    for field in Fields(bytes) {
        if let (number, Value::Bytes(kind)) = field?
            && number == wanted
        {
            inner = read_type(kind, depth)?;
        }
    }
    Ok(inner)
}

fn read_number(bytes: &[u8]) -> Result<u64, Malformed> {
    let mut found = 0;
    for field in Fields(bytes) {
        if let (ELEMENT, Value::Number(number)) = field? {
            found = number;
        }
    }
    Ok(found)
}

fn has(bytes: &[u8], wanted: u64) -> Result<bool, Malformed> {
    let mut found = false;
    for field in Fields(bytes) {
        found |= field?.0 == wanted;
    }
    Ok(found)
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsaid => f.write_str("undefined"),
            Self::Tensor { element, .. } => write!(f, "tensor({})", element_name(*element)),
            Self::Optional(inner) => write!(f, "optional({inner})"),
            Self::Sequence(inner) => write!(f, "sequence({inner})"),
            Self::Map { key, value } => write!(f, "map({},{value})", element_name(*key)),
            Self::Sparse { element } => write!(f, "sparse_tensor({})", element_name(*element)),
            Self::Opaque => f.write_str("opaque"),
        }
    }
}

/// ONNX's name of a `TensorProto.DataType`.
fn element_name(number: u64) -> &'static str {
    const NAMES: [&str; 27] = [
        "undefined",
        "float",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "double",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
        "float8e4m3fn",
        "float8e4m3fnuz",
        "float8e5m2",
        "float8e5m2fnuz",
        "uint4",
        "int4",
        "float4e2m1",
        "float8e8m0",
        "uint2",
        "int2",
    ];
    usize::try_from(number).ok().and_then(|number| NAMES.get(number)).copied().unwrap_or("undefined")
}
