//! `consilium.v1.ExpertService` over one task. With `inference`, `wire` and `status` all that knows protobuf.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use consilium_mesh::{Deadline, inference::Statistics, message, registry::Card};
use consilium_proto::v1::{self, expert_service_server::ExpertService};
use futures::{Stream, StreamExt};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::{
    answering::Answering,
    config::Reads,
    metrics::Tally,
    models::{Models, control::Control},
    status::Refused,
    task::{Answer, Delta, Task, Timings},
    wire,
};

/// The service; clones share one expert.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) identity: Arc<Identity>,
    pub(crate) ready: Arc<OnceLock<Ready>>,
    pub(crate) tally: Arc<Tally>,
}

/// What is known before the model is loaded.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) expert: String,
    pub(crate) version: String,
    pub(crate) instance: String,
    pub(crate) epoch: String,
    pub(crate) reads: Reads,
    pub(crate) tls: bool,
}

/// What answers once the model is loaded and warm.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Its examples may change.
    pub(crate) card: ArcSwap<Card>,
    pub(crate) task: Arc<dyn Task>,
    pub(crate) models: Arc<Models>,
    /// What changes the models, where that is allowed.
    pub(crate) control: Option<Control>,
    /// Of the texts that came over the Open Inference Protocol.
    pub(crate) texts: Statistics,
}

impl Ready {
    pub(crate) fn new(card: Card, task: Arc<dyn Task>, models: Arc<Models>, control: Option<Control>) -> Ready {
        Ready { card: ArcSwap::from_pointee(card), task, models, control, texts: Statistics::default() }
    }
}

impl Server {
    /// Listens from the start, so that health says what is going on; answers once `ready` is set.
    pub(crate) fn new(identity: Arc<Identity>, ready: Arc<OnceLock<Ready>>, tally: Arc<Tally>) -> Server {
        Server { identity, ready, tally }
    }

    fn ready(&self, expert: &str) -> Result<&Ready, Refused> {
        if !expert.is_empty() && expert != self.identity.expert {
            return Err(Refused::UnknownExpert);
        }
        self.ready.get().ok_or(Refused::Starting)
    }

    /// The one path of both calls. Dropping the stream abandons what waits in the engine.
    fn events(&self, call: Call) -> Result<impl Stream<Item = Result<Event, Status>> + Send + use<>, Status> {
        let started = Instant::now();
        let ready = self.ready(&call.expert)?;
        let deadline = call.deadline.ok_or(Refused::NoDeadline)?;
        let answering = Answering::begin(&self.tally, &ready.card.load().task, deadline);
        let query = wire::query(call.query, call.embedding, self.identity.reads);
        let (answering, query) = answering.check(query.map_err(Refused::from))?;
        let deltas = answering.run(&ready.task, query, Refused::Failed);
        Ok(deltas.map(move |delta| match delta? {
            Delta::Text(text) => Ok(Event::Text(text)),
            Delta::Done(answer, timings) => Ok(Event::Done(Box::new(Done { answer, timings, started }))),
        }))
    }

    fn response(&self, done: Done) -> v1::InferResponse {
        v1::InferResponse {
            answer: Some(wire::answer(done.answer)),
            timings: Some(wire::timings(done.timings, done.started.elapsed())),
            expert: self.identity.expert.clone(),
            version: self.identity.version.clone(),
            instance: self.identity.instance.clone(),
        }
    }
}

#[tonic::async_trait]
impl ExpertService for Server {
    async fn infer(&self, request: Request<v1::InferRequest>) -> Result<Response<v1::InferResponse>, Status> {
        let deadline = deadline(&request);
        let v1::InferRequest { expert, query, context: _, embedding } = request.into_inner();
        let mut events = std::pin::pin!(self.events(Call { expert, query, embedding, deadline })?);
        while let Some(event) = events.next().await {
            match event? {
                Event::Text(_) => {} // The whole text is in the answer.
                Event::Done(done) => return Ok(Response::new(self.response(*done))),
            }
        }
        Err(Refused::NoAnswer.into())
    }

    type StreamInferStream = Pin<Box<dyn Stream<Item = Result<v1::StreamInferResponse, Status>> + Send>>;

    async fn stream_infer(
        &self,
        request: Request<v1::StreamInferRequest>,
    ) -> Result<Response<Self::StreamInferStream>, Status> {
        let deadline = deadline(&request);
        let v1::StreamInferRequest { expert, query, context: _, embedding } = request.into_inner();
        let events = self.events(Call { expert, query, embedding, deadline })?;
        let server = self.clone();
        let responses = events.map(move |event| {
            let event = match event? {
                Event::Text(text) => v1::stream_infer_response::Event::Delta(text),
                Event::Done(done) => v1::stream_infer_response::Event::Done(server.response(*done)),
            };
            Ok(v1::StreamInferResponse { event: Some(event) })
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        let ready = self.ready(&request.get_ref().expert)?;
        let revision = ready.task.knowledge().map(|knowledge| knowledge.revision());
        Ok(Response::new(v1::DescribeResponse {
            card: Some(message::card(&ready.card.load())),
            instance: self.identity.instance.clone(),
            epoch: self.identity.epoch.clone(),
            knowledge_revision: revision.as_deref().unwrap_or_default().to_owned(),
        }))
    }
}

/// What `Infer` and `StreamInfer` ask alike.
struct Call {
    expert: String,
    query: Option<v1::Query>,
    embedding: Option<v1::Embedding>,
    deadline: Option<Instant>,
}

enum Event {
    Text(String),
    Done(Box<Done>),
}

struct Done {
    answer: Answer,
    timings: Timings,
    started: Instant,
}

fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    Deadline::of(request.extensions()).map(Deadline::instant)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
