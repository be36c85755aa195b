//! An expert that does as it is told, served exactly as a real one is: for faults that a real expert cannot be made to
//! show on demand.

mod mirror;

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use consilium_mesh::{
    health::Readiness,
    registry::{
        Card, Record, Registration, Registry, Slo,
        testing::{card, record},
    },
    serve,
};
use consilium_proto::v1::{
    self,
    expert_service_server::{ExpertService, ExpertServiceServer},
};
use futures::Stream;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// What it does with a call.
#[derive(Debug, Clone)]
pub enum Behaviour {
    Answer,
    /// Answers, and says that it is so sure.
    Sure(f64),
    /// Answers with what it received, a line for each thing that was said.
    Mirror,
    /// Answers once [`Scripted::release`] is called.
    Hold,
    Fail(Status),
    /// Streams these pieces of text, then answers.
    Stream(Vec<&'static str>),
    /// Streams these pieces of text, then fails.
    Break(Vec<&'static str>, Status),
    /// Fails the first attempt of each request, and answers the next, wherever that is.
    Stumble(Status, Stumbled),
}

/// The requests that were failed once already, by their ids. Clones know the same ones.
#[derive(Debug, Clone, Default)]
pub struct Stumbled(Arc<Mutex<BTreeSet<String>>>);

impl Stumbled {
    /// Whether the request comes for the first time.
    fn is_first(&self, context: &v1::CallContext) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(context.request_id.clone())
    }
}

/// A running scripted expert. Dropping it is a crash.
#[derive(Debug)]
pub struct Scripted {
    state: Arc<Shared>,
    pub instance: String,
    registration: Box<dyn Registration>,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), serve::Error>>,
}

#[derive(Debug)]
struct Shared {
    expert: String,
    instance: String,
    behaviour: Mutex<Behaviour>,
    calls: watch::Sender<usize>,
    abandoned: watch::Sender<usize>,
    running: AtomicUsize,
    released: CancellationToken,
}

impl Scripted {
    /// Joins `expert` of the registry as one more instance.
    pub async fn join(registry: &dyn Registry, card: Card, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound port has an address").to_string();
        let epoch = Uuid::now_v7().to_string();
        let instance = format!("{}-scripted-{}", card.expert, &epoch[24..]);
        let state = Arc::new(Shared {
            expert: card.expert.clone(),
            instance: instance.clone(),
            behaviour: Mutex::new(behaviour),
            calls: watch::Sender::new(0),
            abandoned: watch::Sender::new(0),
            running: AtomicUsize::new(0),
            released: CancellationToken::new(),
        });
        let readiness = Readiness::new(card.expert.as_str());
        readiness.latch("scripted").set();
        let stop = CancellationToken::new();
        let options = serve::Options { name: "scripted", ..serve::Options::default() };
        let server = serve::Server::new(listener, options)
            .with_health([readiness])
            .add_service(ExpertServiceServer::from_arc(Arc::clone(&state)));
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(stop.clone(), Duration::ZERO));
        let (version, software) = (card.version.clone(), "scripted".into());
        let record = Record { address, epoch, version, software, ..record(&card.expert, &instance) };
        let registration = registry.register(card, record).await.expect("the registry takes a scripted expert");
        Self { state, instance, registration, stop, tasks }
    }

    /// A card for an expert that exists only as scripted instances.
    pub fn card(expert: &str, examples: &[&str]) -> Card {
        Card {
            summary: format!("A scripted expert called {expert}."),
            examples: examples.iter().map(|&example| example.into()).collect(),
            task: "scripted".into(),
            slo: Slo { latency: Duration::from_millis(500), objective: 0.9, first_token: None },
            ..card(expert)
        }
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// Lets go of everything that is held.
    pub fn release(&self) {
        self.state.released.cancel();
    }

    /// Calls that arrived so far.
    pub fn calls(&self) -> usize {
        *self.state.calls.borrow()
    }

    /// Returns once so many calls have arrived.
    pub async fn called(&self, times: usize) {
        let mut calls = self.state.calls.subscribe();
        calls.wait_for(|calls| *calls >= times).await.expect("the expert lives");
    }

    /// Returns once so many held calls were dropped without an answer.
    pub async fn abandoned(&self, times: usize) {
        let mut abandoned = self.state.abandoned.subscribe();
        abandoned.wait_for(|calls| *calls >= times).await.expect("the expert lives");
    }

    /// Announces that it drains, and keeps serving.
    pub async fn drain(&self) {
        self.registration.drain().await.expect("the registry is in memory");
    }

    /// Leaves in good order: its card stays.
    pub async fn leave(mut self) {
        self.registration.deregister().await.expect("the registry can be reached");
        self.break_down().await;
    }

    /// Stops serving while the registry still lists it.
    pub async fn break_down(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Counts a held call that was dropped.
struct Held<'a>(&'a Shared, bool);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        if !self.1 {
            self.0.abandoned.send_modify(|count| *count += 1);
        }
    }
}

