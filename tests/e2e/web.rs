//! A page in a browser is a client like any other: over HTTP/1.1, in either dialect of gRPC-Web, spoken here by hand.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use consilium_mesh::errors;
use consilium_proto::v1::{self, stream_dispatch_response::Event};
use consilium_tests::{Behaviour, Mesh, question};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use prost::Message;
use tonic::{Code, Status};

const WEB: &str = "web: {origins: ['http://localhost:8080']}";
const ORIGIN: &str = "http://localhost:8080";
const FOREIGN: &str = "https://elsewhere.example";

/// The dialects: frames as they are, or in base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Binary,
    Text,
}

const BOTH: [Dialect; 2] = [Dialect::Binary, Dialect::Text];

impl Dialect {
    fn content_type(self) -> &'static str {
        match self {
            Self::Binary => "application/grpc-web+proto",
            Self::Text => "application/grpc-web-text",
        }
    }
}

/// What a page gets: headers, the messages, and how it ended.
#[derive(Debug)]
struct Heard {
    headers: HeaderMap,
    messages: Vec<Bytes>,
    status: Status,
}

/// A page that was loaded from [`ORIGIN`].
struct Page<'a> {
    mesh: &'a Mesh,
    dialect: Dialect,
    timeout: Option<&'static str>,
}

impl Page<'_> {
    async fn call(&self, method: &str, message: &impl Message) -> Heard {
        let kind = self.dialect.content_type();
        let mut request = http::Request::post(format!("{}consilium.v1.RouterService/{method}", self.mesh.origin))
            .header("content-type", kind)
            .header("accept", kind)
            .header("x-grpc-web", "1")
            .header("origin", ORIGIN);
        if let Some(timeout) = self.timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let framed = framed(message);
        let body = if self.dialect == Dialect::Text { base64::encode(&framed) } else { framed };
        let response = send(request, body).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["access-control-allow-origin"], ORIGIN);
        let (head, body) = response.into_parts();
        let body = if self.dialect == Dialect::Text { base64::decode(&body) } else { body };
        let (messages, trailers) = unframed(body);
        let status = Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers));
        Heard { headers: head.headers, messages, status: status.expect("a reply has a status") }
    }
}

/// Over HTTP/1.1.
async fn send(request: http::request::Builder, body: Bytes) -> http::Response<Bytes> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request.body(Full::new(body)).expect("headers are headers")).await;
    let (head, body) = response.expect("the router answers").into_parts();
    http::Response::from_parts(head, body.collect().await.expect("the reply ends in good order").to_bytes())
}

fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).expect("messages here are small"));
    message.encode(&mut frame).expect("there is room");
    frame.freeze()
}

/// The messages, and the trailers that follow them as a frame of their own.
fn unframed(mut body: Bytes) -> (Vec<Bytes>, HeaderMap) {
    let (mut messages, mut trailers) = (Vec::new(), HeaderMap::new());
    while body.has_remaining() {
        let flag = body.get_u8();
        let length = body.get_u32() as usize;
        let frame = body.split_to(length);
        if flag == 0 {
            assert!(trailers.is_empty(), "trailers come last");
            messages.push(frame);
            continue;
        }
        assert_eq!(flag, 0x80);
        for line in String::from_utf8_lossy(&frame).lines() {
            let (name, value) = line.split_once(':').expect("a trailer has a name");
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name is one");
            trailers.insert(name, HeaderValue::from_str(value.trim()).expect("a value is one"));
        }
    }
    (messages, trailers)
}

async fn mesh() -> (Mesh, consilium_tests::Scripted) {
    let mesh = Mesh::start(WEB).await;
    let oracle = mesh.script("oracle", Behaviour::Stream(vec!["first ", "second"])).await;
    (mesh, oracle)
}

#[tokio::test]
async fn a_page_asks_and_is_answered() {
    let (mesh, _oracle) = mesh().await;
    for dialect in BOTH {
        let heard =
            Page { mesh: &mesh, dialect, timeout: None }.call("Dispatch", &question("ask oracle something")).await;
        assert_eq!(heard.status.code(), Code::Ok, "{heard:?}");
        let [reply] = heard.messages.as_slice() else { panic!("one reply: {heard:?}") };
        let reply = v1::DispatchResponse::decode(reply.clone()).expect("it is one");
        assert_eq!(reply.decision.expect("there is a decision").outcome(), v1::decision::Outcome::Dispatched);
        assert!(reply.answer.is_some());
    }
    let counted = r#"rpc_method="consilium.v1.RouterService/Dispatch",rpc_response_status_code="OK",error_type=""} 2"#;
    assert!(mesh.metrics.encode().contains(counted), "{}", mesh.metrics.encode());
}

#[tokio::test]
async fn a_page_hears_a_stream_in_its_order() {
    let (mesh, _oracle) = mesh().await;
    let query = question("ask oracle something").query;
    let request = v1::StreamDispatchRequest { query, ..Default::default() };
    for dialect in BOTH {
        let heard = Page { mesh: &mesh, dialect, timeout: Some("10S") }.call("StreamDispatch", &request).await;
        assert_eq!(heard.status.code(), Code::Ok, "{heard:?}");
        let kinds: Vec<_> = heard
            .messages
            .iter()
            .map(|message| v1::StreamDispatchResponse::decode(message.clone()).expect("it is one").event)
            .map(|event| match event.expect("a message has an event") {
                Event::Decision(_) => "decision",
                Event::Delta(_) => "delta",
                Event::Reply(_) => "reply",
                Event::Done(_) => "done",
            })
            .collect();
        assert_eq!(kinds, ["decision", "delta", "delta", "reply", "done"]);
    }
}

