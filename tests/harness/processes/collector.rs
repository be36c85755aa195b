//! The other end of OTLP over gRPC, for tests that need more of it than a store of traces: one that remembers every byte
//! that it was sent and passes it on, and one that swallows what comes at hardly any cost.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use consilium_proto::raw::BytesCodec;
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::CompressionEncoding,
    codegen::{Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::{Channel, Server, server::TcpIncoming},
};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<Result<(), tonic::transport::Error>>,
}

#[derive(Debug, Default)]
struct State {
    /// Where it passes everything on to; without one it remembers nothing either.
    next: Option<Channel>,
    exports: AtomicUsize,
    bytes: AtomicUsize,
    kept: Mutex<Vec<Bytes>>,
}

impl Collector {
    /// Keeps every byte, and passes it on to `next`, a URL.
    pub async fn before(next: &str) -> Self {
        let next = next.parse::<http::Uri>().expect("a URL is one");
        Self::start(Some(Channel::builder(next).connect_lazy())).await
    }

    /// Counts what comes, and forgets it.
    pub async fn that_swallows() -> Self {
        Self::start(None).await
    }

    async fn start(next: Option<Channel>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound port has an address");
        let state = Arc::new(State { next, ..State::default() });
        let server = Server::builder().add_service(Export(Arc::clone(&state)));
        let mut serving = JoinSet::new();
        serving.spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Self { address, state, _serving: serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often it was sent spans, and how many bytes of them.
    pub fn received(&self) -> (usize, usize) {
        (self.state.exports.load(Ordering::Relaxed), self.state.bytes.load(Ordering::Relaxed))
    }

    /// What it was sent, message by message.
    pub fn kept(&self) -> Vec<Bytes> {
        self.state.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `TraceService`, without reading what the messages say.
#[derive(Debug, Clone)]
struct Export(Arc<State>);

impl NamedService for Export {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

type Exporting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<http::Request<Body>> for Export {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Exporting<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let grpc = Grpc::new(BytesCodec).max_decoding_message_size(usize::MAX);
            let mut grpc = grpc.accept_compressed(CompressionEncoding::Gzip);
            Ok(grpc.unary(service, request).await)
        })
    }
}

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = Exporting<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move { state.take(request.into_inner()).await.map(Response::new) })
    }
}

impl State {
    async fn take(&self, message: Bytes) -> Result<Bytes, Status> {
        self.exports.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(message.len(), Ordering::Relaxed);
        // An empty reply: all of it was taken.
        let Some(next) = &self.next else { return Ok(Bytes::new()) };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(message.clone());
        let mut client = tonic::client::Grpc::new(next.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = http::uri::PathAndQuery::from_static(EXPORT);
        client.unary(Request::new(message), path, BytesCodec).await.map(Response::into_inner)
    }
}
