//! One line a call: which method, how it ended, how long it took. Never who asked, what, or what was answered.

use std::task::{Context, Poll};

use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::{Instrument, instrument::Instrumented};

use super::{Request, Response, outcome::Outcome};
use crate::{
    methods::Methods,
    metrics::{code_name, is_server_fault},
};

#[derive(Debug, Clone)]
pub(crate) struct LogLayer {
    pub(crate) server: &'static str,
    pub(crate) methods: Methods,
}

impl<S> Layer<S> for LogLayer {
    type Service = Log<S>;

    fn layer(&self, inner: S) -> Log<S> {
        Log { inner, server: self.server, methods: self.methods.clone() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Log<S> {
    inner: S,
    server: &'static str,
    methods: Methods,
}

impl<S: Service<Request, Response = Response>> Service<Request> for Log<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Outcome<Instrumented<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let method = self.methods.name(request.uri().path());
        let server = self.server;
        let started = Instant::now();
        let span = tracing::info_span!("call", server, rpc.method = &*method);
        let call = span.in_scope(|| self.inner.call(request)).instrument(span);
        Outcome::new(call, move |code| {
            let took_ms = started.elapsed().as_secs_f64() * 1000.0;
            let code_word = code_name(code);
            if is_server_fault(code) {
                tracing::warn!(server, rpc.method = &*method, code = code_word, took_ms, "call failed");
            } else {
                tracing::debug!(server, rpc.method = &*method, code = code_word, took_ms, "call ended");
            }
        })
    }
}
