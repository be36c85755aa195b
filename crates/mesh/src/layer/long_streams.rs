//! Ends the streams that would otherwise never end. A graceful shutdown waits for every open stream; one open health
//! `Watch` makes it wait for ever.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::{Request, Response};
use crate::errors::Refusal;

/// Streams that a client keeps open to hear of changes. Nobody waits for their end. `ModelStreamInfer` is none of them: it
/// owes a reply for what it has taken, so its service ends the intake, and the rest is requests that run.
pub(crate) fn is_long_stream(path: &str) -> bool {
    path == "/grpc.health.v1.Health/Watch"
        || path == "/consilium.v1.CatalogService/WatchExperts"
        || path.starts_with("/grpc.reflection.")
}

#[derive(Debug, Clone)]
pub(crate) struct LongStreamsLayer {
    pub(crate) end: CancellationToken,
}

impl<S> Layer<S> for LongStreamsLayer {
    type Service = LongStreams<S>;

    fn layer(&self, inner: S) -> LongStreams<S> {
        LongStreams { inner, end: self.end.clone() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct LongStreams<S> {
    inner: S,
    end: CancellationToken,
}

impl<S: Service<Request, Response = Response>> Service<Request> for LongStreams<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Ending<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if !is_long_stream(request.uri().path()) {
            return Ending { call: self.inner.call(request), end: None };
        }
        // Both directions: reflection reads requests in a task of its own, which holds the stream until they end.
        let request = request.map(|body| until(body, &self.end, End::Silently));
        Ending { call: self.inner.call(request), end: Some(self.end.clone()) }
    }
}

pin_project! {
    #[derive(Debug)]
    pub(crate) struct Ending<F> {
        #[pin]
        call: F,
        end: Option<CancellationToken>,
    }
}

impl<F, E> Future for Ending<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.call.poll(cx))?;
        Poll::Ready(Ok(match this.end.take() {
            Some(end) => response.map(|body| until(body, &end, End::WithStatus)),
            None => response,
        }))
    }
}

fn until(body: Body, end: &CancellationToken, how: End) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::new(UntilEnd { body, end: Some(Box::pin(end.clone().cancelled_owned())), how })
}

/// How a body ends before its time.
#[derive(Debug, Clone, Copy)]
enum End {
    /// As if the client had sent all it wanted to.
    Silently,
    /// The server goes away: ask another one.
    WithStatus,
}

struct UntilEnd {
    body: Body,
    /// `None` once it has come.
    end: Option<BoxFuture<'static, ()>>,
    how: End,
}

impl http_body::Body for UntilEnd {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(end) = this.end.as_mut() else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        ready!(end.as_mut().poll(cx));
        this.end = None;
        this.body = Body::empty();
        Poll::Ready(match this.how {
            End::Silently => None,
            End::WithStatus => {
                let gone = Refusal::new(Code::Unavailable, "DRAINING", "this server is going out of service");
                let mut trailers = http::HeaderMap::new();
                Some(gone.into_status().add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
