//! What browsers' calls meet, and how HTTP/1 connections end. Spoken by hand, so that nothing corrects what is sent.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use consilium_mesh::serve::{Deadlines, Options, Web};
use consilium_proto::v1::{ListExpertsRequest, catalog_service_server::CatalogServiceServer};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::support::{Catalog, Running};

const ORIGIN: &str = "http://localhost:8080";
const METHOD: &str = "/consilium.v1.CatalogService/ListExperts";
/// An empty message, framed.
const EMPTY: &[u8] = &[0; 5];
/// Longer than anything here may take. Only a clock that is stopped ever gets there.
const NEVER: Duration = Duration::from_hours(1);

fn options() -> Options {
    Options { name: "test", web: Some(Web { origins: vec![ORIGIN.to_owned()] }), ..Options::default() }
}

fn post(address: SocketAddr) -> http::request::Builder {
    http::Request::post(format!("http://{address}{METHOD}"))
        .header("content-type", "application/grpc-web+proto")
        .header("origin", ORIGIN)
}

/// Over HTTP/1.1, on a connection of its own.
async fn send(request: http::request::Builder, body: &'static [u8]) -> http::Response<Bytes> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request.body(Full::new(Bytes::from_static(body))).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    http::Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

async fn connect(server: &Running, words: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(words.as_bytes()).await.unwrap();
    stream
}

/// A whole request that leaves the connection open.
fn words(server: &Running) -> String {
    let head = format!("POST {METHOD} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/grpc-web\r\n", server.address);
    format!("{head}content-length: 5\r\n\r\n\0\0\0\0\0")
}

/// Reads one reply: to the end of its chunks.
async fn reply(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n0\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut said).await.unwrap(), 0, "{}", String::from_utf8_lossy(&said));
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Whether the server ends the connection by itself, at whatever time. Stops the clock.
async fn ends(mut stream: TcpStream) -> bool {
    tokio::time::pause();
    let ended = timeout(NEVER, stream.read_to_end(&mut Vec::new())).await.is_ok();
    tokio::time::resume();
    ended
}

#[tokio::test]
async fn a_page_calls_over_http_1_and_is_counted_like_anybody() {
    let server = Running::start(Catalog::empty(), options()).await;
    let response = send(post(server.address), EMPTY).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc-web+proto");
    assert_eq!(response.headers()["access-control-allow-origin"], ORIGIN);
    let told = response.headers()["access-control-expose-headers"].to_str().unwrap();
    for header in ["grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-retry-pushback-ms"] {
        assert!(told.split(',').any(|told| told == header), "{told}");
    }
    let mut expected = EMPTY.to_vec();
    expected.extend(b"\x80\0\0\0\x0fgrpc-status:0\r\n");
    assert_eq!(response.body().to_vec(), expected);
    let counted = r#"rpc_method="consilium.v1.CatalogService/ListExperts",rpc_response_status_code="OK""#;
    assert!(server.metrics.encode().contains(counted));
}

#[tokio::test]
async fn a_client_that_wants_text_gets_text() {
    let server = Running::start(Catalog::empty(), options()).await;
    let kind = "application/grpc-web-text";
    let mut request = post(server.address).header("accept", kind);
    request.headers_mut().unwrap().insert("content-type", kind.parse().unwrap());
    let response = send(request, b"AAAAAAA=").await;
    assert_eq!(response.headers()["content-type"], "application/grpc-web-text+proto");
    // Each frame by itself, as that dialect has it: the empty message, then the status.
    assert_eq!(response.body(), "AAAAAAA=gAAAAA9ncnBjLXN0YXR1czowDQo=");
}

#[tokio::test]
async fn deadlines_hold_for_pages_too() {
    let server = Running::start(Catalog::behind(&CancellationToken::new()), options()).await;
    // Often, because tonic's own timer, which says CANCELLED, runs beside ours.
    for _ in 0..20 {
        let response = send(post(server.address).header("grpc-timeout", "5m"), EMPTY).await;
        assert_eq!(response.headers()["grpc-status"], "4", "{response:?}");
        assert!(response.headers().contains_key("grpc-status-details-bin"));
        assert_eq!(response.headers()["content-type"], "application/grpc-web+proto");
    }
    let counted = r#"rpc_response_status_code="DEADLINE_EXCEEDED",error_type="DEADLINE_EXCEEDED"} 20"#;
    assert!(server.metrics.encode().contains(counted));
}

#[tokio::test]
async fn a_browser_that_asks_first_is_told_who_may() {
    let server = Running::start(Catalog::empty(), options()).await;
    let ask = |origin: &str| {
        http::Request::options(format!("http://{}{METHOD}", server.address))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,grpc-timeout,traceparent,x-grpc-web")
    };
    let allowed = send(ask(ORIGIN), b"").await;
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()["access-control-allow-origin"], ORIGIN);
    assert_eq!(allowed.headers()["access-control-allow-methods"], "POST");
    let headers = allowed.headers()["access-control-allow-headers"].to_str().unwrap();
    for header in ["content-type", "grpc-timeout", "traceparent", "x-grpc-web", "x-user-agent"] {
        assert!(headers.split(',').any(|allowed| allowed == header), "{headers}");
    }
    for foreign in [send(ask("https://evil.example"), b"").await, {
        let mut request = post(server.address);
        request.headers_mut().unwrap().insert("origin", "https://evil.example".parse().unwrap());
        send(request, EMPTY).await
    }] {
        assert_eq!(foreign.status(), 403);
        assert!(!foreign.headers().contains_key("access-control-allow-origin"));
    }
    let page = server.metrics.encode();
    assert!(!page.contains("rpc_response_status_code"), "nobody called: {page}");
}

