//! The door for browsers: gRPC-Web is turned into gRPC here, so that nothing further in knows of it. Which pages may call,
//! and what calls that are neither gRPC nor gRPC-Web are told, is decided here too.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::{Either, Ready, ready};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, ORIGIN},
};
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service};
use tower_http::cors::{AllowOrigin, Any, Cors, CorsLayer};

use super::{Request, Response};
use crate::{errors::PUSHBACK, serve::web::Origins};

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
    HeaderName::from_static("consilium-request-id"),
];
/// How long a browser may remember the answer to a preflight; none remembers it for longer than this.
const REMEMBERED: Duration = Duration::from_hours(2);

#[derive(Debug, Clone)]
pub(crate) struct WebLayer {
    cors: CorsLayer,
    rules: Rules,
}

impl WebLayer {
    /// `max_header_list_bytes` holds for HTTP/1 too, for which the transport has no such limit.
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
        Self { cors, rules: Rules { origins, max_header_list_bytes: max_header_list_bytes as usize } }
    }
}

impl<S: Clone> Layer<S> for WebLayer {
    type Service = Web<S>;

    fn layer(&self, inner: S) -> Web<S> {
        let translated = (self.cors.clone(), GrpcWebLayer::new()).layer(inner.clone());
        Web { translated, plain: inner, rules: self.rules.clone() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Web<S> {
    translated: Cors<GrpcWebService<S>>,
    /// For gRPC as it is: its replies need no headers for browsers.
    plain: S,
    rules: Rules,
}

type Translated<S> = <Cors<GrpcWebService<S>> as Service<Request>>::Future;

impl<S: Service<Request, Response = Response>> Service<Request> for Web<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Either<Translated<S>, S::Future>, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        ready!(Service::<Request>::poll_ready(&mut self.translated, cx))?;
        self.plain.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.rules.judge(&request) {
            // Calls begin within `call`, not when their future is polled first: see `deadline`.
            Ok(Kind::Web) => Either::Left(Either::Left(self.translated.call(request))),
            Ok(Kind::Grpc) => Either::Left(Either::Right(self.plain.call(request))),
            Err(refusal) => {
                tracing::debug!(status = refusal.status.as_u16(), why = refusal.why, "refused an HTTP request");
                Either::Right(ready(Ok(refusal.into_http())))
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

#[derive(Debug, Clone)]
struct Rules {
    origins: Origins,
    max_header_list_bytes: usize,
}

impl Rules {
    fn judge(&self, request: &Request) -> Result<Kind, Refusal> {
        let headers = request.headers();
        if header_list_bytes(headers) > self.max_header_list_bytes {
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
    use super::*;

    const HERE: &str = "http://localhost:8080";

    fn judge(request: http::request::Builder) -> Result<Kind, StatusCode> {
        let origins = Origins::These(vec![HeaderValue::from_static(HERE)]);
        let rules = Rules { origins, max_header_list_bytes: 1024 };
        rules.judge(&request.body(Body::empty()).unwrap()).map_err(|refusal| refusal.status)
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
}
