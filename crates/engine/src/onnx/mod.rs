//! A reader for the few fields of an ONNX file that must be known before ONNX Runtime sees it: where its tensors'
//! data lives, the weights that can be shared, and the types of its inputs and outputs. It trusts nothing: every length is checked, depth is bounded,
//! and bad bytes are an error, never a panic.

mod types;
mod wire;

use std::collections::BTreeSet;

use consilium_tensor::DataType;

use wire::{Fields, Value, utf8, varint};

pub(crate) use types::Port;

/// Deeper nesting than any real graph has (subgraphs of control flow nest about three levels each).
const MAX_DEPTH: usize = 64;

/// What the walk found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Contents<'a> {
    /// Files that tensors point to, as written in the model, in order of appearance, repeated if the model repeats them.
    pub(crate) external: Vec<String>,
    /// Initialisers of the main graph whose data lies in the file itself as raw bytes.
    pub(crate) weights: Vec<Weight<'a>>,
    /// Of the main graph, in order. Those with an initialiser are among them.
    pub(crate) inputs: Vec<Port<'a>>,
    /// Of the main graph, in order.
    pub(crate) outputs: Vec<Port<'a>>,
    /// Names of the main graph's initialisers.
    pub(crate) initialised: BTreeSet<&'a str>,
    /// Version of the file format.
    pub(crate) ir_version: u64,
}

/// Since this version of the format an input that has an initialiser may be given instead of it; before, every
/// initialiser had to be listed as an input, and meant nothing by it.
const OPTIONAL_INPUTS_SINCE: u64 = 4;

impl Contents<'_> {
    /// Whether a caller may give another value than the initialiser of that name.
    pub(crate) fn is_overridable(&self, name: &str) -> bool {
        self.ir_version >= OPTIONAL_INPUTS_SINCE
            && self.initialised.contains(name)
            && self.inputs.iter().any(|input| input.name == name)
    }
}

/// One initialiser, borrowed from the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weight<'a> {
    pub(crate) name: &'a str,
    pub(crate) datatype: DataType,
    pub(crate) shape: Vec<i64>,
    /// Row-major, little-endian, as ONNX stores raw data.
    pub(crate) data: &'a [u8],
}

/// The bytes are no ONNX model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a length or number runs past the end")]
    Truncated,
    #[error("a number of more than 64 bits")]
    Varint,
    #[error("wire type {0} does not exist in this format")]
    WireType(u64),
    #[error("text that is not UTF-8")]
    Utf8,
    #[error("nested deeper than {MAX_DEPTH} messages")]
    Depth,
    #[error("no graph in it")]
    NoGraph,
}

