//! A service that panics, whoever calls it.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tonic::{Status, body::Body, server::NamedService};

use crate::support::hyper_client;

/// Before the answer has begun.
pub(crate) const UNARY: &str = "consilium.v1.RouterService/Dispatch";
/// Within the answer.
pub(crate) const STREAM: &str = "consilium.v1.RouterService/StreamDispatch";

#[derive(Debug, Clone)]
pub(crate) struct Panicking;

impl NamedService for Panicking {
    const NAME: &'static str = "consilium.v1.RouterService";
}

impl tower::Service<http::Request<Body>> for Panicking {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        assert!(request.uri().path().ends_with("StreamDispatch"), "canary in a panic before the answer");
        let frames = futures::stream::iter(0..2).map(|frame| {
            assert!(frame == 0, "canary in a panic within the answer");
            Ok::<_, Status>(Frame::data(Bytes::from_static(&[0; 5])))
        });
        async { Ok(http::Response::new(Body::new(StreamBody::new(frames)))) }.boxed()
    }
}

/// Calls it and hears the code, from wherever it comes.
pub(crate) async fn call(address: std::net::SocketAddr, method: &str, traceparent: &str) -> String {
    let request = http::Request::post(format!("http://{address}/{method}")).header("traceparent", traceparent);
    let response = hyper_client().request(request.body(Body::empty()).unwrap()).await.unwrap();
    let headers = response.headers().clone();
    let trailers = response.into_body().collect().await.unwrap().trailers().cloned().unwrap_or_default();
    let code = headers.get("grpc-status").or_else(|| trailers.get("grpc-status")).unwrap();
    code.to_str().unwrap().to_owned()
}
