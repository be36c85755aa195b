//! A deadline that passes is DEADLINE_EXCEEDED, never CANCELLED, wherever the request is at that moment.

use std::time::Duration;

use consilium_proto::{client::router_service_client::RouterServiceClient, v1};
use consilium_tests::{Behaviour, Mesh, question};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tonic::{Code, Request, body::Body};

const SHORT: Duration = Duration::from_millis(100);

/// A client without a timer of its own. tonic's channel has one, which reads `grpc-timeout` as well and would answer
/// before the router does, so that nothing would be learnt about the router.
fn patient(mesh: &Mesh) -> RouterServiceClient<Client<HttpConnector, Body>> {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    RouterServiceClient::with_origin(client, mesh.origin.clone())
}

fn within<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

async fn dispatch(mesh: &Mesh, text: &str) -> tonic::Status {
    patient(mesh).dispatch(within(question(text), SHORT)).await.expect_err("nothing comes in time")
}

#[tokio::test]
async fn in_the_expert() {
    let mesh = Mesh::start("").await;
    let oracle = mesh.script("oracle", Behaviour::Hold).await;
    let status = dispatch(&mesh, "ask oracle something").await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    oracle.abandoned(1).await;
}

#[tokio::test]
async fn in_the_gate() {
    let mesh = Mesh::start("").await;
    let oracle = mesh.script("oracle", Behaviour::Answer).await;
    let status = dispatch(&mesh, "hold the gate up").await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(oracle.calls(), 0);
}

#[tokio::test]
async fn in_a_stream() {
    let mesh = Mesh::start("").await;
    let oracle = mesh.script("oracle", Behaviour::Hold).await;
    let request = v1::StreamDispatchRequest { query: question("ask oracle something").query, ..Default::default() };
    let opened = patient(&mesh).stream_dispatch(within(request, SHORT)).await;
    let status = match opened {
        Err(status) => status,
        Ok(stream) => {
            let mut stream = stream.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the stream ended without saying why"),
                    Err(status) => break status,
                }
            }
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    oracle.abandoned(1).await;
}

#[tokio::test]
async fn the_meshs_default_holds_for_who_brings_none() {
    let mesh = Mesh::start("default_deadline: 100ms").await;
    let _oracle = mesh.script("oracle", Behaviour::Hold).await;
    let status = mesh.ask("ask oracle something").await.expect_err("nothing comes in time");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

#[tokio::test]
async fn the_meshs_maximum_caps_what_is_asked_for() {
    let mesh = Mesh::start("default_deadline: 50ms\nmax_deadline: 100ms").await;
    let _oracle = mesh.script("oracle", Behaviour::Hold).await;
    let request = within(question("ask oracle something"), Duration::from_hours(1));
    let status = patient(&mesh).dispatch(request).await.expect_err("nothing comes in time");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

#[tokio::test]
async fn a_caller_who_does_not_read_holds_nothing_beyond_it() {
    let mesh = Mesh::start("").await;
    // Far more than the windows of a connection take.
    let piece: &'static str = Box::leak("x".repeat(64 * 1024).into_boxed_str());
    let _oracle = mesh.script("oracle", Behaviour::Stream(vec![piece; 256])).await;
    let request = v1::StreamDispatchRequest { query: question("ask oracle something").query, ..Default::default() };
    let opened = patient(&mesh).stream_dispatch(within(request, Duration::from_secs(2))).await;
    let mut stream = opened.expect("the stream opens").into_inner();
    stream.message().await.expect("the decision comes").expect("first of all");

    let mut catalog = mesh.catalog.clone();
    loop {
        let listed = catalog.list_experts(v1::ListExpertsRequest {}).await.expect("it lists").into_inner();
        if listed.catalog.expect("a catalogue").experts[0].instances[0].in_flight == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    let status = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without saying why"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}
