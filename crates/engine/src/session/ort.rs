//! A [`Session`] that is ONNX Runtime: loading a verified package, and running it. What its graph takes and gives is in
//! `graph`, tensors to ONNX values and back in `values`.

use std::sync::Arc;

use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use ort::session::{RunOptions, SessionInputValue};

use super::graph;
use super::values::{from_value, to_value};
use super::{RunError, Session, Stop};
use crate::error::Error;
use crate::manifest::{Manifest, TensorEntry};
use crate::onnx;
use crate::package::Package;
use crate::runtime::without_values;
use consilium_tensor::Tensor;

/// Weights below this are left to each session: there are many, they weigh nothing, and ONNX Runtime folds small
/// constants into the graph only if they are not given from outside.
const MIN_SHARED_BYTES: usize = 4096;

pub(crate) struct OrtSession {
    session: ort::session::Session,
    outputs: Vec<TensorEntry>,
}

/// A model that ONNX Runtime has accepted.
pub(crate) struct Loaded {
    /// The package's; of a bare one with what its graph says of inputs and outputs.
    pub(crate) manifest: Manifest,
    pub(crate) sessions: Vec<OrtSession>,
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
) -> Result<Loaded, Error> {
    let mut manifest = package.manifest.clone();
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
    if let Some(session) = sessions.first() {
        let graph = graph::Graph::of(session);
        let problems =
            if package.bare { graph.describe(&contents, &mut manifest) } else { graph.mismatches(&manifest) };
        if !problems.is_empty() {
            return Err(package.refused(problems));
        }
    }
    let outputs = &manifest.outputs;
    let sessions = sessions.into_iter().map(|session| OrtSession { session, outputs: outputs.clone() }).collect();
    Ok(Loaded { manifest, sessions })
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
    let shared = contents.weights.iter().filter(|weight| weight.data.len() >= MIN_SHARED_BYTES);
    // What a caller may give instead is no constant, and must stay the graph's own.
    for weight in shared.filter(|weight| !contents.is_overridable(weight.name)) {
        let value = to_value(weight.datatype, &weight.shape, weight.data)?;
        builder = builder.with_initializer(weight.name, value)?;
    }
    Ok(builder.with_prepacked_weights(&PrepackedWeights::new())?)
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
        load(&environment(), &package, 1, 1).unwrap().sessions.pop().unwrap()
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
}
