//! The only way to listen. Every server of a mesh gets the same limits, the same layers in the same order, health,
//! reflection where wanted, and a stop that is bounded.

mod connection;
mod connections;
pub(crate) mod web;

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, server::NamedService, service::RoutesBuilder};
use tower::{Service, ServiceBuilder};

use self::connections::{Connections, Greeting};
pub use self::web::Web;
pub use crate::layer::{deadline::Deadlines, shed::InFlight};
use crate::{
    health::{HealthService, Readiness},
    layer::{
        catch_panic::CatchPanicLayer,
        deadline::DeadlineLayer,
        long_streams::LongStreamsLayer,
        metrics::MetricsLayer,
        shed::{Room, ShedLayer},
        trace::TraceLayer,
        web::WebLayer,
    },
    limits::{self, Limits},
    methods::Methods,
    metrics::{Metrics, RpcMetrics},
    telemetry::Callers,
    tls,
};

/// What a server is like. `Options { name: "expert", ..Options::default() }` is a good one.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `server` label in metrics and logs.
    pub name: &'static str,
    pub limits: Limits,
    pub deadlines: Deadlines,
    /// Without it, plaintext is spoken.
    pub tls: Option<tls::Server>,
    /// Serves reflection v1 and v1alpha for the services that were added.
    pub reflection: bool,
    /// Serves gRPC-Web beside gRPC, and HTTP/1.1 beside HTTP/2.
    pub web: Option<Web>,
    /// After this long, give or take a tenth, a connection's client is asked to make another one; calls that run on it are
    /// not touched.
    pub max_connection_age: Option<Duration>,
    /// What becomes of the traces that callers bring.
    pub callers: Callers,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "server",
            limits: Limits::default(),
            deadlines: Deadlines::default(),
            tls: None,
            reflection: false,
            web: None,
            max_connection_age: None,
            callers: Callers::default(),
        }
    }
}

