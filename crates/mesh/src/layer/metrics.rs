//! Counts and times calls, under names and labels from `crate::metrics`.

use std::task::{Context, Poll};

use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::Span;

use super::{Request, Response, outcome::Outcome};
use crate::{
    methods::Methods,
    metrics::{RpcMetrics, ServerLabels},
};

#[derive(Debug, Clone)]
pub(crate) struct MetricsLayer {
    pub(crate) server: &'static str,
    pub(crate) methods: Methods,
    pub(crate) metrics: RpcMetrics,
}

impl<S> Layer<S> for MetricsLayer {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Measured<S> {
        Measured { inner, layer: self.clone() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Measured<S> {
    inner: S,
    layer: MetricsLayer,
}

impl<S: Service<Request, Response = Response>> Service<Request> for Measured<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Outcome<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let MetricsLayer { server, methods, metrics } = self.layer.clone();
        let method = methods.name(request.uri().path());
        let started = Instant::now();
        let span = Span::current();
        metrics.in_flight.add(&ServerLabels { server }, 1);
        Outcome::new(self.inner.call(request), move |code| {
            metrics.in_flight.add(&ServerLabels { server }, -1);
            metrics.record(server, method, (code, started.elapsed()), &span);
        })
    }
}
