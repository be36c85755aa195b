//! A [`Session`] that is ONNX Runtime: loading a verified package, and tensors to ONNX values and back.

use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};
use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use ort::session::{RunOptions, SessionInputValue};
use ort::value::{DynValue, Outlet, Tensor as OrtTensor, TensorElementType};

use super::{RunError, Session, Stop};
use crate::error::Error;
use crate::manifest::{Manifest, TensorEntry};
use crate::onnx;
use crate::package::Package;
use crate::runtime::without_values;
use crate::tensor::{DataType, Tensor};

/// Weights below this are left to each session: there are many, they weigh nothing, and ONNX Runtime folds small
/// constants into the graph only if they are not given from outside.
const MIN_SHARED_BYTES: usize = 4096;

pub(crate) struct OrtSession {
    session: ort::session::Session,
    outputs: Vec<TensorEntry>,
}

/// Loads `executors` sessions of one model, each running on `threads` threads, all on one copy of the weights.
///
/// Measured with a 22-million-parameter fp32 encoder (90 MB of weights): four sessions hold 350 MB together, and would
/// hold 560 MB if each had its own. One holds 183 MB.
pub(crate) fn load(
    environment: &Environment,
    package: &Package,
    executors: usize,
    threads: usize,
) -> Result<Vec<OrtSession>, Error> {
    let manifest = &package.manifest;
    let model = package.file(&manifest.model);
    let contents = package.contents()?;
    let refused = |error: ort::Error| Error::Model {
        name: manifest.name.clone(),
        problem: "onnx runtime refused it".to_owned(),
        source: Some(Box::new(error)),
    };

    let mut builder = options(environment, threads).map_err(refused)?;
    for (location, bytes) in package.external_files(&contents)? {
        builder =
            builder.with_external_initializer_file_in_memory(location, bytes).map_err(|error| refused(error.into()))?;
    }
    if executors > 1 {
        builder = share(builder, &contents).map_err(refused)?;
    }
    let sessions: Vec<_> =
        (0..executors).map(|_| builder.commit_from_memory(model)).collect::<Result<_, _>>().map_err(refused)?;
    let problems = sessions.first().map(|session| mismatches(session, manifest)).unwrap_or_default();
    if !problems.is_empty() {
        return Err(package.refused(problems));
    }
    Ok(sessions.into_iter().map(|session| OrtSession { session, outputs: manifest.outputs.clone() }).collect())
}