/// Walks a whole model.
pub(crate) fn read(model: &[u8]) -> Result<Contents<'_>, Malformed> {
    let mut contents = Contents::default();
    let mut graph_seen = false;
    for field in Fields(model) {
        match field? {
            (model::IR_VERSION, Value::Number(version)) => contents.ir_version = version,
            (model::GRAPH, Value::Bytes(graph)) => {
                graph_seen = true;
                read_graph(graph, 0, &mut contents)?;
            }
            (model::FUNCTIONS, Value::Bytes(function)) => {
                for field in Fields(function) {
                    match field? {
                        (function::NODE, Value::Bytes(node)) => read_node(node, 1, &mut contents)?,
                        // Defaults may hold tensors as well.
                        (function::ATTRIBUTE_PROTO, Value::Bytes(attribute)) => {
                            read_attribute(attribute, 1, &mut contents)?;
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if graph_seen { Ok(contents) } else { Err(Malformed::NoGraph) }
}

// Field numbers of onnx.proto, the few that are read.
mod model {
    pub(super) const IR_VERSION: u64 = 1;
    pub(super) const GRAPH: u64 = 7;
    pub(super) const FUNCTIONS: u64 = 25;
}
mod graph {
    pub(super) const NODE: u64 = 1;
    pub(super) const INITIALIZER: u64 = 5;
    pub(super) const INPUT: u64 = 11;
    pub(super) const OUTPUT: u64 = 12;
    pub(super) const SPARSE_INITIALIZER: u64 = 15;
}
mod function {
    pub(super) const NODE: u64 = 7;
    pub(super) const ATTRIBUTE_PROTO: u64 = 11;
}
mod node {
    pub(super) const ATTRIBUTE: u64 = 5;
}
mod attribute {
    pub(super) const TENSOR: u64 = 5;
    pub(super) const GRAPH: u64 = 6;
    pub(super) const TENSORS: u64 = 10;
    pub(super) const GRAPHS: u64 = 11;
    pub(super) const SPARSE_TENSOR: u64 = 22;
    pub(super) const SPARSE_TENSORS: u64 = 23;
}
mod sparse_tensor {
    pub(super) const VALUES: u64 = 1;
    pub(super) const INDICES: u64 = 2;
}
mod tensor {
    pub(super) const DIMS: u64 = 1;
    pub(super) const DATA_TYPE: u64 = 2;
    pub(super) const NAME: u64 = 8;
    pub(super) const RAW_DATA: u64 = 9;
    pub(super) const EXTERNAL_DATA: u64 = 13;
}
mod entry {
    pub(super) const KEY: u64 = 1;
    pub(super) const VALUE: u64 = 2;
}

fn deeper(depth: usize) -> Result<usize, Malformed> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(Malformed::Depth) }
}

fn read_graph<'a>(bytes: &'a [u8], depth: usize, contents: &mut Contents<'a>) -> Result<(), Malformed> {
    let depth = deeper(depth)?;
    for field in Fields(bytes) {
        match field? {
            (graph::NODE, Value::Bytes(node)) => read_node(node, depth, contents)?,
            (graph::INITIALIZER, Value::Bytes(tensor)) => {
                let (name, weight) = read_tensor(tensor, contents)?;
                // Names of subgraphs are local to them: only the main graph's can be replaced by name.
                if depth == 1 {
                    contents.initialised.insert(name);
                    contents.weights.extend(weight);
                }
            }
            (graph::SPARSE_INITIALIZER, Value::Bytes(sparse)) => read_sparse(sparse, contents)?,
            (graph::INPUT, Value::Bytes(input)) if depth == 1 => contents.inputs.push(types::read_port(input)?),
            (graph::OUTPUT, Value::Bytes(output)) if depth == 1 => contents.outputs.push(types::read_port(output)?),
            _ => {}
        }
    }
    Ok(())
}

fn read_node<'a>(bytes: &'a [u8], depth: usize, contents: &mut Contents<'a>) -> Result<(), Malformed> {
    let depth = deeper(depth)?;
    for field in Fields(bytes) {
        if let (node::ATTRIBUTE, Value::Bytes(attribute)) = field? {
            read_attribute(attribute, depth, contents)?;
        }
    }
    Ok(())
}

fn read_attribute<'a>(bytes: &'a [u8], depth: usize, contents: &mut Contents<'a>) -> Result<(), Malformed> {
    for field in Fields(bytes) {
        match field? {
            (attribute::TENSOR | attribute::TENSORS, Value::Bytes(tensor)) => {
                read_tensor(tensor, contents)?;
            }
            (attribute::GRAPH | attribute::GRAPHS, Value::Bytes(graph)) => read_graph(graph, depth, contents)?,
            (attribute::SPARSE_TENSOR | attribute::SPARSE_TENSORS, Value::Bytes(sparse)) => {
                read_sparse(sparse, contents)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_sparse<'a>(bytes: &'a [u8], contents: &mut Contents<'a>) -> Result<(), Malformed> {
    for field in Fields(bytes) {
        if let (sparse_tensor::VALUES | sparse_tensor::INDICES, Value::Bytes(tensor)) = field? {
            read_tensor(tensor, contents)?;
        }
    }
    Ok(())
}

/// Notes external data; gives the tensor's name, and the tensor when its data is raw bytes of a type and length that fit
/// its shape.
fn read_tensor<'a>(bytes: &'a [u8], contents: &mut Contents<'a>) -> Result<(&'a str, Option<Weight<'a>>), Malformed> {
    let (mut name, mut shape, mut datatype, mut data) = ("", Vec::new(), None, None);
    for field in Fields(bytes) {
        match field? {
            (tensor::DIMS, Value::Number(dimension)) => shape.push(dimension.cast_signed()),
            (tensor::DIMS, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    shape.push(varint(&mut packed)?.cast_signed());
                }
            }
            (tensor::DATA_TYPE, Value::Number(number)) => datatype = element_type(number),
            (tensor::NAME, Value::Bytes(text)) => name = utf8(text)?,
            (tensor::RAW_DATA, Value::Bytes(raw)) => data = Some(raw),
            (tensor::EXTERNAL_DATA, Value::Bytes(entry)) => {
                let (mut key, mut value) = ("", "");
                for field in Fields(entry) {
                    match field? {
                        (entry::KEY, Value::Bytes(text)) => key = utf8(text)?,
                        (entry::VALUE, Value::Bytes(text)) => value = utf8(text)?,
                        _ => {}
                    }
                }
                if key == "location" {
                    contents.external.push(value.to_owned());
                }
            }
            _ => {}
        }
    }
    let Some((datatype, data)) = datatype.zip(data) else {
        return Ok((name, None));
    };
    let elements = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(usize::try_from(size).ok()?));
    let expected = datatype.size().zip(elements).and_then(|(size, elements)| size.checked_mul(elements));
    let fits = expected == Some(data.len()) && !name.is_empty();
    Ok((name, fits.then_some(Weight { name, datatype, shape, data })))
}

