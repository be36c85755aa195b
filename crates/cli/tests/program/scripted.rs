//! A router that says what the test wants, behind the server that every router has.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use consilium_mesh::{
    errors::Refusal,
    serve::{Options, Server},
};
use consilium_proto::v1::{
    self,
    catalog_service_server::{CatalogService, CatalogServiceServer},
    decision::Outcome,
    instance::State,
    router_service_server::{RouterService, RouterServiceServer},
};
use futures::stream::BoxStream;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

/// What becomes of the first calls. After those, `fruit` answers everything but questions that begin with `who`.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Health checks that are told that it is not ready.
    pub(crate) unready: usize,
    /// Catalogues in which `fruit` is still connecting.
    pub(crate) unlisted: usize,
    /// Questions are taken and never answered.
    pub(crate) mute: bool,
    /// Questions for which nobody is there.
    pub(crate) nobody: usize,
    /// Questions after which nobody is there any more.
    pub(crate) last: Option<usize>,
}

/// Serves until dropped.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
    stop: CancellationToken,
    runtime: Option<Runtime>,
}

#[derive(Debug, Default)]
struct Counts {
    checks: AtomicUsize,
    catalogs: AtomicUsize,
    questions: AtomicUsize,
}

#[derive(Clone)]
struct Services {
    script: Arc<Script>,
    counts: Arc<Counts>,
}

impl Scripted {
    pub(crate) fn start(script: Script, options: Options) -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(free, script, options)
    }

    pub(crate) fn start_at(address: SocketAddr, script: Script, options: Options) -> Self {
        let runtime = Runtime::new().unwrap();
        let (counts, stop) = (Arc::<Counts>::default(), CancellationToken::new());
        let services = Services { script: Arc::new(script), counts: Arc::clone(&counts) };
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = runtime.block_on(async {
            Server::new(listener, options)
                .add_service(HealthServer::new(services.clone()))
                .add_service(CatalogServiceServer::new(services.clone()))
                .add_service(RouterServiceServer::new(services))
        });
        runtime.spawn(server.serve(stop.clone(), Duration::ZERO));
        Self { address, counts, stop, runtime: Some(runtime) }
    }

    pub(crate) fn checks(&self) -> usize {
        self.counts.checks.load(Ordering::SeqCst)
    }

    pub(crate) fn catalogs(&self) -> usize {
        self.counts.catalogs.load(Ordering::SeqCst)
    }

    pub(crate) fn questions(&self) -> usize {
        self.counts.questions.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tonic::async_trait]
impl Health for Services {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let before = self.counts.checks.fetch_add(1, Ordering::SeqCst);
        let status = if before < self.script.unready { ServingStatus::NotServing } else { ServingStatus::Serving };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }
}

#[tonic::async_trait]
impl CatalogService for Services {
    type WatchExpertsStream = BoxStream<'static, Result<v1::WatchExpertsResponse, Status>>;

    async fn list_experts(
        &self,
        _: Request<v1::ListExpertsRequest>,
    ) -> Result<Response<v1::ListExpertsResponse>, Status> {
        let before = self.counts.catalogs.fetch_add(1, Ordering::SeqCst);
        let state = if before < self.script.unlisted { State::Connecting } else { State::Serving };
        let instance = v1::Instance { state: state.into(), ..v1::Instance::default() };
        let fruit = v1::Expert { name: "fruit".into(), instances: vec![instance], ..v1::Expert::default() };
        let catalog = v1::Catalog { mesh: "market".into(), experts: vec![fruit], ..v1::Catalog::default() };
        Ok(Response::new(v1::ListExpertsResponse { catalog: Some(catalog) }))
    }

    async fn watch_experts(
        &self,
        _: Request<v1::WatchExpertsRequest>,
    ) -> Result<Response<Self::WatchExpertsStream>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }
}

#[tonic::async_trait]
impl RouterService for Services {
    type StreamDispatchStream = BoxStream<'static, Result<v1::StreamDispatchResponse, Status>>;

    async fn dispatch(&self, request: Request<v1::DispatchRequest>) -> Result<Response<v1::DispatchResponse>, Status> {
        let before = self.counts.questions.fetch_add(1, Ordering::SeqCst);
        if before < self.script.nobody || self.script.last.is_some_and(|last| before >= last) {
            return Err(Refusal::new(Code::Unavailable, "NO_LIVE_INSTANCE", "no live instance of fruit").into_status());
        }
        if self.script.mute {
            return std::future::pending().await;
        }
        let text = request.into_inner().query.unwrap_or_default().text;
        Ok(Response::new(if text.starts_with("who") { refused() } else { answered() }))
    }

    async fn stream_dispatch(
        &self,
        _: Request<v1::StreamDispatchRequest>,
    ) -> Result<Response<Self::StreamDispatchStream>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn explain(&self, _: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn send_feedback(
        &self,
        _: Request<v1::SendFeedbackRequest>,
    ) -> Result<Response<v1::SendFeedbackResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }
}

fn refused() -> v1::DispatchResponse {
    let decision = v1::Decision { outcome: Outcome::Refused.into(), ..v1::Decision::default() };
    v1::DispatchResponse { decision: Some(decision), ..v1::DispatchResponse::default() }
}

fn answered() -> v1::DispatchResponse {
    let said = v1::Text { text: "An apple is red.".into(), finish_reason: None };
    let answer = v1::Answer { body: Some(v1::answer::Body::Text(said)), ..v1::Answer::default() };
    let candidate = v1::decision::Candidate {
        expert: "fruit".into(),
        version: "1".into(),
        probability: 0.9,
        selected: true,
        reasons: Vec::new(),
    };
    let decision =
        v1::Decision { outcome: Outcome::Dispatched.into(), candidates: vec![candidate], ..v1::Decision::default() };
    let reply = v1::Reply {
        expert: "fruit".into(),
        version: "1".into(),
        result: Some(v1::reply::Result::Answer(answer.clone())),
        ..v1::Reply::default()
    };
    v1::DispatchResponse {
        decision: Some(decision),
        replies: vec![reply],
        answer: Some(answer),
        ..v1::DispatchResponse::default()
    }
}