#[tokio::test]
async fn a_page_can_read_what_was_wrong_with_its_request() {
    let (mesh, _oracle) = mesh().await;
    let options = v1::DispatchOptions { top_k: Some(0), min_confidence: Some(7.0), ..Default::default() };
    let request = v1::DispatchRequest { options: Some(options), ..question("ask oracle something") };
    for dialect in BOTH {
        let heard = Page { mesh: &mesh, dialect, timeout: None }.call("Dispatch", &request).await;
        assert_eq!(heard.status.code(), Code::InvalidArgument);
        assert_eq!(errors::reason(&heard.status).as_deref(), Some("INVALID_REQUEST"));
        let fields: Vec<_> = errors::violations(&heard.status).into_iter().map(|violation| violation.field).collect();
        assert_eq!(fields, ["options.top_k", "options.min_confidence"]);
        let readable = heard.headers["access-control-expose-headers"].to_str().expect("it is text");
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin", "consilium-request-id"] {
            assert!(heard.headers.contains_key(name), "{name} is not sent: {:?}", heard.headers);
            assert!(readable.split(',').any(|readable| readable == name), "{name} is sent and cannot be read");
        }
    }
}

#[tokio::test]
async fn a_page_has_deadlines() {
    let mesh = Mesh::start(WEB).await;
    let _oracle = mesh.script("oracle", Behaviour::Hold).await;
    for dialect in BOTH {
        let page = Page { mesh: &mesh, dialect, timeout: Some("100m") };
        let heard = page.call("Dispatch", &question("ask oracle something")).await;
        assert_eq!(heard.status.code(), Code::DeadlineExceeded, "{heard:?}");
        assert_eq!(errors::reason(&heard.status).as_deref(), Some("DEADLINE_EXCEEDED"));
    }
}

#[tokio::test]
async fn a_browser_asks_first_and_only_pages_of_named_origins_may() {
    let (mesh, oracle) = mesh().await;
    let uri = format!("{}consilium.v1.RouterService/Dispatch", mesh.origin);
    let ask = |origin: &str| {
        let request = http::Request::builder().method(Method::OPTIONS).uri(&uri).header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        send(request.header("access-control-request-headers", "content-type,x-grpc-web,grpc-timeout"), Bytes::new())
    };
    let allowed = ask(ORIGIN).await;
    assert_eq!(allowed.status(), StatusCode::OK);
    assert_eq!(allowed.headers()["access-control-allow-origin"], ORIGIN);
    let headers = allowed.headers()["access-control-allow-headers"].to_str().expect("it is text");
    for asked in ["content-type", "x-grpc-web", "grpc-timeout"] {
        assert!(headers.split(',').any(|allowed| allowed == asked), "{headers}");
    }
    let foreign = ask(FOREIGN).await;
    assert!(!foreign.headers().contains_key("access-control-allow-origin"), "{foreign:?}");
    let called = http::Request::post(&uri).header("content-type", "application/grpc-web").header("origin", FOREIGN);
    let called = send(called, framed(&question("ask oracle something"))).await;
    assert_eq!(called.status(), StatusCode::FORBIDDEN);
    assert_eq!(oracle.calls(), 0);
}

#[tokio::test]
async fn without_pages_http_1_is_refused() {
    let mesh = Mesh::start("").await;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let uri = format!("{}consilium.v1.RouterService/Dispatch", mesh.origin);
    let request = http::Request::post(uri).header("content-type", "application/grpc-web");
    let request = request.body(Full::new(framed(&question("anything")))).expect("headers are headers");
    let answered = tokio::time::timeout(Duration::from_mins(1), client.request(request)).await;
    answered.expect("the connection ends").expect_err("nobody answers in HTTP/1.1");
}

/// Base64 as RFC 4648 has it. The other side's is tonic-web's.
mod base64 {
    use bytes::Bytes;

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub(super) fn encode(bytes: &[u8]) -> Bytes {
        let mut text = Vec::new();
        for three in bytes.chunks(3) {
            let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
            for at in 0..4 {
                let six = (bits >> (18 - 6 * at)) & 63;
                text.push(if at <= three.len() { ALPHABET[six as usize] } else { b'=' });
            }
        }
        text.into()
    }

    /// Also of several texts one after the other, each with an end of its own, as each frame of a reply is one.
    pub(super) fn decode(text: &[u8]) -> Bytes {
        let mut bytes = Vec::new();
        for four in text.chunks(4) {
            let value = |byte: &u8| ALPHABET.iter().position(|known| known == byte);
            let length = four.iter().position(|byte| *byte == b'=').unwrap_or(4);
            let bits = four.iter().fold(0, |bits, byte| bits << 6 | value(byte).unwrap_or_default());
            bytes.extend_from_slice(&u32::try_from(bits).expect("24 bits").to_be_bytes()[1..length]);
        }
        bytes.into()
    }
}
