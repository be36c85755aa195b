//! The outgoing edge: what travels to the experts and comes back. Together with `server` (the incoming edge) the only
//! module that knows protobuf. Queries and answers are carried, not opened: a few questions are answered about them,
//! the rest is the experts' and the clients' business.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use consilium_gate::Vector;
use consilium_mesh::telemetry;
use consilium_proto::{
    client::{expert_service_client::ExpertServiceClient, grpc_inference_service_client::GrpcInferenceServiceClient},
    inference as oip, raw, v1,
};
use tokio::sync::mpsc;
use tonic::{Request, Status, transport::Channel};

use crate::max_reply_bytes;

/// What a leg asks of an instance. Every attempt asks the same.
pub(crate) trait Ask: Sync {
    type Answer: Send;

    /// Whether it is the work that the expert's objective is about, and whose time tells how loaded an instance is.
    const IS_WORK: bool = true;

    /// The full name of the method that is called.
    fn method(&self) -> &'static str;

    /// `timeout` is sent as `grpc-timeout`.
    fn ask(&self, channel: Channel, timeout: Duration) -> impl Future<Output = Result<Self::Answer, Status>> + Send;

    /// Whether the caller has a part of the answer already: it cannot be taken back, so nobody starts over.
    fn has_begun(&self) -> bool {
        false
    }
}

/// A query as the experts get it. Cheap to clone: every attempt sends the same one.
#[derive(Debug, Clone)]
pub(crate) struct Payload(Arc<(v1::Query, v1::CallContext)>);

impl Payload {
    pub(crate) fn new(query: v1::Query, context: v1::CallContext) -> Self {
        Self(Arc::new((query, context)))
    }

    pub(crate) fn has_parts(&self) -> bool {
        !self.0.0.parts.is_empty()
    }
}

/// An expert's answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer(v1::Answer);

impl Answer {
    /// `best`, with every answer as a section of it.
    pub(crate) fn of_sections<'a>(best: &Answer, all: impl Iterator<Item = (&'a str, &'a str, &'a Answer)>) -> Self {
        let section = |(expert, version, answer): (&str, &str, &Answer)| v1::Section {
            expert: expert.to_owned(),
            version: version.to_owned(),
            answer: Some(answer.0.clone()),
        };
        Self(v1::Answer { sections: all.map(section).collect(), ..best.0.clone() })
    }

    /// How sure the expert is, 0..=1, where it says so.
    pub(crate) fn confidence(&self) -> Option<f64> {
        self.0.confidence
    }

    pub(crate) fn into_message(self) -> v1::Answer {
        self.0
    }

    pub(crate) fn to_message(&self) -> v1::Answer {
        self.0.clone()
    }
}

/// How several answers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Combine {
    #[default]
    Best,
    All,
}

/// Pieces of text on their way to the caller, each with the number of its leg.
pub(crate) type Texts = mpsc::Sender<(usize, String)>;

/// Where an expert's time went, as it says.
pub(crate) type Timings = v1::Timings;

/// An answer, and where the expert's time went.
#[derive(Debug, Clone)]
pub(crate) struct Inferred {
    pub(crate) answer: Answer,
    pub(crate) timings: Option<Timings>,
}

/// A query to an expert.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) expert: &'a str,
    pub(crate) payload: &'a Payload,
    /// The gate's vector of the text, for experts on the same encoder.
    pub(crate) vector: Option<&'a Vector>,
    pub(crate) voice: Option<Voice>,
    pub(crate) max_message_bytes: usize,
}

/// Where pieces of text go while the answer is made, for callers who want them.
#[derive(Debug)]
pub(crate) struct Voice {
    /// The number of the leg.
    leg: usize,
    texts: Texts,
    /// Set before the first piece.
    said: AtomicBool,
}

impl Voice {
    pub(crate) fn new(leg: usize, texts: Texts) -> Self {
        Self { leg, texts, said: AtomicBool::new(false) }
    }
}

impl Ask for Question<'_> {
    type Answer = Inferred;

    fn method(&self) -> &'static str {
        match self.voice {
            None => "consilium.v1.ExpertService/Infer",
            Some(_) => "consilium.v1.ExpertService/StreamInfer",
        }
    }

    async fn ask(&self, channel: Channel, timeout: Duration) -> Result<Inferred, Status> {
        match &self.voice {
            None => self.infer(channel, timeout).await,
            Some(voice) => self.stream_infer(channel, timeout, voice).await,
        }
    }

    fn has_begun(&self) -> bool {
        self.voice.as_ref().is_some_and(|voice| voice.said.load(Ordering::Relaxed))
    }
}

