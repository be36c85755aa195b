//! Knows how a call ended. A gRPC code may come in the headers (a refusal), in the trailers (after the body) or never
//! (the client went away); whoever counts calls needs one place that tells these apart.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Code, Status, body::Body};

use super::Response;

/// Called once with a call's code, and never not called: a call that is dropped was cancelled.
pub(crate) struct Ended(Option<Box<dyn FnOnce(Code) + Send>>);

impl Ended {
    fn tell(&mut self, code: Code) {
        if let Some(tell) = self.0.take() {
            tell(code);
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.tell(Code::Cancelled);
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ended").field("told", &self.0.is_none()).finish()
    }
}

pin_project! {
    /// A call's future that tells how the call ended, which may be long after the future has.
    #[derive(Debug)]
    pub(crate) struct Outcome<F> {
        #[pin]
        call: F,
        ended: Option<Ended>,
    }
}

impl<F> Outcome<F> {
    pub(crate) fn new(call: F, tell: impl FnOnce(Code) + Send + 'static) -> Self {
        Self { call, ended: Some(Ended(Some(Box::new(tell)))) }
    }
}

impl<F, E> Future for Outcome<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.call.poll(cx))?;
        let Some(mut ended) = this.ended.take() else {
            return Poll::Ready(Ok(response));
        };
        if let Some(status) = Status::from_header_map(response.headers()) {
            ended.tell(status.code());
            return Poll::Ready(Ok(response));
        }
        Poll::Ready(Ok(response.map(|body| {
            if body.is_end_stream() {
                ended.tell(Code::Unknown);
                return body;
            }
            Body::new(OutcomeBody { body, ended })
        })))
    }
}

struct OutcomeBody {
    body: Body,
    ended: Ended,
}

impl http_body::Body for OutcomeBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.ended.tell(Status::from_header_map(trailers).map_or(Code::Unknown, |status| status.code()));
                }
            }
            Some(Err(status)) => this.ended.tell(status.code()),
            None => this.ended.tell(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::mpsc};

    use http::HeaderMap;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn watched(response: Response) -> (impl Future<Output = Result<Response, Infallible>>, mpsc::Receiver<Code>) {
        let (sender, receiver) = mpsc::channel();
        let call = Outcome::new(async move { Ok(response) }, move |code| sender.send(code).unwrap());
        (call, receiver)
    }

    fn reply(trailers: Option<&'static str>) -> Response {
        let mut frames = vec![Ok::<_, Status>(Frame::data(Bytes::from_static(b"x")))];
        if let Some(code) = trailers {
            let mut map = HeaderMap::new();
            map.insert("grpc-status", code.parse().unwrap());
            frames.push(Ok(Frame::trailers(map)));
        }
        http::Response::new(Body::new(StreamBody::new(tokio_stream::iter(frames))))
    }

    #[tokio::test]
    async fn the_code_comes_from_headers_or_trailers_or_is_missing() {
        let (call, codes) = watched(Status::not_found("x").into_http());
        call.await.unwrap();
        assert_eq!(codes.try_recv(), Ok(Code::NotFound));

        for (trailers, expected) in [(Some("0"), Code::Ok), (Some("14"), Code::Unavailable), (None, Code::Unknown)] {
            let (call, codes) = watched(reply(trailers));
            let response = call.await.unwrap();
            assert!(codes.try_recv().is_err(), "the body has not been read yet");
            response.into_body().collect().await.unwrap();
            assert_eq!(codes.try_iter().collect::<Vec<_>>(), [expected]);
        }
    }

    #[tokio::test]
    async fn a_caller_that_leaves_has_cancelled() {
        let (call, codes) = watched(reply(Some("0")));
        drop(call.await.unwrap());
        assert_eq!(codes.try_recv(), Ok(Code::Cancelled));
        let (call, codes) = watched(reply(Some("0")));
        drop(call);
        assert_eq!(codes.try_recv(), Ok(Code::Cancelled));
    }
}
