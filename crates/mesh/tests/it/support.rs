//! A tiny service, a server around it, and two kinds of client.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use consilium_mesh::{
    dial::{self, Target},
    health::Readiness,
    metrics::Metrics,
    serve::{Error, InFlight, Options, Server},
};
use consilium_proto::{
    client::catalog_service_client::CatalogServiceClient,
    v1::{
        ListExpertsRequest, ListExpertsResponse, WatchExpertsRequest, WatchExpertsResponse,
        catalog_service_server::{CatalogService, CatalogServiceServer},
    },
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, body::Body, transport::Channel};

type Answer = Result<Response<ListExpertsResponse>, Status>;
type Answering = dyn Fn(Request<ListExpertsRequest>) -> BoxFuture<'static, Answer> + Send + Sync;

/// `ListExperts` does what the test says; `WatchExperts` sends one message and then never ends.
pub(crate) struct Catalog(Arc<Answering>);

impl Catalog {
    pub(crate) fn new<F>(answer: impl Fn(Request<ListExpertsRequest>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self(Arc::new(move |request| answer(request).boxed()))
    }

    pub(crate) fn empty() -> Self {
        Self::new(|_| async { Ok(Response::new(ListExpertsResponse::default())) })
    }

    /// Answers once `open` has been cancelled.
    pub(crate) fn behind(open: &CancellationToken) -> Self {
        let open = open.clone();
        Self::new(move |_| {
            let open = open.clone();
            async move {
                open.cancelled().await;
                Ok(Response::new(ListExpertsResponse::default()))
            }
        })
    }
}

#[tonic::async_trait]
impl CatalogService for Catalog {
    async fn list_experts(&self, request: Request<ListExpertsRequest>) -> Answer {
        (self.0)(request).await
    }

    type WatchExpertsStream = BoxStream<'static, Result<WatchExpertsResponse, Status>>;

    async fn watch_experts(
        &self,
        _: Request<WatchExpertsRequest>,
    ) -> Result<Response<Self::WatchExpertsStream>, Status> {
        let first = futures::stream::once(async { Ok(WatchExpertsResponse::default()) });
        Ok(Response::new(first.chain(futures::stream::pending()).boxed()))
    }
}

/// A server that runs until `stop`.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
    pub(crate) long_streams: CancellationToken,
    pub(crate) in_flight: InFlight,
    server: JoinSet<Result<(), Error>>,
}

impl Running {
    pub(crate) async fn start(catalog: Catalog, options: Options) -> Self {
        Self::start_with_grace(catalog, options, Duration::from_secs(30)).await
    }

    pub(crate) async fn start_with_grace(catalog: Catalog, options: Options, grace: Duration) -> Self {
        Self::start_adding(options, grace, |server| server.add_service(CatalogServiceServer::new(catalog))).await
    }

    pub(crate) async fn start_adding(options: Options, grace: Duration, add: impl FnOnce(Server) -> Server) -> Self {
        let readiness = Readiness::new("catalog").with_services(["consilium.v1.CatalogService"]);
        let metrics = Metrics::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::new(listener, options).with_metrics(&metrics).with_health([readiness.clone()]);
        let server = add(server);
        let (address, stop) = (server.local_addr().unwrap(), CancellationToken::new());
        let (long_streams, in_flight) = (server.long_streams(), server.in_flight());
        let mut running = JoinSet::new();
        running.spawn(server.serve(stop.clone(), grace));
        Self { address, readiness, metrics, stop, long_streams, in_flight, server: running }
    }

    pub(crate) fn channel(&self) -> Channel {
        dial::channel(&Target::plain(self.address.to_string())).unwrap()
    }

    pub(crate) fn client(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel())
    }

    /// A client without timers of its own: tonic's reads `grpc-timeout` as well, and would answer before the server.
    pub(crate) fn timerless(&self) -> CatalogServiceClient<HyperClient> {
        CatalogServiceClient::with_origin(hyper_client(), format!("http://{}", self.address).parse().unwrap())
    }

    /// Returns once the server has stopped.
    pub(crate) async fn stopped(&mut self) {
        self.server.join_next().await.unwrap().unwrap().unwrap();
    }
}

pub(crate) type HyperClient = hyper_util::client::legacy::Client<HttpConnector, Body>;

pub(crate) fn hyper_client() -> HyperClient {
    hyper_util::client::legacy::Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

/// Polls until `condition` holds. It must be something that will hold, however slow the machine.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}
