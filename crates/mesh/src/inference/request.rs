//! A `ModelInferRequest` as tensors, and tensors as a `ModelInferResponse`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use consilium_proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice,
    model_infer_request::InferRequestedOutputTensor, model_infer_response::InferOutputTensor,
};
use consilium_tensor::Tensor;
use tonic::{Code, Status};

use super::contents;
use crate::errors::Refusal;

/// Inputs, and requested outputs, of one request. The largest models have some hundred.
const MAX_TENSORS: usize = 4096;
/// Parameters of a request, or of one of its tensors.
const MAX_PARAMETERS: usize = 256;
/// Parameters that begin like this are attributes of the queries: they say who may answer, so none is passed over.
pub const ATTRIBUTES: &str = "attributes.";

/// What somebody asks of a model. Names, datatypes and the form of the contents are checked; whether they are what the
/// model takes is the model's business.
#[derive(Clone, Default)]
pub struct Request {
    pub model: String,
    /// As it came: empty, or what should be an integer.
    pub version: String,
    pub id: String,
    /// String parameters, by name. Everything else that clients send along means nothing here, but for attributes, which
    /// are refused if they are no strings.
    pub parameters: BTreeMap<String, String>,
    /// The number of bytes is what datatype and shape say.
    pub inputs: Vec<Tensor>,
    /// The outputs that are wanted; empty for all.
    pub outputs: Vec<String>,
}

/// What the model gave.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub model: String,
    pub version: String,
    pub id: String,
    pub outputs: Vec<Tensor>,
}

/// Why a request is none: the field, what is wrong with it and what was expected, never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub field: String,
    pub problem: String,
    /// Part of the protocol, but not served: `UNIMPLEMENTED` and not `INVALID_ARGUMENT`.
    pub unsupported: bool,
}

impl Request {
    /// Reads a request: typed contents become raw ones, raw ones are taken as they are.
    ///
    /// # Errors
    /// The first thing that is wrong, see [`Invalid`].
    pub fn decode(message: ModelInferRequest) -> Result<Self, Invalid> {
        let ModelInferRequest { model_name, model_version, id, parameters, inputs, outputs, raw_input_contents } =
            message;
        at_most(MAX_TENSORS, inputs.len(), "inputs")?;
        at_most(MAX_TENSORS, outputs.len(), "outputs")?;
        at_most(MAX_PARAMETERS, parameters.len(), "parameters")?;
        Ok(Self {
            model: model_name,
            version: model_version,
            id,
            parameters: strings(parameters)?,
            inputs: contents::tensors(inputs, raw_input_contents)?,
            outputs: outputs.into_iter().enumerate().map(requested).collect::<Result<_, _>>()?,
        })
    }

    /// Whether the outputs that are asked for are among `outputs`, all that the model has: to be asked before it works in
    /// vain.
    ///
    /// # Errors
    /// An output was asked for that is not among them, or twice.
    pub fn check_outputs<'a>(&self, outputs: impl IntoIterator<Item = &'a str>) -> Result<(), Invalid> {
        if self.outputs.is_empty() {
            return Ok(());
        }
        let known: BTreeSet<&str> = outputs.into_iter().collect();
        let mut wanted = BTreeSet::new();
        for (index, name) in self.outputs.iter().enumerate() {
            let field = || format!("outputs[{}]", label(name, index));
            if !known.contains(name.as_str()) {
                return Err(Invalid::new(field(), "the model has no such output"));
            }
            if !wanted.insert(name) {
                return Err(Invalid::new(field(), "asked for more than once"));
            }
        }
        Ok(())
    }

    /// `outputs`, which are the model's in its own order, reduced to those that were asked for.
    ///
    /// # Errors
    /// As [`Request::check_outputs`].
    pub fn wanted(&self, mut outputs: Vec<Tensor>) -> Result<Vec<Tensor>, Invalid> {
        self.check_outputs(outputs.iter().map(|output| output.name.as_str()))?;
        if !self.outputs.is_empty() {
            let wanted: BTreeSet<&str> = self.outputs.iter().map(String::as_str).collect();
            outputs.retain(|output| wanted.contains(output.name.as_str()));
        }
        Ok(outputs)
    }
}

