//! What every server does, whatever it serves.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use consilium_mesh::{
    Deadline, errors,
    limits::Limits,
    serve::{Deadlines, Options},
};
use consilium_proto::v1::{ListExpertsRequest, ListExpertsResponse};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, body::Body, metadata::MetadataValue};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{Catalog, Running, hyper_client, until};

fn options() -> Options {
    Options { name: "test", ..Options::default() }
}

fn with_timeout(value: &'static str) -> Request<ListExpertsRequest> {
    let mut request = Request::new(ListExpertsRequest {});
    request.metadata_mut().insert("grpc-timeout", MetadataValue::from_static(value));
    request
}

#[tokio::test]
async fn a_slow_call_is_deadline_exceeded_and_not_cancelled() {
    let server = Running::start(Catalog::behind(&CancellationToken::new()), options()).await;
    let mut client = server.timerless();
    // Often, because tonic's own timer, which says CANCELLED, runs beside ours.
    for _ in 0..20 {
        let status = client.list_experts(with_timeout("5m")).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(errors::reason(&status).as_deref(), Some("DEADLINE_EXCEEDED"));
    }
    let page = server.metrics.encode();
    assert!(
        page.contains(r#"rpc_response_status_code="DEADLINE_EXCEEDED",error_type="DEADLINE_EXCEEDED"} 20"#),
        "{page}"
    );
}

#[tokio::test]
async fn a_call_without_a_timeout_gets_the_default_and_nobody_more_than_the_maximum() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let catalog = {
        let seen = Arc::clone(&seen);
        Catalog::new(move |request| {
            let deadline = Deadline::of(request.extensions()).expect("every call has one");
            seen.lock().unwrap().push(deadline.remaining(Instant::now()));
            async { Ok(Response::new(ListExpertsResponse::default())) }
        })
    };
    let deadlines = Deadlines { default: Duration::from_secs(100), max: Duration::from_secs(1000) };
    let server = Running::start(catalog, Options { deadlines, ..options() }).await;
    let mut client = server.client();
    client.list_experts(ListExpertsRequest {}).await.unwrap();
    client.list_experts(with_timeout("9999H")).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen[0] <= deadlines.default && seen[0] > Duration::from_secs(50), "{seen:?}");
    assert!(seen[1] <= deadlines.max && seen[1] > Duration::from_secs(500), "{seen:?}");
}

#[tokio::test]
async fn a_timeout_that_cannot_be_read_is_the_clients_mistake() {
    let server = Running::start(Catalog::empty(), options()).await;
    let status = server.client().list_experts(with_timeout("soon")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("grpc-timeout"), "{}", status.message());
}