impl Shared {
    fn answer(&self) -> v1::InferResponse {
        self.say(format!("answer of {}", self.instance))
    }

    fn say(&self, text: String) -> v1::InferResponse {
        let text = v1::Text { text, finish_reason: None };
        v1::InferResponse {
            answer: Some(v1::Answer { body: Some(v1::answer::Body::Text(text)), ..Default::default() }),
            timings: None,
            expert: self.expert.clone(),
            version: "1".into(),
            instance: self.instance.clone(),
        }
    }

    async fn act(&self, query: &v1::Query, context: &v1::CallContext) -> Result<v1::InferResponse, Status> {
        self.calls.send_modify(|count| *count += 1);
        let behaviour = self.behaviour.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match behaviour {
            Behaviour::Fail(status) | Behaviour::Break(_, status) => Err(status),
            Behaviour::Stumble(status, stumbled) if stumbled.is_first(context) => Err(status),
            Behaviour::Answer | Behaviour::Stream(_) | Behaviour::Stumble(..) => Ok(self.answer()),
            Behaviour::Sure(confidence) => {
                let mut response = self.answer();
                if let Some(answer) = &mut response.answer {
                    answer.confidence = Some(confidence);
                }
                Ok(response)
            }
            Behaviour::Mirror => Ok(self.say(mirror::told(query, context))),
            Behaviour::Hold => {
                self.running.fetch_add(1, Ordering::AcqRel);
                let mut held = Held(self, false);
                self.released.cancelled().await;
                held.1 = true;
                Ok(self.answer())
            }
        }
    }
}

#[tonic::async_trait]
impl ExpertService for Shared {
    async fn infer(&self, request: Request<v1::InferRequest>) -> Result<Response<v1::InferResponse>, Status> {
        let v1::InferRequest { query, context, .. } = request.into_inner();
        self.act(&query.unwrap_or_default(), &context.unwrap_or_default()).await.map(Response::new)
    }

    type StreamInferStream = Pin<Box<dyn Stream<Item = Result<v1::StreamInferResponse, Status>> + Send>>;

    async fn stream_infer(
        &self,
        request: Request<v1::StreamInferRequest>,
    ) -> Result<Response<Self::StreamInferStream>, Status> {
        use v1::stream_infer_response::Event;
        let behaviour = self.behaviour.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (pieces, breaks) = match behaviour {
            Behaviour::Stream(pieces) => (pieces, false),
            Behaviour::Break(pieces, _) => (pieces, true),
            Behaviour::Answer
            | Behaviour::Sure(_)
            | Behaviour::Mirror
            | Behaviour::Hold
            | Behaviour::Fail(_)
            | Behaviour::Stumble(..) => (Vec::new(), false),
        };
        let v1::StreamInferRequest { query, context, .. } = request.into_inner();
        let end = self.act(&query.unwrap_or_default(), &context.unwrap_or_default()).await;
        let end = match end {
            Err(status) if !breaks => return Err(status),
            end => end.map(Event::Done),
        };
        let events = pieces.into_iter().map(|piece| Ok(Event::Delta(piece.into()))).chain([end]);
        let message = |event| v1::StreamInferResponse { event: Some(event) };
        let messages: Vec<_> = events.map(|event: Result<_, Status>| event.map(message)).collect();
        Ok(Response::new(Box::pin(futures::stream::iter(messages))))
    }

    async fn describe(&self, _: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        Ok(Response::new(v1::DescribeResponse { instance: self.instance.clone(), ..Default::default() }))
    }
}
