//! The router: one query in, the right expert's answer out.
//!
//! Start reading at [`pipeline`]: it is the walk of a request in six steps, each a module of its own.
//! [`run`] puts a router on a listener; what it needs comes as arguments, so a test runs the real thing on port 0.
//! [`program`] is the router as a process of its own.

mod admission;
mod balance;
mod call;
mod catalog;
mod combine;
mod config;
mod error;
pub mod feedback;
mod gate;
mod learn;
mod metrics;
mod model;
mod pipeline;
mod plan;
pub mod program;
mod reload;
mod server;
mod slo;
mod spans;
mod step;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use consilium_gate::{Encoder, Gate};
use consilium_mesh::{
    drain,
    health::Readiness,
    limits::Limits,
    metrics::Metrics,
    registry::Registry,
    serve,
    tls::{self, Tls},
};
use consilium_proto::{
    raw,
    v1::{
        catalog_service_server::{self, CatalogServiceServer},
        router_service_server::{self, RouterServiceServer},
    },
};
use futures::FutureExt as _;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tonic::codec::CompressionEncoding;

use self::gate::Policy;
pub use self::{
    admission::{MAX_TEXT_BYTES, MAX_TOP_K},
    config::Config,
    metrics::METRICS,
};

/// The largest reply of a router with the usual limits, bytes.
pub const MAX_REPLY_BYTES: usize = max_reply_bytes(consilium_mesh::limits::MAX_MESSAGE_BYTES);

/// The largest reply where messages have at most `max_message_bytes`. It holds an expert's answer up to three times: in the
/// reply, combined, and as a section.
const fn max_reply_bytes(max_message_bytes: usize) -> usize {
    max_message_bytes.saturating_mul(4)
}

/// What cutting off calls may take of the drain's time.
const CUT_OFF: Duration = Duration::from_millis(500);

/// A router that knows nobody yet lets connections wait, but no longer than this. To a client that knows several routers, one
/// that answers `UNAVAILABLE` is as good as the others, and gets its share of the calls and of their retries; one whose
/// connection is not made yet gets nothing.
const CONNECTIONS_WAIT: Duration = Duration::from_secs(10);

/// What a router needs beside its configuration.
pub struct Parts {
    /// Where it serves.
    pub listener: TcpListener,
    pub registry: Arc<dyn Registry>,
    /// Reads queries for the gate.
    pub encoder: Arc<dyn Encoder>,
    pub metrics: Metrics,
    /// Ready once the gate knows the experts of the registry and goes by the settings there, if there are any.
    pub readiness: Readiness,
}

/// What [`run`] waits for, as latches of its readiness.
const LATCHES: [&str; 3] = ["registry", "gate", "settings"];

/// A router's readiness, under every name that its health may be asked by. What [`run`] waits for is in it from the
/// beginning: a latch that somebody adds and sets before `run` begins does not make it ready.
pub fn readiness() -> Readiness {
    let services = [router_service_server::SERVICE_NAME, catalog_service_server::SERVICE_NAME, raw::SERVICE_NAME];
    let readiness = Readiness::new("router").with_services(services);
    for name in LATCHES {
        readiness.latch(name);
    }
    readiness
}

