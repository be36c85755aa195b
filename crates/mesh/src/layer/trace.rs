//! One span a call, and one line: which method, how it ended, how long it took. Never who asked, what, or what was
//! answered. The span goes on from the caller's, where the caller says which that is.

use std::task::{Context, Poll};

use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::{Instrument, Span, instrument::Instrumented};

use super::{Request, Response, long_streams::is_long_stream, outcome::Outcome};
use crate::{
    methods::Methods,
    metrics::{code_name, is_server_fault},
    spans,
    telemetry::{Callers, span::answered},
};

#[derive(Debug, Clone)]
pub(crate) struct TraceLayer {
    pub(crate) server: &'static str,
    pub(crate) methods: Methods,
    pub(crate) callers: Callers,
}

impl<S> Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, layer: self.clone() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Traced<S> {
    inner: S,
    layer: TraceLayer,
}

impl<S: Service<Request, Response = Response>> Service<Request> for Traced<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Outcome<Instrumented<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let TraceLayer { server, ref methods, callers } = self.layer;
        let method = methods.name(request.uri().path());
        let started = Instant::now();
        let span = if is_traced(request.uri().path()) {
            spans::call(server, &method, request.headers(), callers)
        } else {
            Span::none()
        };
        let call = span.in_scope(|| self.inner.call(request)).instrument(span.clone());
        // Holds the span until the reply has ended, which may be long after the call's future has.
        Outcome::new(call, move |code| {
            answered(&span, code);
            let took_ms = started.elapsed().as_secs_f64() * 1000.0;
            let code_word = code_name(code);
            // Within the span, for its ids; and the last time that it is left is when it ends.
            span.in_scope(|| {
                if is_server_fault(code) {
                    tracing::warn!(server, rpc.method = &*method, code = code_word, took_ms, "call failed");
                } else {
                    tracing::debug!(server, rpc.method = &*method, code = code_word, took_ms, "call ended");
                }
            });
        })
    }
}

/// Probes would be most of what there is to see, and a stream that lasts for days is a span that nobody ever sees.
fn is_traced(path: &str) -> bool {
    !is_long_stream(path) && !path.starts_with("/grpc.health.")
}
