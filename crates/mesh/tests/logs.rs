//! What servers log. A process of its own, because a subscriber is for all of it: one for a single thread misses
//! events whose place in the code another thread has reached first.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use consilium_mesh::serve::Options;
use consilium_proto::v1::{ListExpertsRequest, catalog_service_server::CatalogServiceServer};
use tonic::{Request, Status, body::Body, metadata::MetadataValue};

use crate::{
    panicking::Panicking,
    support::{Catalog, Running, hyper_client},
};

#[cfg(test)]
#[path = "traces/panicking.rs"]
mod panicking;
#[cfg(test)]
#[path = "it/support.rs"]
#[expect(dead_code, reason = "made for the tests in `it`, of which this needs a part")]
mod support;

/// Collects what is logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn logs_name_the_method_and_the_code_and_never_what_was_sent() {
    let logged = Logged::default();
    let writer = logged.clone();
    tracing::subscriber::set_global_default(
        tracing_subscriber::fmt()
            .with_env_filter("consilium_mesh=trace")
            .json()
            .with_writer(move || writer.clone())
            .finish(),
    )
    .unwrap();
    let catalog = Catalog::new(|request| {
        let panics = request.metadata().get("x-canary").is_some_and(|value| value == "canary-panic");
        async move {
            assert!(!panics, "canary in a panic");
            Err(Status::unavailable("canary in a status"))
        }
    });
    let (options, grace) = (Options { name: "test", ..Options::default() }, Duration::from_secs(30));
    let server = Running::start_adding(options, grace, |server| {
        server.add_service(CatalogServiceServer::new(catalog)).add_service(Panicking)
    });
    let server = server.await;
    for value in ["canary-panic", "canary-status"] {
        let mut request = Request::new(ListExpertsRequest {});
        request.metadata_mut().insert("x-canary", MetadataValue::from_static(value));
        server.client().list_experts(request).await.unwrap_err();
    }
    let request = http::Request::post(format!("http://{}/canary/Path", server.address)).body(Body::empty()).unwrap();
    hyper_client().request(request).await.unwrap();
    for method in [panicking::UNARY, panicking::STREAM] {
        assert_eq!(panicking::call(server.address, method, "").await, "13");
    }

    let logged = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    for expected in ["a call panicked", "consilium.v1.CatalogService/ListExperts", "UNAVAILABLE", "_OTHER"] {
        assert!(logged.contains(expected), "{expected}: {logged}");
    }
    assert!(!logged.contains("canary"), "{logged}");
    // Within the call's span, for whoever goes from the line to the trace.
    let panicked: Vec<_> = logged.lines().filter(|line| line.contains("a call panicked")).collect();
    for (line, method) in panicked.iter().zip(["CatalogService/ListExperts", panicking::UNARY, panicking::STREAM]) {
        assert!(line.contains(&format!("{method}\"")), "{line}");
    }
    assert_eq!(panicked.len(), 3);
}