/// `TensorProto.DataType`, as far as raw bytes of it mean the same here.
fn element_type(number: u64) -> Option<DataType> {
    Some(match number {
        1 => DataType::Fp32,
        2 => DataType::Uint8,
        3 => DataType::Int8,
        4 => DataType::Uint16,
        5 => DataType::Int16,
        6 => DataType::Int32,
        7 => DataType::Int64,
        9 => DataType::Bool,
        10 => DataType::Fp16,
        11 => DataType::Fp64,
        12 => DataType::Uint32,
        13 => DataType::Uint64,
        16 => DataType::Bf16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::types::Type;
    use super::*;

    fn number(field: u64, value: u64) -> Vec<u8> {
        [encode(field << 3), encode(value)].concat()
    }

    fn message(field: u64, content: &[u8]) -> Vec<u8> {
        [encode(field << 3 | 2), encode(content.len() as u64), content.to_vec()].concat()
    }

    fn encode(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    fn weight(name: &str) -> Vec<u8> {
        let fields = [number(1, 2), number(2, 1), message(8, name.as_bytes()), message(9, &[0; 8])];
        fields.concat()
    }

    fn external(location: &str) -> Vec<u8> {
        let entry = [message(1, b"location"), message(2, location.as_bytes())].concat();
        [number(1, 2), number(2, 1), message(8, b"w"), message(13, &entry), number(14, 1)].concat()
    }

    #[test]
    fn weights_and_external_data_are_found_wherever_they_hide() {
        let subgraph = message(5, &external("in-subgraph.bin"));
        let attribute = [message(6, &subgraph), message(5, &external("in-constant.bin"))].concat();
        let sparse = [message(1, &external("sparse-values.bin")), message(2, &external("sparse-indices.bin"))].concat();
        let graph = [
            message(5, &weight("embeddings")),
            message(5, &external("initialiser.bin")),
            message(1, &message(5, &attribute)),
            message(15, &sparse),
        ]
        .concat();
        let function = [
            message(7, &message(5, &message(5, &external("in-function.bin")))),
            message(11, &message(5, &external("in-default.bin"))),
        ]
        .concat();
        let model = [number(1, 8), message(7, &graph), message(25, &function)].concat();

        let contents = read(&model).unwrap();
        let expected = [
            "initialiser.bin",
            "in-subgraph.bin",
            "in-constant.bin",
            "sparse-values.bin",
            "sparse-indices.bin",
            "in-function.bin",
            "in-default.bin",
        ];
        assert_eq!(contents.external, expected);
        let [found] = &contents.weights[..] else { panic!("{:?}", contents.weights) };
        assert_eq!(
            (found.name, found.datatype, &found.shape[..], found.data),
            ("embeddings", DataType::Fp32, &[2][..], &[0; 8][..])
        );
    }

    fn value_info(name: &str, type_proto: &[u8]) -> Vec<u8> {
        [message(1, name.as_bytes()), message(2, type_proto)].concat()
    }

    #[test]
    fn inputs_and_outputs_say_their_types_and_whether_they_have_a_shape() {
        let float = message(1, &number(1, 1));
        let scalar = message(1, &[number(1, 1), message(2, &[])].concat());
        let map = message(5, &[number(1, 7), message(2, &float)].concat());
        let graph = [
            message(11, &value_info("any", &float)),
            message(11, &value_info("scalar", &scalar)),
            message(11, &value_info("seq", &message(4, &message(1, &map)))),
            message(11, &value_info("maybe", &message(9, &message(1, &scalar)))),
            message(11, &value_info("sparse", &message(8, &number(1, 11)))),
            message(11, &value_info("odd", &message(1, &number(1, 17)))),
            message(5, &weight("scalar")),
            message(12, &message(1, b"unsaid")),
        ]
        .concat();
        let model = |version| [number(1, version), message(7, &graph)].concat();
        let bytes = model(8);
        let contents = read(&bytes).unwrap();
        let inputs: Vec<_> = contents.inputs.iter().map(|port| (port.name, port.kind.to_string())).collect();
        let expected = [
            ("any", "tensor(float)"),
            ("scalar", "tensor(float)"),
            ("seq", "sequence(map(int64,tensor(float)))"),
            ("maybe", "optional(tensor(float))"),
            ("sparse", "sparse_tensor(double)"),
            ("odd", "tensor(float8e4m3fn)"),
        ];
        assert_eq!(inputs, expected.map(|(name, kind)| (name, kind.to_owned())));
        let ranked = |at: usize| matches!(contents.inputs[at].kind, Type::Tensor { ranked: true, .. });
        assert!(!ranked(0) && ranked(1));
        assert_eq!(contents.outputs, [Port { name: "unsaid", kind: Type::Unsaid }]);
        assert!(contents.is_overridable("scalar") && !contents.is_overridable("any"));
        assert!(!read(&model(3)).unwrap().is_overridable("scalar"), "the old format lists all weights as inputs");
    }

    #[test]
    fn a_type_nested_without_end_is_an_error() {
        let mut kind = message(1, &number(1, 1));
        for _ in 0..=MAX_DEPTH {
            kind = message(4, &message(1, &kind));
        }
        assert_eq!(read(&message(7, &message(11, &value_info("x", &kind)))), Err(Malformed::Depth));
    }

    #[test]
    fn a_weight_whose_bytes_do_not_fit_its_shape_is_left_to_onnx_runtime() {
        let tensor = [number(1, 3), number(2, 1), message(8, b"w"), message(9, &[0; 8])].concat();
        assert_eq!(read(&message(7, &message(5, &tensor))).unwrap().weights, []);
    }

    #[test]
    fn a_graph_nested_without_end_is_an_error() {
        let mut graph = Vec::new();
        for _ in 0..MAX_DEPTH {
            graph = message(1, &message(5, &message(6, &graph)));
        }
        assert_eq!(read(&message(7, &graph)), Err(Malformed::Depth));
    }

    #[test]
    fn bytes_that_are_no_model_are_an_error() {
        assert_eq!(read(b""), Err(Malformed::NoGraph));
        assert_eq!(read(&number(1, 8)), Err(Malformed::NoGraph));
        assert_eq!(read(&[0x3a, 0xff, 0x01]), Err(Malformed::Truncated));
        assert_eq!(read(&[0xff; 16]), Err(Malformed::Varint));
        assert_eq!(read(&[0x0b]), Err(Malformed::WireType(3)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = read(&bytes);
            let _ = read(&message(7, &bytes));
            let _ = read(&message(7, &message(5, &bytes)));
            let _ = read(&message(7, &message(11, &message(2, &bytes))));
        }
    }
}
