//! The outgoing edge: what travels to the experts and comes back. Together with `server` (the incoming edge) the only
//! module that knows protobuf. Queries and answers are carried, not opened: a few questions are answered about them,
//! the rest is the experts' and the clients' business.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use consilium_gate::Vector;
use consilium_proto::{client::expert_service_client::ExpertServiceClient, v1};
use tokio::sync::mpsc;
use tonic::{Request, Status, transport::Channel};

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

/// One call of an expert.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) expert: &'a str,
    pub(crate) payload: &'a Payload,
    /// The gate's vector of the text, for experts on the same encoder.
    pub(crate) vector: Option<&'a Vector>,
    /// Sent as `grpc-timeout`.
    pub(crate) timeout: Duration,
    pub(crate) max_message_bytes: usize,
}

impl Call<'_> {
    /// Asks and waits for the whole answer.
    pub(crate) async fn infer(&self, channel: Channel) -> Result<Inferred, Status> {
        let (query, context, embedding) = self.parts();
        let message = v1::InferRequest { expert: self.expert.to_owned(), query, context, embedding };
        let reply = self.client(channel).infer(self.request(message)).await?;
        inferred(reply.into_inner())
    }

    /// Asks, and passes pieces of text on as they come, each with the number of its leg. `said` is set before the first.
    pub(crate) async fn stream_infer(
        &self,
        channel: Channel,
        leg: usize,
        (texts, said): (&Texts, &AtomicBool),
    ) -> Result<Inferred, Status> {
        let (query, context, embedding) = self.parts();
        let message = v1::StreamInferRequest { expert: self.expert.to_owned(), query, context, embedding };
        let mut events = self.client(channel).stream_infer(self.request(message)).await?.into_inner();
        while let Some(event) = events.message().await? {
            match event.event {
                Some(v1::stream_infer_response::Event::Delta(delta)) => {
                    said.store(true, Ordering::Relaxed);
                    texts.send((leg, delta)).await.map_err(|_| Status::cancelled("the caller went away"))?;
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

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }
}

fn inferred(reply: v1::InferResponse) -> Result<Inferred, Status> {
    let answer = reply.answer.ok_or_else(|| Status::internal("the expert's reply has no answer"))?;
    Ok(Inferred { answer: Answer(answer), timings: reply.timings })
}