impl std::fmt::Debug for Request {
    /// Names and sizes: parameters are somebody's, and the id may be.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs.len())
            .field("parameters", &self.parameters.len())
            .finish_non_exhaustive()
    }
}

impl Reply {
    /// Always raw contents, one entry an output: clients read nothing else.
    pub fn encode(self) -> ModelInferResponse {
        let mut reply = ModelInferResponse {
            model_name: self.model,
            model_version: self.version,
            id: self.id,
            ..ModelInferResponse::default()
        };
        for Tensor { name, datatype, shape, data } in self.outputs {
            let datatype = datatype.as_str().to_owned();
            reply.outputs.push(InferOutputTensor { name, datatype, shape, ..InferOutputTensor::default() });
            reply.raw_output_contents.push(data);
        }
        reply
    }
}

impl Invalid {
    pub(super) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), unsupported: false }
    }

    fn unsupported(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { unsupported: true, ..Self::new(field, problem) }
    }
}

impl From<Invalid> for Status {
    fn from(Invalid { field, problem, unsupported }: Invalid) -> Self {
        let message = format!("{field}: {problem}");
        let refusal = if unsupported {
            Refusal::new(Code::Unimplemented, "UNSUPPORTED", message)
        } else {
            Refusal::new(Code::InvalidArgument, "INVALID_REQUEST", message)
        };
        refusal.with_violation(field, problem).into_status()
    }
}

fn strings(parameters: HashMap<String, InferParameter>) -> Result<BTreeMap<String, String>, Invalid> {
    let mut strings = BTreeMap::new();
    for (index, (name, parameter)) in parameters.into_iter().enumerate() {
        if let Some(ParameterChoice::StringParam(value)) = parameter.parameter_choice {
            strings.insert(name, value);
        } else if name.starts_with(ATTRIBUTES) {
            return Err(Invalid::new(format!("parameters[{}]", label(&name, index)), "a string is expected"));
        }
    }
    Ok(strings)
}

fn requested((index, output): (usize, InferRequestedOutputTensor)) -> Result<String, Invalid> {
    let field = || format!("outputs[{}]", label(&output.name, index));
    if output.name.is_empty() {
        return Err(Invalid::new(format!("outputs[{index}].name"), "a name is expected"));
    }
    check_parameters(&output.parameters, field)?;
    if output.parameters.contains_key("classification") {
        let field = format!("{}.parameters[classification]", field());
        return Err(Invalid::unsupported(field, "outputs are given whole, not as their highest classes"));
    }
    Ok(output.name)
}

/// Of the parameters that a tensor can have, those that would change where it is may not be passed over.
pub(super) fn check_parameters(
    parameters: &HashMap<String, InferParameter>,
    field: impl Fn() -> String,
) -> Result<(), Invalid> {
    if parameters.len() > MAX_PARAMETERS {
        at_most(MAX_PARAMETERS, parameters.len(), &format!("{}.parameters", field()))?;
    }
    if parameters.contains_key("shared_memory_region") {
        let field = format!("{}.parameters[shared_memory_region]", field());
        return Err(Invalid::unsupported(field, "shared memory is not served: tensors travel in messages"));
    }
    Ok(())
}

fn at_most(most: usize, count: usize, field: &str) -> Result<(), Invalid> {
    if count <= most { Ok(()) } else { Err(Invalid::new(field, format!("{count}, at most {most} are taken"))) }
}

/// A client's name for something, where it can be a part of a field's path; else which one it is.
pub(super) fn label(name: &str, index: usize) -> String {
    let printable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'[' | b']');
    if (1..=64).contains(&name.len()) && name.bytes().all(printable) { name.to_owned() } else { index.to_string() }
}

#[cfg(test)]
mod tests;
