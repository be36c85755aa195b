//! An instance that does as it is told, served as a real one is, and remembers what it was asked.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use consilium_mesh::{
    health::Readiness,
    registry::{Card, MemoryRegistry, ModelRef, Record, Registration, Registry, testing::record},
    serve,
};
use consilium_proto::{
    inference as oip, raw,
    v1::{
        self,
        expert_service_server::{ExpertService, ExpertServiceServer},
    },
};
use futures::Stream;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

/// What it makes of an encoded `ModelInferRequest`.
pub(crate) type Script = fn(&Shared, &Bytes) -> Result<Bytes, Status>;

/// A running instance. Dropping it is a crash.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) registration: Box<dyn Registration>,
    pub(crate) record: Record,
    shared: Arc<Shared>,
    _tasks: JoinSet<Result<(), serve::Error>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: String,
    script: Mutex<Script>,
    /// Requests in the order that they came in: encoded ones, and the texts of queries.
    got: Mutex<Vec<Bytes>>,
    /// A permit for each query that may be answered.
    pub(crate) answers: Semaphore,
    /// Does not tell what it has done.
    silent: AtomicBool,
    most_at_once: Mutex<(usize, usize)>,
}

pub(crate) fn models(names: &[&str]) -> Vec<ModelRef> {
    let model = |name: &&str| ModelRef { name: (*name).into(), version: "1".into(), digest: String::new() };
    names.iter().map(model).collect()
}

impl Instance {
    /// Joins as one more instance of the card's expert, with these models loaded.
    pub(crate) async fn join(registry: &MemoryRegistry, card: Card, loaded: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let id = format!("{}-{}", card.expert, address.rsplit(':').next().unwrap());
        let shared = Arc::new(Shared {
            id: id.clone(),
            script: Mutex::new(|shared, _| Ok(Bytes::from(format!("reply of {}", shared.id)))),
            got: Mutex::default(),
            answers: Semaphore::new(Semaphore::MAX_PERMITS),
            silent: AtomicBool::new(false),
            most_at_once: Mutex::default(),
        });
        let readiness = Readiness::new(card.expert.as_str());
        readiness.latch("scripted").set();
        let server = serve::Server::new(listener, serve::Options { name: "scripted", ..serve::Options::default() })
            .with_health([readiness])
            .add_service(raw::Server::from_arc(Arc::clone(&shared)))
            .add_service(ExpertServiceServer::from_arc(Arc::clone(&shared)));
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(CancellationToken::new(), Duration::ZERO));
        let (version, models) = (card.version.clone(), models(loaded));
        let record = Record { address, version, models, ..record(&card.expert, &id) };
        let registration = registry.register(card, record.clone()).await.unwrap();
        Self { id, registration, record, shared, _tasks: tasks }
    }

    pub(crate) fn script(&self, script: Script) {
        *self.shared.script.lock().unwrap() = script;
    }

    /// From now on it tells nobody what it has done.
    pub(crate) fn fall_silent(&self) {
        self.shared.silent.store(true, Ordering::Relaxed);
    }

    pub(crate) fn got(&self) -> Vec<Bytes> {
        self.shared.got.lock().unwrap().clone()
    }

    /// The most queries that ran at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most_at_once.lock().unwrap().1
    }

    /// The semaphore whose permits let queries be answered; once it is closed, they fail.
    pub(crate) fn answers(&self) -> &Semaphore {
        &self.shared.answers
    }
}

impl Shared {
    fn running(&self, one_more: bool) {
        let mut counts = self.most_at_once.lock().unwrap();
        counts.0 = if one_more { counts.0 + 1 } else { counts.0 - 1 };
        counts.1 = counts.1.max(counts.0);
    }
}

#[tonic::async_trait]
impl ExpertService for Shared {
    /// Answers with the text and the attributes.
    async fn infer(&self, request: Request<v1::InferRequest>) -> Result<Response<v1::InferResponse>, Status> {
        let query = request.into_inner().query.unwrap();
        self.got.lock().unwrap().push(Bytes::from(query.text.clone()));
        self.running(true);
        let permit = self.answers.acquire().await;
        self.running(false);
        permit.map_err(|_| Status::internal("it answers no more"))?.forget();
        if query.text.contains("too long") {
            let refusal = consilium_mesh::errors::Refusal::new(Code::InvalidArgument, "INVALID_QUERY", "too long");
            return Err(refusal.with_violation("query.text", "longer than the model reads").into_status());
        }
        let mut said = vec![query.text];
        said.extend(query.attributes.into_iter().map(|(name, values)| format!("{name}={}", values.values.join("+"))));
        let text = v1::Text { text: said.join(" "), finish_reason: None };
        let answer =
            v1::Answer { body: Some(v1::answer::Body::Text(text)), confidence: Some(0.5), ..Default::default() };
        Ok(Response::new(v1::InferResponse { answer: Some(answer), ..Default::default() }))
    }