#[tokio::test]
async fn a_panic_ends_its_own_call_and_no_other() {
    let connections = Arc::new(Mutex::new(Vec::<SocketAddr>::new()));
    let catalog = {
        let connections = Arc::clone(&connections);
        Catalog::new(move |request| {
            connections.lock().unwrap().push(request.remote_addr().unwrap());
            let panics = request.metadata().contains_key("panic");
            async move {
                assert!(!panics, "somebody asked for it");
                Ok(Response::new(ListExpertsResponse::default()))
            }
        })
    };
    let server = Running::start(catalog, options()).await;
    let mut client = server.client();
    let mut request = Request::new(ListExpertsRequest {});
    request.metadata_mut().insert("panic", MetadataValue::from_static("yes"));
    let status = client.list_experts(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    client.list_experts(ListExpertsRequest {}).await.unwrap();
    let connections = connections.lock().unwrap();
    assert_eq!(connections[0], connections[1], "the connection survived");
    let page = server.metrics.encode();
    let counted = |code: &str| page.contains(&format!("rpc_response_status_code=\"{code}\""));
    assert!(counted("INTERNAL") && !counted("CANCELLED"), "counted as what the client got: {page}");
}

#[tokio::test]
async fn beyond_its_limit_a_server_refuses_at_once_and_recovers() {
    let open = CancellationToken::new();
    let limits = Limits { max_in_flight: 1, ..Limits::default() };
    let server = Running::start(Catalog::behind(&open), Options { limits, ..options() }).await;
    let (mut first, mut second) = (server.client(), server.client());
    let mut calls = JoinSet::new();
    calls.spawn(async move { first.list_experts(ListExpertsRequest {}).await.map(drop) });
    until(|| server.in_flight.calls() == 1).await;

    let status = second.list_experts(ListExpertsRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(errors::reason(&status).as_deref(), Some("OVERLOADED"));
    assert!(errors::retry_after(&status).is_some());
    let health = HealthClient::new(server.channel()).check(HealthCheckRequest::default()).await;
    assert!(health.is_ok(), "a busy server is not an ill one");

    open.cancel();
    calls.join_next().await.unwrap().unwrap().unwrap();
    until(|| server.in_flight.calls() == 0).await;
    second.list_experts(ListExpertsRequest {}).await.unwrap();
}

#[tokio::test]
async fn paths_that_nobody_serves_are_unimplemented_and_make_no_time_series() {
    let server = Running::start(Catalog::empty(), options()).await;
    let client = hyper_client();
    for path in ["/", "/made.Up/Name", "/consilium.v1.CatalogService/MadeUp", "/%ff/%00", "/a//b"] {
        for timeout in ["1S", "nonsense"] {
            let request = http::Request::post(format!("http://{}{path}", server.address))
                .header("content-type", "application/grpc")
                .header("grpc-timeout", timeout)
                .body(Body::empty())
                .unwrap();
            let response = client.request(request).await.unwrap();
            let status = Status::from_header_map(response.headers()).unwrap();
            let expected = if timeout == "1S" { Code::Unimplemented } else { Code::InvalidArgument };
            assert_eq!(status.code(), expected, "{path}");
        }
    }
    let page = server.metrics.encode();
    assert!(page.contains(r#"rpc_method="_OTHER",rpc_response_status_code="UNIMPLEMENTED""#), "{page}");
    assert!(!page.contains("ade"), "a made-up name became a label: {page}");
}

#[tokio::test]
async fn strangers_on_the_port_harm_nobody() {
    let server = Running::start(Catalog::empty(), options()).await;
    let strange: [&[u8]; 3] = [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\x00\x05hello", &[0xff; 4096]];
    for bytes in strange {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        // What comes back does not matter, that the connection ends does.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    server.client().list_experts(ListExpertsRequest {}).await.unwrap();
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused() {
    let server = Running::start(Catalog::empty(), options()).await;
    let mut client = server.client();
    let mut request = Request::new(ListExpertsRequest {});
    request.metadata_mut().insert("x-long", "x".repeat(32 * 1024).parse().unwrap());
    client.list_experts(request).await.unwrap_err();
    client.list_experts(ListExpertsRequest {}).await.unwrap();
}

#[tokio::test]
async fn an_old_connection_takes_no_more_calls_and_ends_those_that_it_has() {
    let open = CancellationToken::new();
    let connections = Arc::new(Mutex::new(Vec::<SocketAddr>::new()));
    let catalog = {
        let (open, connections) = (open.clone(), Arc::clone(&connections));
        Catalog::new(move |request| {
            connections.lock().unwrap().push(request.remote_addr().unwrap());
            let (open, held) = (open.clone(), request.metadata().contains_key("hold"));
            async move {
                if held {
                    open.cancelled().await;
                }
                Ok(Response::new(ListExpertsResponse::default()))
            }
        })
    };
    let age = Duration::from_hours(1);
    let deadlines = Deadlines { default: 10 * age, max: 10 * age };
    let options = Options { deadlines, max_connection_age: Some(age), ..options() };
    let server = Running::start(catalog, options).await;
    let mut client = server.client();
    let mut held = Request::new(ListExpertsRequest {});
    held.metadata_mut().insert("hold", MetadataValue::from_static("yes"));
    let mut calls = JoinSet::new();
    let mut first = client.clone();
    calls.spawn(async move { first.list_experts(held).await.map(drop) });
    until(|| connections.lock().unwrap().len() == 1).await;
    let old = connections.lock().unwrap()[0];
    client.list_experts(ListExpertsRequest {}).await.unwrap();
    assert_eq!(connections.lock().unwrap().last(), Some(&old), "a young one is good for more calls");
    // In one leap: a ping that is on its way keeps its time to be answered.
    tokio::time::pause();
    tokio::time::advance(2 * age).await;
    tokio::time::resume();
    while connections.lock().unwrap().last() == Some(&old) {
        // tonic's client gives up a call that it has not sent when it is told to go. Others send it elsewhere.
        let code = client.list_experts(ListExpertsRequest {}).await.map_or_else(|status| status.code(), |_| Code::Ok);
        assert!([Code::Ok, Code::Cancelled].contains(&code), "{code:?}");
    }
    open.cancel();
    calls.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn health_says_not_serving_until_ready() {
    let server = Running::start(Catalog::empty(), options()).await;
    let mut health = HealthClient::new(server.channel());
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.check(request).await.map(|response| response.into_inner().status().as_str_name().to_owned())
    };
    for service in ["", "catalog", "consilium.v1.CatalogService"] {
        assert_eq!(check(service).await.unwrap(), "NOT_SERVING");
    }
    assert_eq!(check("nobody").await.unwrap_err().code(), Code::NotFound);
    server.readiness.latch("model").set();
    for service in ["", "catalog", "consilium.v1.CatalogService"] {
        assert_eq!(check(service).await.unwrap(), "SERVING");
    }
}

#[tokio::test]
async fn reflection_lists_what_is_served_in_both_versions_and_only_where_it_is_on() {
    let server = Running::start(Catalog::empty(), Options { reflection: true, ..options() }).await;
    let expected = ["consilium.v1.CatalogService", "grpc.health.v1.Health"].map(str::to_owned);
    assert_eq!(services_v1(&server).await.unwrap(), expected);
    assert_eq!(services_v1alpha(&server).await.unwrap(), expected);
    let server = Running::start(Catalog::empty(), options()).await;
    assert_eq!(services_v1(&server).await.unwrap_err().code(), Code::Unimplemented);
}

async fn services_v1(server: &Running) -> Result<Vec<String>, Status> {
    use v1::{server_reflection_request::MessageRequest, server_reflection_response::MessageResponse};
    let list = MessageRequest::ListServices(String::new());
    let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel());
    let mut replies = client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
    match replies.message().await?.and_then(|reply| reply.message_response) {
        Some(MessageResponse::ListServicesResponse(list)) => Ok(names(list.service.into_iter().map(|it| it.name))),
        other => panic!("{other:?}"),
    }
}

async fn services_v1alpha(server: &Running) -> Result<Vec<String>, Status> {
    use v1alpha::{server_reflection_request::MessageRequest, server_reflection_response::MessageResponse};
    let list = MessageRequest::ListServices(String::new());
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel());
    let mut replies = client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
    match replies.message().await?.and_then(|reply| reply.message_response) {
        Some(MessageResponse::ListServicesResponse(list)) => Ok(names(list.service.into_iter().map(|it| it.name))),
        other => panic!("{other:?}"),
    }
}

/// Without reflection itself, which it lists or not by its own taste.
fn names(services: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<_> = services.filter(|name| !name.starts_with("grpc.reflection.")).collect();
    names.sort();
    names
}
