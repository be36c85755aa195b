//! Requests with a trace of their own, and what they are made of.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use consilium_proto::{
    client::{grpc_inference_service_client::GrpcInferenceServiceClient, router_service_client::RouterServiceClient},
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
    v1,
};
use consilium_tests::processes::{Lab, Practice};
use tonic::{
    Request,
    metadata::{AsciiMetadataKey, AsciiMetadataValue},
    transport::Channel,
};
use uuid::Uuid;

/// A question to the expert that classifies. It has a model of its own, so that its texts are encoded there.
pub(crate) const CHEST: &str = "58-year-old man, chest pressure radiating to the left arm for an hour, sweating";
/// A question to an expert with two instances, on the model that the gate reads with.
pub(crate) const WARFARIN: &str = "Can my patient take ibuprofen with warfarin?";

/// The place in a trace that a request begins below, as a caller without an SDK would make one up.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) trace: String,
    pub(crate) span: String,
    sampled: bool,
}

impl Context {
    pub(crate) fn new() -> Self {
        let (trace, span) = (Uuid::now_v7(), Uuid::now_v7().as_u64_pair().1);
        Self { trace: trace.simple().to_string(), span: format!("{span:016x}"), sampled: true }
    }

    /// One that its caller has decided against.
    pub(crate) fn unsampled() -> Self {
        Self { sampled: false, ..Self::new() }
    }

    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }

    /// Sends it along with a request.
    pub(crate) fn with<T>(&self, message: T) -> Request<T> {
        with_header(message, "traceparent", &self.traceparent())
    }
}

pub(crate) fn with_header<T>(message: T, name: &str, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    let name: AsciiMetadataKey = name.parse().expect("a name is one");
    let value: AsciiMetadataValue = value.parse().expect("a value is one");
    request.metadata_mut().insert(name, value);
    request.set_timeout(Duration::from_secs(10));
    request
}

/// The question with an end that no other one has: a gate that remembers texts has to read it.
pub(crate) fn anew(question: &str) -> String {
    static ASKED: AtomicU64 = AtomicU64::new(1);
    format!("{question} ({})", ASKED.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn query(text: &str) -> v1::Query {
    v1::Query { text: text.to_owned(), ..Default::default() }
}

/// A clinician's question.
pub(crate) fn clinicians(text: &str) -> v1::Query {
    let clinician = v1::Values { values: vec!["clinician".to_owned()] };
    v1::Query { attributes: [("audience".to_owned(), clinician)].into(), ..query(text) }
}

pub(crate) fn dispatch(query: v1::Query) -> v1::DispatchRequest {
    v1::DispatchRequest { query: Some(query), ..Default::default() }
}

/// The same question to nobody but this expert.
pub(crate) fn to(expert: &str, query: v1::Query) -> v1::DispatchRequest {
    let options = v1::DispatchOptions { experts: vec![expert.to_owned()], ..Default::default() };
    v1::DispatchRequest { options: Some(options), ..dispatch(query) }
}

/// One that streams the same.
pub(crate) fn streamed(request: v1::DispatchRequest) -> v1::StreamDispatchRequest {
    let v1::DispatchRequest { query, context, options } = request;
    v1::StreamDispatchRequest { query, context, options }
}

/// A text to a whole expert, over the Open Inference Protocol.
pub(crate) fn text_tensor(model: &str, text: &str) -> ModelInferRequest {
    let mut data = u32::try_from(text.len()).expect("texts here are short").to_le_bytes().to_vec();
    data.extend(text.as_bytes());
    infer(model, [("text", "BYTES", vec![1], data)])
}

/// What `tensors.add-sub` takes.
pub(crate) fn add_sub() -> ModelInferRequest {
    let sixteen = |value: f32| value.to_le_bytes().repeat(16);
    let inputs = [("a", "FP32", vec![1, 16], sixteen(1.0)), ("b", "FP32", vec![1, 16], sixteen(2.0))];
    infer(&format!("{}.add-sub", Lab::TENSORS), inputs)
}

pub(crate) fn infer<const N: usize>(model: &str, inputs: [(&str, &str, Vec<i64>, Vec<u8>); N]) -> ModelInferRequest {
    let mut request = ModelInferRequest { model_name: model.to_owned(), ..Default::default() };
    for (name, datatype, shape, data) in inputs {
        let (name, datatype) = (name.to_owned(), datatype.to_owned());
        request.inputs.push(InferInputTensor { name, datatype, shape, ..Default::default() });
        request.raw_input_contents.push(Bytes::from(data));
    }
    request
}

pub(crate) fn client(practice: &Practice) -> RouterServiceClient<Channel> {
    RouterServiceClient::new(practice.router.channel.clone())
}

pub(crate) fn inference(practice: &Practice) -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::new(practice.router.channel.clone())
}
