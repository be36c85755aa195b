//! A panic ends its own call with `INTERNAL` and nothing else: the connection carries other people's calls.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Span;

use super::{
    Request, Response,
    panics::{Panicked, guard},
};
use crate::{
    errors::Refusal,
    metrics::{RpcMetrics, ServerLabels},
};

#[derive(Debug, Clone)]
pub(crate) struct CatchPanicLayer {
    pub(crate) server: &'static str,
    pub(crate) metrics: RpcMetrics,
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic {
            inner,
            witness: Witness { server: self.server, metrics: self.metrics.clone(), call: Span::none() },
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct CatchPanic<S> {
    inner: S,
    witness: Witness,
}

impl<S: Service<Request, Response = Response>> Service<Request> for CatchPanic<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Guarded<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let call = guard(|| self.inner.call(request));
        let witness = Witness { call: Span::current(), ..self.witness.clone() };
        match call {
            Ok(call) => Guarded { call: Some(call), refusal: None, witness },
            Err(panicked) => Guarded { call: None, refusal: Some(witness.report(&panicked)), witness },
        }
    }
}

/// Counts and logs a panic, and makes the status that the client gets.
#[derive(Debug, Clone)]
struct Witness {
    server: &'static str,
    metrics: RpcMetrics,
    /// A reply is read outside of its call's span.
    call: Span,
}

impl Witness {
    fn report(&self, panicked: &Panicked) -> Status {
        self.metrics.panics.add(&ServerLabels { server: self.server }, 1);
        self.call.in_scope(|| tracing::error!(server = self.server, place = panicked.place, "a call panicked"));
        Refusal::new(Code::Internal, "INTERNAL", "internal error").into_status()
    }
}

pin_project! {
    /// Either the call, or what it is answered with because it panicked before it began.
    #[derive(Debug)]
    pub(crate) struct Guarded<F> {
        #[pin]
        call: Option<F>,
        refusal: Option<Status>,
        witness: Witness,
    }
}

impl<F, E> Future for Guarded<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(status) = this.refusal.take() {
            return Poll::Ready(Ok(status.into_http()));
        }
        let Some(call) = this.call.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        match guard(|| call.poll(cx)) {
            Ok(polled) => {
                let response = ready!(polled)?;
                let witness = this.witness.clone();
                Poll::Ready(Ok(response.map(|body| {
                    if body.is_end_stream() { body } else { Body::new(GuardedBody { body: Some(body), witness }) }
                })))
            }
            Err(panicked) => {
                let status = this.witness.report(&panicked);
                // A future that panicked must not be polled again; dropping it may panic once more.
                let _ = guard(|| this.call.set(None));
                Poll::Ready(Ok(status.into_http()))
            }
        }
    }
}

/// The reply of a streaming call: its body is polled by the connection's task, which must survive.
struct GuardedBody {
    body: Option<Body>,
    witness: Witness,
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(body) = this.body.as_mut() else {
            return Poll::Ready(None);
        };
        match guard(|| Pin::new(body).poll_frame(cx)) {
            Ok(polled) => polled,
            Err(panicked) => {
                let status = this.witness.report(&panicked);
                let _ = guard(|| this.body = None);
                let mut trailers = http::HeaderMap::new();
                let written = status.add_header(&mut trailers);
                Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{FutureExt, future::BoxFuture};
    use http_body_util::{BodyExt, StreamBody};
    use tokio_stream::StreamExt;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::metrics::Metrics;

    async fn call(answer: fn() -> BoxFuture<'static, Response>) -> (Code, Metrics) {
        let metrics = Metrics::new();
        let layer = CatchPanicLayer { server: "test", metrics: metrics.part() };
        let service = layer.layer(service_fn(move |_| answer().map(Ok::<_, Infallible>)));
        let response = service.oneshot(Request::default()).await.unwrap();
        if let Some(status) = Status::from_header_map(response.headers()) {
            return (status.code(), metrics);
        }
        let collected = response.into_body().collect().await.unwrap();
        (Status::from_header_map(collected.trailers().unwrap()).unwrap().code(), metrics)
    }

    #[tokio::test]
    async fn a_panic_anywhere_in_a_call_is_internal() {
        let in_call: fn() -> BoxFuture<'static, Response> = || panic!("in call");
        let in_future: fn() -> BoxFuture<'static, Response> = || async { panic!("in future") }.boxed();
        let in_body: fn() -> BoxFuture<'static, Response> = || {
            let frames = tokio_stream::iter(0..2).map(|n| {
                assert!(n == 0, "in body");
                Ok::<_, Status>(Frame::data(Bytes::from_static(b"x")))
            });
            async { http::Response::new(Body::new(StreamBody::new(frames))) }.boxed()
        };
        for answer in [in_call, in_future, in_body] {
            let (code, metrics) = call(answer).await;
            assert_eq!(code, Code::Internal);
            assert!(metrics.encode().contains(r#"consilium_rpc_server_panics_total{server="test"} 1"#));
        }
    }

    #[tokio::test]
    async fn a_call_that_does_not_panic_is_left_alone() {
        let (code, metrics) = call(|| async { Status::not_found("x").into_http() }.boxed()).await;
        assert_eq!(code, Code::NotFound);
        assert!(!metrics.encode().contains("panics_total{"));
    }
}