fn options(environment: &Environment, threads: usize) -> ort::Result<SessionBuilder> {
    let builder = SessionBuilder::new(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_parallel_execution(false)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // Threads that spin while they wait steal the cores that others of this process need: on two shared cores,
        // inference is 1.6 to 3 times as fast without.
        .with_config_entry("session.intra_op.allow_spinning", "0")?
        .with_config_entry("session.inter_op.allow_spinning", "0")?
        // A memory pattern is a plan for one shape, and a batch has a new one nearly every time. The arena itself stays:
        // warm-up has already grown it to the largest batch there will be.
        .with_memory_pattern(false)?;
    Ok(builder)
}

/// Gives every large weight to the sessions from outside, as one value that all of them hold, and one container for
/// what their kernels make of it. Neither alone is enough: the container shares only what comes from outside.
fn share(mut builder: SessionBuilder, contents: &onnx::Contents<'_>) -> ort::Result<SessionBuilder> {
    for weight in contents.weights.iter().filter(|weight| weight.data.len() >= MIN_SHARED_BYTES) {
        let value = to_value(weight.datatype, &weight.shape, weight.data)?;
        builder = builder.with_initializer(weight.name, value)?;
    }
    Ok(builder.with_prepacked_weights(&PrepackedWeights::new())?)
}

/// Everything in which the graph differs from what the manifest says of it.
fn mismatches(session: &ort::session::Session, manifest: &Manifest) -> Vec<String> {
    let mut problems = Vec::new();
    compare("inputs", &manifest.inputs, session.inputs(), &mut problems);
    compare("outputs", &manifest.outputs, session.outputs(), &mut problems);
    for outlet in session.inputs() {
        if !manifest.inputs.iter().any(|entry| entry.name == outlet.name()) {
            problems.push(format!("inputs: the graph also needs `{}`", outlet.name()));
        }
    }
    problems
}

fn compare(field: &str, entries: &[TensorEntry], outlets: &[Outlet], problems: &mut Vec<String>) {
    for (at, entry) in entries.iter().enumerate() {
        let Some(outlet) = outlets.iter().find(|outlet| outlet.name() == entry.name) else {
            problems.push(format!("{field}[{at}].name: the graph has no `{}`", entry.name));
            continue;
        };
        let datatype = outlet.dtype().tensor_type().and_then(from_element_type);
        if datatype != Some(entry.datatype) {
            problems.push(format!("{field}[{at}].datatype: the graph says {}", outlet.dtype()));
        }
        // An output of unknown rank has no dimensions here, like a scalar.
        let shape = outlet.dtype().tensor_shape().map(|shape| &shape[..]).filter(|shape| !shape.is_empty());
        let fits = |shape: &[i64]| {
            let mut sizes = shape.iter().zip(&entry.shape);
            shape.len() == entry.shape.len() && sizes.all(|(graph, entry)| graph == entry || *graph == -1)
        };
        if shape.is_some_and(|shape| !fits(shape)) {
            problems.push(format!("{field}[{at}].shape: the graph says {}", outlet.dtype()));
        }
    }
}

impl Session for OrtSession {
    fn run(&mut self, inputs: &[Tensor], stop: &Stop) -> Result<Vec<Tensor>, RunError> {
        let values = inputs.iter().map(|tensor| {
            let value = to_value(tensor.datatype, &tensor.shape, &tensor.data)?;
            Ok((tensor.name.as_str(), SessionInputValue::from(value)))
        });
        let values = values.collect::<ort::Result<Vec<_>>>().map_err(run_error)?;
        let options = Arc::new(RunOptions::new().map_err(run_error)?);
        let terminate = Arc::clone(&options);
        // A run that ends before it hears of this has nothing left to end.
        stop.on_raise(move || drop(terminate.terminate()));
        let outputs = self.session.run_with_options(values, &options).map_err(run_error)?;
        let output = |entry: &TensorEntry| {
            let value = outputs.get(&entry.name).ok_or_else(|| RunError(format!("no output `{}`", entry.name)))?;
            from_value(&entry.name, value).map_err(run_error)
        };
        self.outputs.iter().map(output).collect()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn run_error(error: ort::Error) -> RunError {
    RunError(without_values(error.message()).to_owned())
}

/// Applies a generic function of one element type to the type that a [`DataType`] stands for.
macro_rules! for_datatype {
    ($datatype:expr, $numbers:ident($($argument:expr),*), $strings:expr) => {
        match $datatype {
            DataType::Bool => $numbers::<bool, 1>($($argument),*, |[byte]| byte != 0, |value| [u8::from(value)]),
            DataType::Uint8 => $numbers($($argument),*, u8::from_le_bytes, u8::to_le_bytes),
            DataType::Uint16 => $numbers($($argument),*, u16::from_le_bytes, u16::to_le_bytes),
            DataType::Uint32 => $numbers($($argument),*, u32::from_le_bytes, u32::to_le_bytes),
            DataType::Uint64 => $numbers($($argument),*, u64::from_le_bytes, u64::to_le_bytes),
            DataType::Int8 => $numbers($($argument),*, i8::from_le_bytes, i8::to_le_bytes),
            DataType::Int16 => $numbers($($argument),*, i16::from_le_bytes, i16::to_le_bytes),
            DataType::Int32 => $numbers($($argument),*, i32::from_le_bytes, i32::to_le_bytes),
            DataType::Int64 => $numbers($($argument),*, i64::from_le_bytes, i64::to_le_bytes),
            DataType::Fp16 => $numbers($($argument),*, f16::from_le_bytes, f16::to_le_bytes),
            DataType::Bf16 => $numbers($($argument),*, bf16::from_le_bytes, bf16::to_le_bytes),
            DataType::Fp32 => $numbers($($argument),*, f32::from_le_bytes, f32::to_le_bytes),
            DataType::Fp64 => $numbers($($argument),*, f64::from_le_bytes, f64::to_le_bytes),
            DataType::Bytes => $strings,
        }
    };
}

/// Copies raw bytes, which may lie anywhere, into an aligned value. The caller has checked length and shape;
/// ONNX Runtime's wrapper checks them again.
fn to_value(datatype: DataType, shape: &[i64], data: &[u8]) -> ort::Result<DynValue> {
    for_datatype!(datatype, numbers_to_value(shape, data), strings_to_value(shape, data))
}

fn numbers_to_value<T, const N: usize>(
    shape: &[i64],
    data: &[u8],
    from: impl Fn([u8; N]) -> T,
    _to: impl Fn(T) -> [u8; N],
) -> ort::Result<DynValue>
where
    T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    let values: Vec<T> = data.as_chunks().0.iter().copied().map(from).collect();
    OrtTensor::from_array((shape.to_vec(), values)).map(OrtTensor::into_dyn)
}

fn strings_to_value(shape: &[i64], data: &[u8]) -> ort::Result<DynValue> {
    let tensor = Tensor {
        name: String::new(),
        datatype: DataType::Bytes,
        shape: shape.to_vec(),
        data: Bytes::copy_from_slice(data),
    };
    let strings = tensor.to_strings().ok_or_else(|| ort::Error::new("string lengths do not add up"))?;
    let strings: Vec<String> = strings.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    OrtTensor::from_string_array((shape.to_vec(), &strings[..])).map(OrtTensor::into_dyn)
}

fn from_value(name: &str, value: &DynValue) -> ort::Result<Tensor> {
    let datatype = value.dtype().tensor_type().and_then(from_element_type);
    let datatype = datatype.ok_or_else(|| ort::Error::new(format!("output `{name}` has a type without a datatype")))?;
    for_datatype!(datatype, numbers_from_value(name, datatype, value), {
        let (shape, strings) = value.try_extract_strings()?;
        Ok(Tensor::strings(name, shape.to_vec(), &strings))
    })
}

fn numbers_from_value<T, const N: usize>(
    name: &str,
    datatype: DataType,
    value: &DynValue,
    _from: impl Fn([u8; N]) -> T,
    to: impl Fn(T) -> [u8; N],
) -> ort::Result<Tensor>
where
    T: ort::value::PrimitiveTensorElementType + Copy,
{
    let (shape, values) = value.try_extract_tensor::<T>()?;
    let data = values.iter().copied().flat_map(to).collect();
    Ok(Tensor { name: name.to_owned(), datatype, shape: shape.to_vec(), data })
}

fn from_element_type(element: TensorElementType) -> Option<DataType> {
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
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::package::Source;

    fn path(relative: &str) -> PathBuf {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(relative);
        assert!(path.exists(), "{} is missing: run make setup first", path.display());
        path
    }

    fn environment() -> Environment {
        crate::runtime::load(Some(&path(".tools/lib/libonnxruntime.so"))).unwrap()
    }

    fn tiny_add() -> OrtSession {
        let package = Source::open(&path("models/build/fixtures/tiny-add")).and_then(Source::read).unwrap();
        load(&environment(), &package, 1, 1).unwrap().pop().unwrap()
    }

    fn inputs() -> [Tensor; 2] {
        ["a", "b"].map(|name| Tensor::fp32(name, vec![1, 4], &[1.0, 2.0, 3.0, 4.0]))
    }

    #[test]
    fn a_stop_ends_the_run_and_the_session_goes_on() {
        let mut session = tiny_add();
        let stop = Stop::default();
        stop.raise();
        let error = session.run(&inputs(), &stop).expect_err("should have been stopped");
        assert!(error.to_string().contains("terminate"), "{error}");
        assert_eq!(session.run(&inputs(), &Stop::default()).unwrap()[0].to_fp32().unwrap(), [2.0, 4.0, 6.0, 8.0]);
    }

    #[test]
    fn what_onnx_runtime_refuses_is_an_error_of_that_run() {
        let mut session = tiny_add();
        let [a, b] = inputs();
        assert!(session.run(&[a.clone(), Tensor { name: "c".to_owned(), ..b.clone() }], &Stop::default()).is_err());
        assert!(session.run(&[a.clone(), Tensor { shape: vec![1, 5], ..b.clone() }], &Stop::default()).is_err());
        assert!(session.run(&[a, b], &Stop::default()).is_ok());
    }

    #[test]
    fn every_datatype_survives_onnx_runtime() {
        let _loaded = environment();
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
}
