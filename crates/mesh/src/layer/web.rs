//! The door for browsers: gRPC-Web is turned into gRPC here, so that nothing further in knows of it. Which pages may call,
//! and what calls that are neither gRPC nor gRPC-Web are told, is decided here too.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{Either, Ready, ready};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CONTENT_TYPE, ORIGIN, VARY},
};
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service};
use tower_http::cors::{AllowOrigin, Any, Cors, CorsLayer};

use super::{Request, Response};
use crate::{
    errors::{PUSHBACK, REQUEST_ID},
    serve::web::Origins,
};

/// Those that tonic-web knows.
const GRPC_WEB: [&str; 4] = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];
const GRPC: &str = "application/grpc";

/// What gRPC-Web's clients send (grpc-web's own and Connect's), and the context of a trace.
const ASKED: [HeaderName; 9] = [
    CONTENT_TYPE,
    ACCEPT,
    HeaderName::from_static("x-grpc-web"),
    HeaderName::from_static("x-user-agent"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];
/// What a page may read of a reply. Without these a refusal, which has its status in the headers, has no status for it.
const TOLD: [HeaderName; 5] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static(PUSHBACK),
    HeaderName::from_static(REQUEST_ID),
];
/// How long a browser may remember the answer to a preflight; none remembers it for longer than this.
const REMEMBERED: Duration = Duration::from_hours(2);

#[derive(Debug, Clone)]
pub(crate) struct WebLayer {
    shared: Arc<Shared>,
}

impl WebLayer {
    /// `max_header_list_bytes` holds for HTTP/1, for which the transport has no such limit.
    pub(crate) fn new(origins: Origins, max_header_list_bytes: u32) -> Self {
        let allowed = match origins.clone() {
            Origins::Any => AllowOrigin::from(Any),
            Origins::These(origins) => AllowOrigin::list(origins),
        };
        let cors = CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::POST])
            .allow_headers(ASKED)
            .expose_headers(TOLD)
            .max_age(REMEMBERED);
        let rules = Rules { origins, max_header_list_bytes: max_header_list_bytes as usize };
        Self { shared: Arc::new(Shared { cors, rules }) }
    }
}

impl<S> Layer<S> for WebLayer {
    type Service = Web<S>;

    fn layer(&self, inner: S) -> Web<S> {
        Web { inner, shared: Arc::clone(&self.shared) }
    }
}

/// The transport clones it for every request, gRPC's own too: what only browsers need is made when one calls.
#[derive(Debug, Clone)]
pub(crate) struct Web<S> {
    inner: S,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cors: CorsLayer,
    rules: Rules,
}

impl<S: Clone> Web<S> {
    /// Around the service that is ready. What stays behind has to become so.
    fn translated(&mut self) -> Cors<GrpcWebService<S>> {
        let next = self.inner.clone();
        let ready = mem::replace(&mut self.inner, next);
        self.shared.cors.layer(GrpcWebLayer::new().layer(ready))
    }
}

type Translated<S> = <Cors<GrpcWebService<S>> as Service<Request>>::Future;

impl<S: Service<Request, Response = Response> + Clone> Service<Request> for Web<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Either<Translated<S>, S::Future>, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.shared.rules.judge(&request) {
            // Calls begin within `call`, not when their future is polled first: see `deadline`.
            Ok(Kind::Web) => Either::Left(Either::Left(self.translated().call(request))),
            // As it is: its replies need no headers for browsers.
            Ok(Kind::Grpc) => Either::Left(Either::Right(self.inner.call(request))),
            Err(refusal) => {
                tracing::debug!(status = refusal.status.as_u16(), why = refusal.why, "refused an HTTP request");
                let mut response = refusal.into_http();
                self.shared.rules.let_read(request.headers(), response.headers_mut());
                Either::Right(ready(Ok(response)))
            }
        }
    }
}

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// gRPC-Web, or the question that a browser asks before it.
    Web,
    Grpc,
}

#[derive(Debug)]
struct Rules {
    origins: Origins,
    max_header_list_bytes: usize,
}

impl Rules {
    fn judge(&self, request: &Request) -> Result<Kind, Refusal> {
        let headers = request.headers();
        if request.version() != Version::HTTP_2 && header_list_bytes(headers) > self.max_header_list_bytes {
            return Err(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too long"));
        }
        // CORS alone would not do. A page of a foreign site whose name was made to lead here is of the same origin to its
        // browser, which then asks for nobody's permission; but it tells where it comes from.
        if !headers.get_all(ORIGIN).iter().all(|origin| self.origins.contain(origin)) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "pages of this origin may not call here"));
        }
        if request.method() == Method::OPTIONS && headers.contains_key(ORIGIN) {
            return Ok(Kind::Web);
        }
        if request.method() != Method::POST {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "calls are made with POST"));
        }
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if GRPC_WEB.contains(&kind) {
            return Ok(Kind::Web);
        }
        let is_grpc = kind.strip_prefix(GRPC).is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']));
        match (is_grpc, request.version()) {
            (true, Version::HTTP_2) => Ok(Kind::Grpc),
            (true, _) => Err(Refusal::unsupported("gRPC needs HTTP/2; over HTTP/1.1 speak gRPC-Web")),
            (false, _) => Err(Refusal::unsupported("this port speaks gRPC and gRPC-Web")),
        }
    }

    /// Lets a page that may call read why it was refused. Without this its browser tells it of an error of the network,
    /// and nothing else.
    fn let_read(&self, request: &HeaderMap, response: &mut HeaderMap) {
        if let Some(origin) = request.get(ORIGIN).filter(|origin| self.origins.contain(origin)) {
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            response.insert(VARY, HeaderValue::from_static("origin"));
        }
    }
}

