//! A version of a raw model that answers, and what clients are told of it.

use consilium_engine::{Engine, TensorEntry, Unit};
use consilium_mesh::{
    inference::{Model, Port, Statistics},
    registry::ModelRef,
};

const PLATFORM: &str = "onnxruntime_onnx";

#[derive(Debug)]
pub(crate) struct Served {
    /// The name of its directory; a packaged model has its manifest's.
    pub(crate) name: String,
    /// An integer as text.
    pub(crate) version: String,
    pub(crate) engine: Engine,
    /// Of the calls over the Open Inference Protocol.
    pub(crate) statistics: Statistics,
}

impl Served {
    pub(super) fn new(name: String, version: String, engine: Engine) -> Served {
        Served { name, version, engine, statistics: Statistics::default() }
    }

    pub(crate) fn reference(&self) -> ModelRef {
        let digest = self.engine.digest().to_owned();
        ModelRef { name: self.name.clone(), version: self.version.clone(), digest }
    }

    /// The model as it is called by `name`.
    pub(crate) fn model(&self, name: &str) -> Model {
        let manifest = self.engine.manifest();
        let ports = |entries: &[TensorEntry]| entries.iter().map(port).collect();
        Model {
            name: name.to_owned(),
            version: self.version.clone(),
            platform: PLATFORM,
            inputs: ports(&manifest.inputs),
            outputs: ports(&manifest.outputs),
            max_batch: self.max_batch(),
            executors: self.engine.cost().executors,
        }
    }

    /// Rows that run together; 0 where requests are not joined. A batch of texts is bounded in tokens, which says nothing
    /// about rows. Nor is it told of a model with an optional input that has no rows: clients would give it some.
    pub(crate) fn max_batch(&self) -> usize {
        let cost = self.engine.cost();
        match cost.unit {
            Unit::Rows if self.engine.joins() && self.engine.manifest().inputs.iter().all(TensorEntry::batches) => {
                cost.batch_units
            }
            Unit::Rows | Unit::Tokens => 0,
        }
    }
}

fn port(entry: &TensorEntry) -> Port {
    // The protocol has no word for "any number of dimensions"; an empty shape would be a scalar's.
    let shape = if entry.any_rank { vec![-1] } else { entry.shape.clone() };
    Port { name: entry.name.clone(), datatype: entry.datatype, shape, optional: entry.optional }
}
