//! Going out of service with real streams open.

use std::time::Duration;

use consilium_mesh::{
    drain::{self, Leaving, Outcome, Step},
    serve::Options,
};
use consilium_proto::v1::{ListExpertsRequest, WatchExpertsRequest};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::support::{Catalog, Running, until};

pub(crate) const AT_ONCE: drain::Options =
    drain::Options { registry: Duration::from_secs(5), settle: Duration::ZERO, budget: Duration::from_mins(1) };

pub(crate) async fn leave(server: &mut Running, options: drain::Options) -> drain::Report {
    let readiness = server.readiness.clone();
    let leaving = Leaving {
        readiness: &readiness,
        registration: None,
        long_streams: server.long_streams.clone(),
        stop: server.stop.clone(),
        in_flight: server.in_flight.clone(),
    };
    drain::leave(leaving, server.stopped(), options).await
}

#[tokio::test]
async fn streams_that_never_end_do_not_keep_a_server_from_leaving() {
    let mut server = Running::start(Catalog::empty(), Options { reflection: true, ..Options::default() }).await;
    server.readiness.latch("model").set();

    let mut health = HealthClient::new(server.channel());
    let mut statuses = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let mut catalog = server.client().watch_experts(WatchExpertsRequest {}).await.unwrap().into_inner();
    catalog.message().await.unwrap().unwrap();

    // A request stream that stays open, as interactive tools keep it.
    let list = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
    let mut reflection = ServerReflectionClient::new(server.channel());
    let mut replies = reflection.server_reflection_info(requests).await.unwrap().into_inner();
    replies.message().await.unwrap().unwrap();

    let report = leave(&mut server, AT_ONCE).await;
    assert!(report.is_clean(), "{report:?}");

    assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(statuses.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(catalog.message().await.unwrap_err().code(), Code::Unavailable);
    // With a status or without one: its requests were ended too, and either end may be seen first.
    assert!(!matches!(replies.message().await, Ok(Some(_))));
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_running_call_is_answered() {
    let open = CancellationToken::new();
    let mut server = Running::start(Catalog::behind(&open), Options::default()).await;
    let mut client = server.client();
    let mut calls = JoinSet::new();
    calls.spawn(async move { client.list_experts(ListExpertsRequest {}).await.map(drop) });
    until(|| server.in_flight.calls() == 1).await;

    let stop = server.stop.clone();
    let (report, answered) = tokio::join!(leave(&mut server, AT_ONCE), async {
        stop.cancelled().await;
        open.cancel();
        calls.join_next().await.unwrap().unwrap()
    });
    answered.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn a_call_that_does_not_end_is_reported_and_cut_off() {
    let never = CancellationToken::new();
    let grace = Duration::from_millis(100);
    let options = Options {
        deadlines: consilium_mesh::serve::Deadlines { default: Duration::from_mins(10), max: Duration::from_mins(10) },
        ..Options::default()
    };
    let mut server = Running::start_with_grace(Catalog::behind(&never), options, grace).await;
    let mut client = server.client();
    let mut calls = JoinSet::new();
    calls.spawn(async move { client.list_experts(ListExpertsRequest {}).await.map(drop) });
    until(|| server.in_flight.calls() == 1).await;

    let report = leave(&mut server, drain::Options { budget: Duration::from_millis(20), ..AT_ONCE }).await;
    assert_eq!(report.left, 1);
    assert_eq!(report.steps.last(), Some(&(Step::Finish, Outcome::TimedOut)));

    calls.join_next().await.unwrap().unwrap().unwrap_err();
    until(|| server.in_flight.calls() == 0).await;
}

#[tokio::test]
async fn a_connection_that_never_says_a_word_is_cut_when_the_time_is_over() {
    let grace = Duration::from_millis(50);
    let mut server = Running::start_with_grace(Catalog::empty(), Options::default(), grace).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    // So that the silent connection has been accepted.
    server.client().list_experts(ListExpertsRequest {}).await.unwrap();
    server.stop.cancel();
    server.stopped().await;
}
