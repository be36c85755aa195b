//! What operators and probes talk to: `/livez`, `/readyz`, `/metrics` and plaintext `grpc.health.v1`, on a port and a
//! thread of its own, so that a busy server still answers them. It needs no registry, no model and no TLS.

use std::{fmt, io, net::SocketAddr, thread};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
    serve::ListenerExt,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    health::{HealthService, Readiness},
    metrics::{BuildMetrics, Metrics, ProcessMetrics},
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why the admin port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the admin listener cannot be used")]
    Listener(#[source] io::Error),
    #[error("the admin thread cannot be started")]
    Thread(#[source] io::Error),
}

/// The running admin server. Stops when dropped.
pub struct Admin {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Admin {
    /// Serves on `listener` until stopped. `/readyz` is ready when all of `readiness` are; `/metrics` shows `metrics` and
    /// what there is to say of the process itself.
    ///
    /// # Errors
    /// [`Error`] when the listener cannot be used or the thread not be started.
    pub fn start(listener: std::net::TcpListener, readiness: Vec<Readiness>, metrics: Metrics) -> Result<Self, Error> {
        metrics.part::<ProcessMetrics>();
        metrics.part::<BuildMetrics>();
        let address = listener.local_addr().map_err(Error::Listener)?;
        listener.set_nonblocking(true).map_err(Error::Listener)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(Error::Listener)?
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let thread = thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                let listener = listener.tap_io(|stream| {
                    // A probe is one small packet each way: it should not wait for more.
                    let _ = stream.set_nodelay(true);
                });
                runtime.block_on(async move {
                    // No graceful end: an open health watch would make it last for ever. Dropping the runtime ends
                    // every connection.
                    tokio::select! {
                        () = stopped => {}
                        served = axum::serve(listener, router(readiness, metrics)) => {
                            if let Err(error) = served {
                                tracing::error!(%error, "the admin server stopped");
                            }
                        }
                    }
                });
            })
            .map_err(Error::Thread)?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and joins the thread: milliseconds.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the admin thread panicked");
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("address", &self.address).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Facts {
    readiness: Vec<Readiness>,
    metrics: Metrics,
}

fn router(readiness: Vec<Readiness>, metrics: Metrics) -> Router {
    // Without its fallback, which answers 200 with a gRPC status inside: a mistyped probe would always succeed.
    let grpc = Routes::new(HealthService::server(readiness.clone())).into_axum_router().reset_fallback();
    Router::new()
        // Alive means that this thread answers. It depends on nothing that a restart would not mend.
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .with_state(Facts { readiness, metrics })
        .merge(grpc)
}

/// 200, or 503 with one line for each thing that is waited for: `drug-interactions: model`.
async fn readyz(State(facts): State<Facts>) -> impl IntoResponse {
    let mut page = String::new();
    for one in &facts.readiness {
        for missing in one.missing() {
            page.extend([one.name(), ": ", &missing, "\n"]);
        }
    }
    if page.is_empty() && !facts.readiness.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, page)
    }
}

async fn metrics_page(State(facts): State<Facts>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPENMETRICS)], facts.metrics.encode())
}