#[tokio::test]
async fn replies_to_grpc_carry_nothing_for_browsers() {
    let server = Running::start(Catalog::empty(), options()).await;
    let metadata = server.client().list_experts(ListExpertsRequest {}).await.unwrap().metadata().clone();
    assert!(!metadata.contains_key("vary") && !metadata.contains_key("access-control-expose-headers"), "{metadata:?}");
}

#[tokio::test]
async fn without_browsers_http_1_is_not_spoken() {
    let server = Running::start(Catalog::empty(), Options { web: None, ..options() }).await;
    let mut stream = connect(&server, &words(&server)).await;
    let mut said = Vec::new();
    // It may reset the connection, because it did not read everything.
    let _ = stream.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP/1"), "{said:?}");
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused_before_it_has_come() {
    let add = |server: consilium_mesh::serve::Server| {
        server.add_service(CatalogServiceServer::new(Catalog::empty()).max_decoding_message_size(1024))
    };
    let server = Running::start_adding(options(), Duration::from_secs(30), add).await;
    // A message of a gibibyte begins. In base64 the same five bytes, and one more.
    for (kind, begin) in [("", "5\r\n\0\x40\0\0\0\r\n"), ("-text", "8\r\nAEAAAAAA\r\n")] {
        let head = format!("POST {METHOD} HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web{kind}\r\n");
        let mut stream = connect(&server, &format!("{head}transfer-encoding: chunked\r\n\r\n{begin}")).await;
        let mut said = Vec::new();
        while !said.windows(4).any(|end| end == b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut said).await.unwrap(), 0);
        }
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("grpc-status: 11\r\n"), "{kind}: {said}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_over_with_its_deadline() {
    let server = Running::start(Catalog::empty(), options()).await;
    let head =
        format!("POST {METHOD} HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web\r\ngrpc-timeout: 50m\r\n");
    let stream = connect(&server, &format!("{head}content-length: 100\r\n\r\n\0\0\0")).await;
    assert!(ends(stream).await);
    assert_eq!(server.in_flight.calls(), 0);
}

#[tokio::test]
async fn who_does_not_come_to_the_point_is_not_waited_for() {
    for web in [options().web, None] {
        let server = Running::start(Catalog::empty(), Options { web, ..options() }).await;
        // Nothing, the beginning of HTTP/2's first words, and a head without an end.
        for begin in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM", "POST / HTTP/1.1\r\nhost: x\r\nx-a: b\r\n"] {
            assert!(ends(connect(&server, begin).await).await, "{begin:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_waits_for_its_next_request_does_not_wait_for_ever() {
    let server = Running::start(Catalog::empty(), options()).await;
    let mut stream = connect(&server, &words(&server)).await;
    assert!(reply(&mut stream).await.starts_with("HTTP/1.1 200"));
    stream.write_all(words(&server).as_bytes()).await.unwrap();
    assert!(reply(&mut stream).await.starts_with("HTTP/1.1 200"), "a second request is answered");
    assert!(ends(stream).await);
}

#[tokio::test]
async fn idle_http_1_connections_keep_no_server_from_stopping() {
    let mut server = Running::start_with_grace(Catalog::empty(), options(), NEVER).await;
    let mut idle = connect(&server, &words(&server)).await;
    reply(&mut idle).await;
    tokio::time::pause();
    let since = Instant::now();
    server.stop.cancel();
    server.stopped().await;
    assert!(since.elapsed() < Duration::from_secs(5), "it was waited for: {:?}", since.elapsed());
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn an_old_http_1_connection_is_closed_while_it_is_idle() {
    // Hyper waits for the next request for 30 s: it is not this that ends the connection.
    let max_connection_age = Some(Duration::from_secs(20));
    let server = Running::start(Catalog::empty(), Options { max_connection_age, ..options() }).await;
    let mut stream = connect(&server, &words(&server)).await;
    assert!(reply(&mut stream).await.starts_with("HTTP/1.1 200"));
    tokio::time::pause();
    let since = Instant::now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "in good order");
    assert!(since.elapsed() < Duration::from_secs(25), "{:?}", since.elapsed());
}

#[tokio::test]
async fn an_old_http_1_connection_is_closed_after_the_reply_that_runs() {
    let open = CancellationToken::new();
    let deadlines = Deadlines { default: 10 * NEVER, max: 10 * NEVER };
    let options = Options { deadlines, max_connection_age: Some(NEVER), ..options() };
    let server = Running::start(Catalog::behind(&open), options).await;
    let mut stream = connect(&server, &words(&server)).await;
    crate::support::until(|| server.in_flight.calls() == 1).await;
    // The stopped clock goes on when nobody has anything left to do: afterwards the server knows that it is time.
    tokio::time::pause();
    tokio::time::sleep(2 * NEVER).await;
    tokio::time::resume();
    open.cancel();
    let said = reply(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("connection: close"), "{said}");
}