/// Why a router could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the gate cannot be made or fitted")]
    Gate(#[source] consilium_gate::Error),
    #[error("the router cannot take feedback")]
    Feedback(#[source] feedback::Error),
    #[error("the router's certificates cannot be used")]
    Tls(#[source] tls::Error),
    #[error("the router cannot serve")]
    Serve(#[source] serve::Error),
    #[error("the router's tasks ended before it was told to stop")]
    Ended,
}

/// Serves until `stop`, then leaves in order: not ready, keep serving while callers take notice, end long streams,
/// finish what runs.
pub async fn run(config: Config, parts: Parts, stop: CancellationToken) -> Result<drain::Report, Error> {
    let Parts { listener, registry, encoder, metrics, readiness } = parts;
    let [heard, learnt, settled] = LATCHES.map(|name| readiness.latch(name));
    let (model, policy) = gate(&config, encoder)?;
    let catalog = Arc::new(ArcSwap::from_pointee(catalog::Catalog::default()));
    let counters = metrics::Metrics::on(&metrics);
    metrics::watch(&metrics, &model, &catalog);

    let tls = Tls::open(&config.tls, &metrics).map_err(Error::Tls)?;
    let instances = how_to_know_experts(&config, &tls);
    let deadlines = serve::Deadlines { default: config.default_deadline, max: config.max_deadline };
    let options = serving(&config, &tls, deadlines);
    let server = serve::Server::new(listener, options).with_metrics(&metrics).with_health([readiness.clone()]);
    let (in_flight, long_streams) = (server.in_flight(), server.long_streams());

    let tasks = TaskTracker::new();
    let feedback = feedback::Feedback::open(&config, counters.clone(), &tasks).await.map_err(Error::Feedback)?;
    let ending = CancellationToken::new();
    let (published, changes) = watch::channel(catalog.load_full());
    tasks.spawn(ending.clone().run_until_cancelled_owned(tls.follow()));
    let lines = balance::Lines {
        tls: instances,
        news: watch::Sender::default(),
        metrics: counters.clone(),
        tasks: tasks.clone(),
        stop: ending.clone(),
    };
    let learner = learn::Learner {
        mesh: config.name.clone(),
        registry: Arc::clone(&registry),
        lines,
        catalog: Arc::clone(&catalog),
        gate: Arc::clone(&model),
        metrics: counters.clone(),
        published,
        heard,
        ready: learnt,
    };
    let mut learning = AbortOnDropHandle::new(tasks.spawn(learner.run(ending.clone())));
    let reloader = reload::Reloader {
        config: config.clone(),
        registry,
        gate: Arc::clone(&model),
        policy: Arc::clone(&policy),
        metrics: counters.clone(),
        settled,
    }
    .run(ending.clone());
    tasks.spawn(reloader);

    let pipeline = Arc::new(pipeline::Pipeline {
        admission: admission::Admission { default_deadline: config.default_deadline },
        gate: gate::Gate { model, policy, metrics: counters.clone() },
        caller: call::Caller::new(Arc::clone(&catalog), counters.clone(), config.max_message_bytes),
        metrics: counters.clone(),
        catalog,
    });
    let services = Services {
        inference: server::Inference {
            gate: server::GateModel {
                name: config.name.as_str().into(),
                pipeline: Arc::clone(&pipeline),
                statistics: Arc::default(),
            },
            surveys: server::Surveys::default(),
            readiness: readiness.clone(),
            deadlines,
            max_message_bytes: config.max_message_bytes,
            ending: long_streams.clone(),
        },
        router: server::Router { pipeline, feedback, tasks: tasks.clone() },
        catalogs: server::Catalogs { mesh: config.name.clone(), changes, metrics: counters },
    };
    let server = services.on(server, limits(&config));

    // The server cuts off what is left a little before the drain gives up on it, so that this is its own work.
    let grace = config.grace.saturating_sub(config.settle).saturating_sub(CUT_OFF);
    // Whatever way this function ends, nothing of it runs on.
    let _ending = ending.clone().drop_guard();
    let serving = CancellationToken::new();
    let server = known(readiness.clone(), stop.clone()).then({
        let serving = serving.clone();
        move |()| server.serve(serving, grace)
    });
    let mut served = AbortOnDropHandle::new(tasks.spawn(server));
    tokio::select! {
        () = stop.cancelled() => {}
        // Whatever way it ended: without it the router would serve on with a view that grows old.
        ended = &mut learning => return Err(match ended {
            Ok(Err(error)) => Error::Gate(error),
            Ok(Ok(())) | Err(_) => Error::Ended,
        }),
        ended = &mut served => return Err(ended.map_or(Error::Ended, |ended| ended.err().map_or(Error::Ended, Error::Serve))),
    }
    let leaving = drain::Leaving { readiness: &readiness, registration: None, long_streams, stop: serving, in_flight };
    let mut outcome = Ok(());
    let finished = async {
        outcome = served.await.map_err(|_| Error::Ended).and_then(|ended| ended.map_err(Error::Serve));
        ending.cancel();
        tasks.close();
        tasks.wait().await;
    };
    let options = drain::Options { settle: config.settle, budget: config.grace, ..drain::Options::default() };
    let report = drain::leave(leaving, finished, options).await;
    outcome.map(|()| report)
}

/// `None` for plaintext: without etcd, experts are of this process, and are called on loopback.
fn how_to_know_experts(config: &Config, tls: &Tls) -> Option<tls::Client> {
    let client = tls.client().filter(|_| config.registry.etcd.is_some())?;
    if client.plaintext_experts() {
        tracing::warn!("tls.plaintext_experts: experts that announce no TLS are called in plaintext");
    }
    Some(client)
}

/// The gate as it is set at the start, and who stands behind whom.
fn gate(config: &Config, encoder: Arc<dyn Encoder>) -> Result<(Arc<Gate>, Arc<ArcSwap<Policy>>), Error> {
    let model = Gate::with_settings(config.gate_settings.clone(), encoder).map_err(Error::Gate)?;
    Ok((Arc::new(model), Arc::new(ArcSwap::from_pointee(Policy::of(&config.gate)))))
}

/// How calls come in.
fn serving(config: &Config, tls: &Tls, deadlines: serve::Deadlines) -> serve::Options {
    serve::Options {
        name: "router",
        limits: limits(config),
        deadlines,
        tls: tls.server(),
        reflection: config.reflection,
        web: config.web.clone(),
        max_connection_age: (!config.max_connection_age.is_zero()).then_some(config.max_connection_age),
        callers: config.traces.callers,
    }
}

fn limits(config: &Config) -> Limits {
    Limits { max_message_bytes: config.max_message_bytes, ..Limits::default() }
}

/// Until the mesh is known, and while waiting for that helps anybody.
async fn known(readiness: Readiness, stop: CancellationToken) {
    let _ = stop.run_until_cancelled(timeout(CONNECTIONS_WAIT, readiness.ready())).await;
}

/// What clients may call.
struct Services {
    router: server::Router,
    catalogs: server::Catalogs,
    inference: server::Inference,
}

impl Services {
    fn on(self, server: serve::Server, limits: Limits) -> serve::Server {
        let (message, reply) = (limits.max_message_bytes, max_reply_bytes(limits.max_message_bytes));
        let router = RouterServiceServer::new(self.router);
        // Tensors are large and often sparse, and clients of this protocol can compress them.
        let inference = raw::Server::new(self.inference)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate);
        server
            .add_service(router.max_decoding_message_size(message).max_encoding_message_size(reply))
            .add_service(inference.max_decoding_message_size(message).max_encoding_message_size(reply))
            .add_service(CatalogServiceServer::new(self.catalogs))
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("listener", &self.listener).finish_non_exhaustive()
    }
}