/// As HTTP/2 counts them.
fn header_list_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// An answer in HTTP's own words, for whoever does not speak gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    why: &'static str,
}

impl Refusal {
    fn new(status: StatusCode, why: &'static str) -> Self {
        Self { status, why }
    }

    fn unsupported(why: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why)
    }

    fn into_http(self) -> Response {
        let mut response = Response::new(Body::new(self.why.to_owned()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures::future::poll_fn;

    use super::*;

    const HERE: &str = "http://localhost:8080";

    fn layer() -> WebLayer {
        WebLayer::new(Origins::These(vec![HeaderValue::from_static(HERE)]), 1024)
    }

    fn judge(request: http::request::Builder) -> Result<Kind, StatusCode> {
        layer().shared.rules.judge(&request.body(Body::empty()).unwrap()).map_err(|refusal| refusal.status)
    }

    fn post(version: Version, kind: &str) -> http::request::Builder {
        http::Request::post("/a.B/C").version(version).header(CONTENT_TYPE, kind)
    }

    #[test]
    fn grpc_web_passes_over_either_version_and_grpc_over_http_2_only() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            for kind in GRPC_WEB {
                assert_eq!(judge(post(version, kind)), Ok(Kind::Web), "{kind}");
            }
        }
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            assert_eq!(judge(post(Version::HTTP_2, kind)), Ok(Kind::Grpc), "{kind}");
            assert_eq!(judge(post(Version::HTTP_11, kind)), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE), "{kind}");
        }
    }

    #[test]
    fn what_is_neither_is_told_so_in_the_words_of_http() {
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            for kind in ["", "text/plain", "application/json", "application/grpcish", "application/grpc-web+json"] {
                assert_eq!(judge(post(version, kind)), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE), "{kind:?}");
            }
            for method in [Method::GET, Method::PUT, Method::HEAD, Method::OPTIONS] {
                let request = post(version, GRPC_WEB[0]).method(method);
                assert_eq!(judge(request), Err(StatusCode::METHOD_NOT_ALLOWED));
            }
        }
        assert_eq!(
            judge(post(Version::HTTP_11, GRPC_WEB[0]).header("x-long", "x".repeat(1024))),
            Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        );
    }

    #[test]
    fn a_page_calls_only_from_an_origin_that_may() {
        let from = |origin: &str| post(Version::HTTP_11, GRPC_WEB[1]).header(ORIGIN, origin);
        assert_eq!(judge(from(HERE)), Ok(Kind::Web));
        assert_eq!(judge(from(HERE).method(Method::OPTIONS)), Ok(Kind::Web));
        for foreign in ["https://evil.example", "null", ""] {
            assert_eq!(judge(from(foreign)), Err(StatusCode::FORBIDDEN), "{foreign:?}");
            assert_eq!(judge(from(foreign).method(Method::OPTIONS)), Err(StatusCode::FORBIDDEN));
        }
        assert_eq!(judge(from(HERE).header(ORIGIN, "https://evil.example")), Err(StatusCode::FORBIDDEN), "two origins");
    }

    /// Answers once for every time that it was asked whether it is ready, and counts these times.
    struct Careful {
        is_ready: bool,
        asked: Arc<AtomicUsize>,
    }

    /// As those that reserve a place in `poll_ready` do: what was reserved is not cloned.
    impl Clone for Careful {
        fn clone(&self) -> Self {
            Self { is_ready: false, asked: Arc::clone(&self.asked) }
        }
    }

    impl Service<Request> for Careful {
        type Response = Response;
        type Error = Infallible;
        type Future = Ready<Result<Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            self.is_ready = true;
            self.asked.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request) -> Self::Future {
            assert!(mem::take(&mut self.is_ready), "called although it is not ready");
            ready(Ok(Response::new(Body::empty())))
        }
    }

    #[tokio::test]
    async fn the_service_that_is_ready_is_the_one_that_is_called() {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut web = layer().layer(Careful { is_ready: false, asked: Arc::clone(&asked) });
        for (at, kind) in [GRPC_WEB[0], GRPC, GRPC_WEB[2], GRPC].into_iter().enumerate() {
            let Ok(()) = poll_fn(|cx| web.poll_ready(cx)).await;
            let Ok(response) = web.call(post(Version::HTTP_2, kind).body(Body::empty()).unwrap()).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(asked.load(Ordering::Relaxed), at + 1, "once for each call");
        }
    }

    #[tokio::test]
    async fn a_page_that_may_call_can_read_why_it_was_refused() {
        let mut web = layer().layer(Careful { is_ready: false, asked: Arc::default() });
        let get = || post(Version::HTTP_11, GRPC_WEB[0]).method(Method::GET);
        let json = || post(Version::HTTP_11, "application/json");
        let long = || post(Version::HTTP_11, GRPC_WEB[0]).header("x-long", "x".repeat(1024));
        for (request, status) in [(get(), 405), (json(), 415), (long(), 431)] {
            let Ok(response) = web.call(request.header(ORIGIN, HERE).body(Body::empty()).unwrap()).await;
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], HERE, "{status}");
            assert_eq!(response.headers()[VARY], "origin", "{status}");
        }
        for request in [get(), json(), long(), json().header(ORIGIN, "https://evil.example")] {
            let Ok(response) = web.call(request.body(Body::empty()).unwrap()).await;
            assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{response:?}");
        }
    }
}