impl Question<'_> {
    /// Asks and waits for the whole answer.
    async fn infer(&self, channel: Channel, timeout: Duration) -> Result<Inferred, Status> {
        let (query, context, embedding) = self.parts();
        let message = v1::InferRequest { expert: self.expert.to_owned(), query, context, embedding };
        let reply = self.client(channel).infer(request(message, timeout)).await?;
        inferred(reply.into_inner())
    }

    /// Asks, and passes pieces of text on as they come.
    async fn stream_infer(&self, channel: Channel, timeout: Duration, voice: &Voice) -> Result<Inferred, Status> {
        let (query, context, embedding) = self.parts();
        let message = v1::StreamInferRequest { expert: self.expert.to_owned(), query, context, embedding };
        let mut events = self.client(channel).stream_infer(request(message, timeout)).await?.into_inner();
        while let Some(event) = events.message().await? {
            match event.event {
                Some(v1::stream_infer_response::Event::Delta(delta)) => {
                    voice.said.store(true, Ordering::Relaxed);
                    let piece = (voice.leg, delta);
                    voice.texts.send(piece).await.map_err(|_| Status::cancelled("the caller went away"))?;
                }
                Some(v1::stream_infer_response::Event::Done(done)) => return inferred(done),
                None => {}
            }
        }
        Err(Status::internal("the expert's stream ended without an answer"))
    }

    fn parts(&self) -> (Option<v1::Query>, Option<v1::CallContext>, Option<v1::Embedding>) {
        let (query, context) = &*self.payload.0;
        let embedding = self
            .vector
            .map(|vector| v1::Embedding { model_digest: vector.model_digest.clone(), vector: vector.values.to_vec() });
        (Some(query.clone()), Some(context.clone()), embedding)
    }

    fn client(&self, channel: Channel) -> ExpertServiceClient<Channel> {
        ExpertServiceClient::new(channel)
            .max_decoding_message_size(self.max_message_bytes)
            .max_encoding_message_size(self.max_message_bytes)
    }
}

/// Tensors to a model: an encoded `ModelInferRequest`, which is passed on as the bytes that it is; so is the reply.
pub(crate) struct Tensors {
    pub(crate) request: Bytes,
    pub(crate) max_message_bytes: usize,
}

impl Ask for Tensors {
    type Answer = Bytes;

    fn method(&self) -> &'static str {
        "inference.GRPCInferenceService/ModelInfer"
    }

    async fn ask(&self, channel: Channel, timeout: Duration) -> Result<Bytes, Status> {
        let mut client = raw::Client::new(channel)
            .max_decoding_message_size(max_reply_bytes(self.max_message_bytes))
            .max_encoding_message_size(self.max_message_bytes);
        Ok(client.model_infer(request(self.request.clone(), timeout)).await?.into_inner())
    }
}

/// A question about a model, and not to it.
#[derive(Debug)]
pub(crate) struct About<M>(pub(crate) M);

macro_rules! about {
    ($($message:ident: $name:literal, $method:ident -> $answer:ident,)*) => {
        $(impl Ask for About<oip::$message> {
            type Answer = oip::$answer;

            const IS_WORK: bool = false;

            fn method(&self) -> &'static str {
                concat!("inference.GRPCInferenceService/", $name)
            }

            async fn ask(&self, channel: Channel, timeout: Duration) -> Result<oip::$answer, Status> {
                let message = self.0.clone();
                let reply = GrpcInferenceServiceClient::new(channel).$method(request(message, timeout)).await?;
                Ok(reply.into_inner())
            }
        })*
    };
}

about! {
    ModelReadyRequest: "ModelReady", model_ready -> ModelReadyResponse,
    ModelMetadataRequest: "ModelMetadata", model_metadata -> ModelMetadataResponse,
    ModelConfigRequest: "ModelConfig", model_config -> ModelConfigResponse,
    ModelStatisticsRequest: "ModelStatistics", model_statistics -> ModelStatisticsResponse,
}

/// A request of the current span.
fn request<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    telemetry::inject(request.metadata_mut());
    request
}

fn inferred(reply: v1::InferResponse) -> Result<Inferred, Status> {
    let answer = reply.answer.ok_or_else(|| Status::internal("the expert's reply has no answer"))?;
    Ok(Inferred { answer: Answer(answer), timings: reply.timings })
}