    type StreamInferStream = Pin<Box<dyn Stream<Item = Result<v1::StreamInferResponse, Status>> + Send>>;

    async fn stream_infer(
        &self,
        _: Request<v1::StreamInferRequest>,
    ) -> Result<Response<Self::StreamInferStream>, Status> {
        Err(Status::unimplemented("nobody here wants streams"))
    }

    async fn describe(&self, _: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        Err(Status::unimplemented("nobody here asks"))
    }
}

#[tonic::async_trait]
impl raw::Service for Shared {
    async fn model_infer(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let request = request.into_inner();
        let script = *self.script.lock().unwrap();
        let reply = script(self, &request).map(Response::new);
        self.got.lock().unwrap().push(request);
        reply
    }

    async fn model_ready(
        &self,
        request: Request<oip::ModelReadyRequest>,
    ) -> Result<Response<oip::ModelReadyResponse>, Status> {
        Ok(Response::new(oip::ModelReadyResponse { ready: request.get_ref().version != "9" }))
    }

    async fn model_metadata(
        &self,
        request: Request<oip::ModelMetadataRequest>,
    ) -> Result<Response<oip::ModelMetadataResponse>, Status> {
        let name = request.into_inner().name;
        Ok(Response::new(oip::ModelMetadataResponse { name, platform: self.id.clone(), ..Default::default() }))
    }

    async fn model_config(
        &self,
        request: Request<oip::ModelConfigRequest>,
    ) -> Result<Response<oip::ModelConfigResponse>, Status> {
        let config = oip::ModelConfig { name: request.into_inner().name, max_batch_size: 7, ..Default::default() };
        Ok(Response::new(oip::ModelConfigResponse { config: Some(config) }))
    }

    /// Two inferences of whatever model is asked for, or of `net`.
    async fn model_statistics(
        &self,
        request: Request<oip::ModelStatisticsRequest>,
    ) -> Result<Response<oip::ModelStatisticsResponse>, Status> {
        if self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let asked = request.into_inner().name;
        let name = if asked.is_empty() { "labs.net".to_owned() } else { asked };
        let told = oip::ModelStatistics { name, version: "1".into(), inference_count: 2, ..Default::default() };
        Ok(Response::new(oip::ModelStatisticsResponse { model_stats: vec![told] }))
    }

    async fn server_live(
        &self,
        _: Request<oip::ServerLiveRequest>,
    ) -> Result<Response<oip::ServerLiveResponse>, Status> {
        Err(nobody_asks())
    }

    async fn server_ready(
        &self,
        _: Request<oip::ServerReadyRequest>,
    ) -> Result<Response<oip::ServerReadyResponse>, Status> {
        Err(nobody_asks())
    }

    async fn server_metadata(
        &self,
        _: Request<oip::ServerMetadataRequest>,
    ) -> Result<Response<oip::ServerMetadataResponse>, Status> {
        Err(nobody_asks())
    }

    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        _: Request<tonic::Streaming<Bytes>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        Err(nobody_asks())
    }

    async fn repository_index(
        &self,
        _: Request<oip::RepositoryIndexRequest>,
    ) -> Result<Response<oip::RepositoryIndexResponse>, Status> {
        Err(nobody_asks())
    }

    async fn repository_model_load(
        &self,
        _: Request<oip::RepositoryModelLoadRequest>,
    ) -> Result<Response<oip::RepositoryModelLoadResponse>, Status> {
        Err(nobody_asks())
    }

    async fn repository_model_unload(
        &self,
        _: Request<oip::RepositoryModelUnloadRequest>,
    ) -> Result<Response<oip::RepositoryModelUnloadResponse>, Status> {
        Err(nobody_asks())
    }
}

/// The router answers this by itself, or breaks it up into calls.
fn nobody_asks() -> Status {
    Status::unimplemented("a router does not ask this")
}
