//! The admin port, from outside.

use std::net::{SocketAddr, TcpListener};

use consilium_mesh::{
    admin::Admin,
    dial::{self, Target},
    health::Readiness,
    metrics::Metrics,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

fn start(readiness: Vec<Readiness>) -> Admin {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Admin::start(listener, readiness, Metrics::new()).unwrap()
}

#[tokio::test]
async fn it_is_alive_before_it_is_ready_and_says_what_is_missing() {
    let (a, b) = (Readiness::new("a"), Readiness::new("b"));
    let (model, registered) = (a.latch("model"), b.latch("registered"));
    let admin = start(vec![a, b]);
    let address = admin.local_addr();
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200 "));
    let page = get(address, "/readyz").await;
    assert!(page.starts_with("HTTP/1.1 503 ") && page.ends_with("a: model\nb: registered\n"), "{page}");
    model.set();
    registered.set();
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
    let page = get(address, "/metrics").await;
    assert!(page.contains("application/openmetrics-text") && page.ends_with("# EOF\n"), "{page}");
    assert!(get(address, "/readyzz").await.starts_with("HTTP/1.1 404 "), "a mistyped probe must not succeed");
}

#[tokio::test]
async fn probes_that_speak_grpc_are_answered_on_the_same_port() {
    let readiness = Readiness::new("a");
    let admin = start(vec![readiness.clone()]);
    let channel = dial::channel(&Target::plain(admin.local_addr().to_string())).unwrap();
    let mut statuses = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    readiness.latch("model").set();
    assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn stopping_closes_the_port_although_somebody_watches() {
    let admin = start(vec![Readiness::new("a")]);
    let address = admin.local_addr();
    let channel = dial::channel(&Target::plain(address.to_string())).unwrap();
    let mut statuses = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    statuses.message().await.unwrap().unwrap();
    admin.stop();
    statuses.message().await.unwrap_err();
    assert!(TcpStream::connect(address).await.is_err());
}
