//! What a model is like, for `ModelMetadata`, `ModelConfig` and the index of a server.

use consilium_proto::inference::{
    self as oip,
    model_config::SchedulingChoice,
    model_instance_group::Kind,
    model_metadata_response::TensorMetadata,
    model_version_policy::{Latest, PolicyChoice},
    repository_index_response::ModelIndex,
};
use consilium_tensor::DataType;

/// What servers of a mesh call themselves.
pub const SERVER_NAME: &str = "consilium";

/// A model as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub name: String,
    /// An integer as text.
    pub version: String,
    /// `onnxruntime_onnx`, or `consilium` for what is more than a model.
    pub platform: &'static str,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Rows that may run together along the first dimension; 0: requests are never joined. Set above 0 only where every
    /// port, optional inputs included, has a first dimension that is free: [`Model::config`] leaves it out of all of them.
    pub max_batch: usize,
    /// Batches that run side by side.
    pub executors: usize,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub datatype: DataType,
    /// With the batch dimension; -1 is free.
    pub shape: Vec<i64>,
    pub optional: bool,
}

/// What the index says of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    Loading,
    Unloading,
    /// Why.
    Unavailable(String),
}

impl Model {
    /// Name, version and ports, with the batch dimension. Field 6 is never sent: what it is differs between dialects.
    pub fn metadata(&self) -> oip::ModelMetadataResponse {
        let tensor = |port: &Port| TensorMetadata {
            name: port.name.clone(),
            datatype: port.datatype.as_str().to_owned(),
            shape: port.shape.clone(),
        };
        oip::ModelMetadataResponse {
            name: self.name.clone(),
            versions: vec![self.version.clone()],
            platform: self.platform.to_owned(),
            inputs: self.inputs.iter().map(tensor).collect(),
            outputs: self.outputs.iter().map(tensor).collect(),
        }
    }

    /// The same as Triton's own configuration would say it: without the batch dimension where there is one.
    pub fn config(&self) -> oip::ModelConfig {
        let onnx = self.platform == "onnxruntime_onnx";
        let joins = self.max_batch > 0;
        oip::ModelConfig {
            name: self.name.clone(),
            platform: self.platform.to_owned(),
            backend: if onnx { "onnxruntime" } else { self.platform }.to_owned(),
            default_model_filename: if onnx { "model.onnx" } else { "" }.to_owned(),
            version_policy: Some(oip::ModelVersionPolicy {
                policy_choice: Some(PolicyChoice::Latest(Latest { num_versions: 1 })),
            }),
            max_batch_size: int32(self.max_batch),
            input: self.inputs.iter().map(|port| self.input(port)).collect(),
            output: self.outputs.iter().map(|port| self.output(port)).collect(),
            instance_group: vec![oip::ModelInstanceGroup {
                name: self.name.clone(),
                count: int32(self.executors),
                gpus: Vec::new(),
                kind: Kind::Cpu.into(),
            }],
            scheduling_choice: joins.then(|| SchedulingChoice::DynamicBatching(oip::ModelDynamicBatching::default())),
            model_transaction_policy: Some(oip::ModelTransactionPolicy { decoupled: false }),
            ..oip::ModelConfig::default()
        }
    }

    fn input(&self, port: &Port) -> oip::ModelInput {
        oip::ModelInput {
            name: port.name.clone(),
            data_type: data_type(port.datatype).into(),
            dims: self.dims(port),
            optional: port.optional,
            ..oip::ModelInput::default()
        }
    }

    fn output(&self, port: &Port) -> oip::ModelOutput {
        oip::ModelOutput {
            name: port.name.clone(),
            data_type: data_type(port.datatype).into(),
            dims: self.dims(port),
            ..oip::ModelOutput::default()
        }
    }

    fn dims(&self, port: &Port) -> Vec<i64> {
        port.shape.iter().skip(usize::from(self.max_batch > 0)).copied().collect()
    }
}

/// A line of `RepositoryIndex`.
pub fn index_entry(name: &str, version: &str, readiness: &Readiness) -> ModelIndex {
    let (state, reason) = match readiness {
        Readiness::Ready => ("READY", ""),
        Readiness::Loading => ("LOADING", ""),
        Readiness::Unloading => ("UNLOADING", ""),
        Readiness::Unavailable(reason) => ("UNAVAILABLE", reason.as_str()),
    };
    ModelIndex {
        name: name.to_owned(),
        version: version.to_owned(),
        state: state.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The same of every server.
pub fn server_metadata() -> oip::ServerMetadataResponse {
    oip::ServerMetadataResponse {
        name: SERVER_NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: ["model_repository", "model_configuration", "statistics"].map(str::to_owned).to_vec(),
    }
}

fn data_type(datatype: DataType) -> oip::DataType {
    match datatype {
        DataType::Bool => oip::DataType::TypeBool,
        DataType::Uint8 => oip::DataType::TypeUint8,
        DataType::Uint16 => oip::DataType::TypeUint16,
        DataType::Uint32 => oip::DataType::TypeUint32,
        DataType::Uint64 => oip::DataType::TypeUint64,
        DataType::Int8 => oip::DataType::TypeInt8,
        DataType::Int16 => oip::DataType::TypeInt16,
        DataType::Int32 => oip::DataType::TypeInt32,
        DataType::Int64 => oip::DataType::TypeInt64,
        DataType::Fp16 => oip::DataType::TypeFp16,
        DataType::Bf16 => oip::DataType::TypeBf16,
        DataType::Fp32 => oip::DataType::TypeFp32,
        DataType::Fp64 => oip::DataType::TypeFp64,
        DataType::Bytes => oip::DataType::TypeString,
    }
}

fn int32(size: usize) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