/// Why a server could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a descriptor set does not decode")]
    Descriptors(#[source] prost::DecodeError),
    #[error("reflection cannot serve the descriptor sets")]
    Reflection(#[source] tonic_reflection::server::Error),
    #[error("the listener has no address")]
    Listener(#[source] io::Error),
}

/// A server in the making.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    options: Options,
    routes: RoutesBuilder,
    services: Vec<&'static str>,
    descriptors: Vec<&'static [u8]>,
    metrics: Metrics,
    in_flight: InFlight,
    long_streams: CancellationToken,
}

impl Server {
    /// A server that answers nothing yet. The caller binds: tests use port 0, and a port that is taken is noticed
    /// before a model is loaded.
    pub fn new(listener: TcpListener, options: Options) -> Self {
        Self {
            listener,
            options,
            routes: RoutesBuilder::default(),
            services: Vec::new(),
            descriptors: vec![
                consilium_proto::DESCRIPTOR_SET,
                tonic_health::pb::FILE_DESCRIPTOR_SET,
                tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            ],
            metrics: Metrics::new(),
            in_flight: InFlight::default(),
            long_streams: CancellationToken::new(),
        }
    }

    /// Counts into these metrics instead of its own, which nobody reads.
    #[must_use]
    pub fn with_metrics(mut self, metrics: &Metrics) -> Self {
        self.metrics = metrics.clone();
        self
    }

    /// Serves `grpc.health.v1` for these: each under its own names, and all of them together under `""`.
    #[must_use]
    pub fn with_health(self, readiness: impl IntoIterator<Item = Readiness>) -> Self {
        self.add_service(HealthService::server(readiness))
    }

    /// Adds a service. Message limits are the service's own: `.max_decoding_message_size(limits.max_message_bytes)`.
    #[must_use]
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.services.push(S::NAME);
        self.routes.add_service(service);
        self
    }

    /// Adds the encoded `FileDescriptorSet` of services outside `consilium.v1`, for reflection, metric labels and to
    /// tell streams from unary methods.
    #[must_use]
    pub fn add_descriptors(mut self, set: &'static [u8]) -> Self {
        self.descriptors.push(set);
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`Error::Listener`] when the operating system does not say.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.listener.local_addr().map_err(Error::Listener)
    }

    /// The count of running calls; stays readable after the server has stopped.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.clone()
    }

    /// Cancelling it ends health `Watch`, `WatchExperts` and reflection streams, which nothing else ends: see
    /// `drain`. A service whose streams owe replies ends their intake on it, see [`crate::inference::replies`].
    /// [`Server::serve`] cancels it when it stops, at the latest.
    pub fn long_streams(&self) -> CancellationToken {
        self.long_streams.clone()
    }

    /// Serves until `stop`; then takes no new connections, tells clients to go (GOAWAY) and waits up to `grace` for
    /// running calls. What still runs then is cut off.
    ///
    /// # Errors
    /// [`Error`] when it cannot start.
    pub async fn serve(self, stop: CancellationToken, grace: Duration) -> Result<(), Error> {
        let methods = Methods::read(self.descriptors.iter().copied())?;
        let transport = self.transport();
        let Self { listener, options, mut routes, services, descriptors, metrics, in_flight, long_streams } = self;
        if options.reflection {
            reflect(&mut routes, &services, &descriptors)?;
        }
        let Options { name, limits, deadlines, tls, web, max_connection_age, callers, reflection: _ } = options;
        let tls = tls.map(|tls| Greeting { tls, http1: web.is_some(), metrics: metrics.part() });
        let web = web.map(|web| WebLayer::new(web.allowed(), limits.max_header_list_bytes));
        let rpc = metrics.part::<RpcMetrics>();
        rpc.serves(name);
        let calls = Room { server: name, max: limits.max_in_flight, taken: in_flight, metrics: rpc.clone() };
        let stack = ServiceBuilder::new()
            // Outermost: whatever panics further in ends one call, not a connection that carries many. For the few layers
            // that the one below is not around.
            .layer(CatchPanicLayer { server: name, metrics: rpc.clone() })
            // Where browsers may call. Outside of all that knows calls: further in, a browser's call is gRPC like any
            // other, with a deadline, a place and a status in its trailers; and what is no call is not counted as one.
            .option_layer(web)
            // Before anything refuses, so that refusals are seen too.
            .layer(TraceLayer { server: name, methods: methods.clone(), callers })
            // Counts everything that was logged: the two never disagree. Inside of the span, so that it is remembered.
            .layer(MetricsLayer { server: name, methods: methods.clone(), metrics: rpc.clone() })
            // Once more, right inside of what counts: a call that panics anywhere from here on is seen as the INTERNAL that
            // its client gets, and not as one that was given up.
            .layer(CatchPanicLayer { server: name, metrics: rpc.clone() })
            // Authentication's place: strangers are counted, but get no deadline and no room.
            // Sets when the call must be over, before anything can take time.
            .layer(DeadlineLayer { deadlines, methods })
            // Last, so that only calls which will really run take up room.
            .layer(ShedLayer::new(calls))
            // Not a step of the walk: lets the streams that never end be ended when the server stops.
            .layer(LongStreamsLayer { end: long_streams.clone() })
            .service(routes.routes().prepare());

        let cut = CancellationToken::new();
        // Also when this future is dropped: no connection outlives its server.
        let _cut_at_the_end = cut.clone().drop_guard();
        let connections =
            Connections { server: name, tls, transport, stack, max_age: max_connection_age, cut: cut.clone() };
        let served = connections.serve(listener, &stop, &long_streams);
        tokio::pin!(served);
        tokio::select! {
            () = &mut served => return Ok(()),
            () = async { stop.cancelled().await; tokio::time::sleep(grace).await } => {}
        }
        tracing::warn!(server = name, "calls were still running when the time to stop was over: cutting them off");
        cut.cancel();
        served.await;
        Ok(())
    }

    fn transport(&self) -> tonic::transport::Server {
        let limits = self.options.limits;
        tonic::transport::Server::builder()
            .accept_http1(self.options.web.is_some())
            .max_concurrent_streams(limits.max_streams)
            .http2_max_header_list_size(limits.max_header_list_bytes)
            .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
            .http2_max_pending_accept_reset_streams(Some(limits::MAX_PENDING_RESETS))
            .http2_max_local_error_reset_streams(Some(limits::MAX_LOCAL_RESETS))
            .http2_keepalive_interval(Some(limits::SERVER_PING_INTERVAL))
            .http2_keepalive_timeout(Some(limits::SERVER_PING_TIMEOUT))
    }
}

/// Adds both versions of reflection: stock tools of today ask for either.
fn reflect(routes: &mut RoutesBuilder, services: &[&str], descriptors: &[&'static [u8]]) -> Result<(), Error> {
    let builder = || {
        let mut builder = tonic_reflection::server::Builder::configure();
        for set in descriptors {
            builder = builder.register_encoded_file_descriptor_set(set);
        }
        // Without a list of names, reflection would show every service of the descriptors, served or not.
        for service in services {
            builder = builder.with_service_name(*service);
        }
        builder
    };
    routes.add_service(builder().build_v1().map_err(Error::Reflection)?);
    routes.add_service(builder().build_v1alpha().map_err(Error::Reflection)?);
    Ok(())
}
