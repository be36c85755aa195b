//! Refuses calls beyond what the process may work on at once. One count for all connections: tonic's own limit is per
//! connection, and makes calls wait in a queue that nobody bounds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::future::{Either, Ready, ready};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::{Request, Response, long_streams::is_long_stream, outcome::Outcome};
use crate::{
    errors::Refusal,
    limits::SHED_RETRY_AFTER,
    metrics::{RpcMetrics, ServerLabels},
};

/// The inference stream, on which a client may say nothing for hours and then everything at once: what counts as a call
/// is each of its requests.
const MODEL_STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// How many calls a server is working on: until the end of the reply, long streams and health checks left out. Each
/// request of an inference stream is one, the open stream is none. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    pub fn calls(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// Where calls find a place, or none. Clones are the same room.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    pub(crate) server: &'static str,
    pub(crate) max: usize,
    pub(crate) taken: InFlight,
    pub(crate) metrics: RpcMetrics,
}

impl Room {
    /// A place, to be held for as long as the work takes; the refusal where there is none.
    pub(crate) fn enter(&self) -> Result<Place, Status> {
        let one_more = |calls: usize| (calls < self.max).then(|| calls + 1);
        if self.taken.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok() {
            return Ok(Place(self.taken.clone()));
        }
        self.metrics.shed.add(&ServerLabels { server: self.server }, 1);
        let refusal = Refusal::new(Code::ResourceExhausted, "OVERLOADED", "too many calls are running here");
        Err(refusal.with_retry_after(SHED_RETRY_AFTER).into_status())
    }
}

/// One call's place in a [`Room`].
#[derive(Debug)]
pub(crate) struct Place(InFlight);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ShedLayer {
    calls: Room,
    /// Of open inference streams, as many as of calls.
    streams: Room,
}

impl ShedLayer {
    pub(crate) fn new(calls: Room) -> Self {
        Self { streams: Room { taken: InFlight::default(), ..calls.clone() }, calls }
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Shed<S> {
        Shed { inner, layer: self.clone() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Shed<S> {
    inner: S,
    layer: ShedLayer,
}

impl<S: Service<Request, Response = Response>> Service<Request> for Shed<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Either<Outcome<S::Future>, S::Future>, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let ShedLayer { calls, streams } = &self.layer;
        let room = match request.uri().path() {
            path if is_uncounted(path) => return Either::Left(Either::Right(self.inner.call(request))),
            MODEL_STREAM => {
                request.extensions_mut().insert(calls.clone());
                streams
            }
            _ => calls,
        };
        match room.enter() {
            Ok(place) => Either::Left(Either::Left(Outcome::new(self.inner.call(request), move |_| drop(place)))),
            Err(full) => Either::Right(ready(Ok(full.into_http()))),
        }
    }
}

/// A probe that is shed because the server is busy would have the server restarted; a stream that waits works on
/// nothing.
fn is_uncounted(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.") || is_long_stream(path)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tonic::{Status, body::Body};
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{errors, metrics::Metrics};

    fn request(path: &str) -> Request {
        http::Request::builder().uri(path).body(Body::empty()).unwrap()
    }

    fn layer(max: usize, taken: &InFlight, metrics: &Metrics) -> ShedLayer {
        ShedLayer::new(Room { server: "test", max, taken: taken.clone(), metrics: metrics.part() })
    }

    #[tokio::test]
    async fn beyond_the_limit_is_refused_with_a_hint_and_health_never_is() {
        let (in_flight, metrics) = (InFlight::default(), Metrics::new());
        let (release, released) = tokio::sync::watch::channel(false);
        let mut service = layer(1, &in_flight, &metrics).layer(service_fn(move |_| {
            let mut released = released.clone();
            async move {
                released.wait_for(|released| *released).await.unwrap();
                Ok::<_, Infallible>(Status::not_found("done").into_http())
            }
        }));

        let first = service.ready().await.unwrap().call(request("/a.B/C"));
        assert_eq!(in_flight.calls(), 1);
        let refused = service.ready().await.unwrap().call(request("/a.B/C")).await.unwrap();
        let status = Status::from_header_map(refused.headers()).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(errors::retry_after(&status), Some(SHED_RETRY_AFTER));
        assert_eq!(refused.headers()[errors::PUSHBACK], "100");
        assert!(metrics.encode().contains(r#"consilium_rpc_server_shed_total{server="test"} 1"#));

        let health = service.ready().await.unwrap().call(request("/grpc.health.v1.Health/Check"));
        release.send(true).unwrap();
        for call in [first, health] {
            let answered = call.await.unwrap();
            assert_eq!(Status::from_header_map(answered.headers()).unwrap().code(), Code::NotFound);
        }
        assert_eq!(in_flight.calls(), 0);
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_gives_its_place_back() {
        let in_flight = InFlight::default();
        let pending = service_fn(|_| std::future::pending::<Result<Response, Infallible>>());
        let mut service = layer(1, &in_flight, &Metrics::new()).layer(pending);
        let call = service.ready().await.unwrap().call(request("/a.B/C"));
        assert_eq!(in_flight.calls(), 1);
        drop(call);
        assert_eq!(in_flight.calls(), 0);
    }
}
