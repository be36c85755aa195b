//! What becomes of calls.

use consilium_mesh::{
    serve::Options,
    telemetry::{self, Callers},
};
use consilium_proto::v1::{ListExpertsRequest, ListExpertsResponse, WatchExpertsRequest};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use tonic::{Response, Status, body::Body};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    collector::{PROCESS, asking, hex, span_of, trace, words},
    panicking::{self, Panicking},
    support::{self, Catalog, Running, hyper_client},
};

fn options(callers: Callers) -> Options {
    Options { name: "test", callers, ..Options::default() }
}

#[test]
fn a_call_reaches_the_collector_as_its_callers_child_with_what_the_process_says_of_itself() {
    PROCESS.runtime.block_on(async {
        let (trace, traceparent) = trace(1);
        let catalog = Catalog::new(|_| async {
            // Somebody else is called from within: it has to hear of this call.
            let mut metadata = tonic::metadata::MetadataMap::new();
            telemetry::inject(&mut metadata);
            let mut status = Status::unavailable("a message, which may say anything");
            status.metadata_mut().insert("told", metadata.get("traceparent").unwrap().clone());
            Err::<Response<ListExpertsResponse>, _>(status)
        });
        let server = Running::start(catalog, options(Callers::Followed)).await;
        let status = server.client().list_experts(asking(ListExpertsRequest {}, &traceparent)).await.unwrap_err();

        let span = span_of(&trace).await;
        assert_eq!((span.name.as_str(), span.kind()), ("consilium.v1.CatalogService/ListExperts", SpanKind::Server));
        assert_eq!(hex(&span.parent_span_id), "b7ad6b7169203331");
        let told = status.metadata().get("told").unwrap().to_str().unwrap();
        assert_eq!(told, format!("00-{trace}-{}-01", hex(&span.span_id)));
        let attributes = words(&span.attributes);
        let attributes: Vec<_> = attributes.iter().map(|(key, word)| (key.as_str(), word.as_str())).collect();
        let expected = [
            ("consilium.server", "test"),
            ("error.type", "UNAVAILABLE"),
            ("rpc.method", "consilium.v1.CatalogService/ListExperts"),
            ("rpc.response.status_code", "UNAVAILABLE"),
            ("rpc.system.name", "grpc"),
        ];
        assert_eq!(attributes, expected);
        let status = span.status.unwrap();
        assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, ""));

        let came = PROCESS.came.borrow();
        let resource = &came.resources[0];
        for (key, word) in [
            ("service.name", "labs"),
            ("service.namespace", "clinic"),
            ("service.version", "7"),
            ("service.instance.id", "labs-1"),
        ] {
            assert_eq!(resource.get(key).map(String::as_str), Some(word), "{resource:?}");
        }
        // Counted as soon as the collector has said that it took them, which is after it has got them.
        let exported = || PROCESS.metrics.encode().contains("consilium_trace_spans_total{result=\"exported\"} 0");
        drop(came);
        support::until(|| !exported()).await;
        // Buckets remember the call.
        let page = server.metrics.encode();
        let exemplar = format!("# {{trace_id=\"{trace}\",span_id=\"{}\"}}", hex(&span.span_id));
        assert!(page.contains(&exemplar), "{exemplar}: {page}");
    });
}

#[test]
fn a_strangers_call_is_a_trace_of_our_own() {
    PROCESS.runtime.block_on(async {
        let (theirs, traceparent) = trace(2);
        let server = Running::start(Catalog::empty(), options(Callers::Linked)).await;
        server.client().list_experts(asking(ListExpertsRequest {}, &traceparent)).await.unwrap();
        let links = |span: &Span| span.links.iter().any(|link| hex(&link.trace_id) == theirs);
        let mut came = PROCESS.came.clone();
        let came = came.wait_for(|came| came.spans.iter().any(links)).await.unwrap();
        let span = came.spans.iter().find(|span| links(span)).unwrap();
        assert!(span.parent_span_id.is_empty(), "{span:?}");
        assert_ne!(hex(&span.trace_id), theirs);
    });
}

#[test]
fn probes_long_streams_and_what_strangers_make_up_are_in_no_trace() {
    PROCESS.runtime.block_on(async {
        let server = Running::start(Catalog::empty(), options(Callers::Followed)).await;
        let (probe, stream, made_up, last) = (trace(3), trace(4), trace(5), trace(6));
        let mut health = HealthClient::new(server.channel());
        health.check(asking(HealthCheckRequest::default(), &probe.1)).await.unwrap();
        let mut events =
            server.client().watch_experts(asking(WatchExpertsRequest {}, &stream.1)).await.unwrap().into_inner();
        server.long_streams.cancel();
        while events.message().await.is_ok() {}
        let request = http::Request::post(format!("http://{}/canary/Path", server.address))
            .header("traceparent", &made_up.1)
            .body(Body::empty());
        hyper_client().request(request.unwrap()).await.unwrap();
        server.client().list_experts(asking(ListExpertsRequest {}, &last.1)).await.unwrap();

        let span = span_of(&made_up.0).await;
        assert_eq!(span.name, "_OTHER");
        assert!(!format!("{span:?}").contains("canary"), "{span:?}");
        // Spans come in the order in which they ended.
        span_of(&last.0).await;
        let came = PROCESS.came.borrow();
        for (none, _) in [probe, stream] {
            assert!(came.spans.iter().all(|span| hex(&span.trace_id) != none));
        }
    });
}

#[test]
fn a_panic_is_an_error_for_whoever_looks() {
    PROCESS.runtime.block_on(async {
        let grace = std::time::Duration::from_secs(30);
        let server =
            Running::start_adding(options(Callers::Followed), grace, |server| server.add_service(Panicking)).await;
        for (test, method) in [(8, panicking::UNARY), (9, panicking::STREAM)] {
            let (trace, traceparent) = trace(test);
            assert_eq!(panicking::call(server.address, method, &traceparent).await, "13");
            let span = span_of(&trace).await;
            let attributes = words(&span.attributes);
            let said = ["rpc.response.status_code", "error.type"].map(|key| attributes.get(key).map(String::as_str));
            assert_eq!((said, span.name.as_str()), ([Some("INTERNAL"), Some("INTERNAL")], method));
            let status = span.status.unwrap();
            assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, ""));
            let page = server.metrics.encode();
            let counted = page.lines().find(|line| {
                line.starts_with("rpc_server_call_duration_seconds_count{") && line.contains(&format!("{method:?}"))
            });
            assert!(counted.unwrap().contains(r#"error_type="INTERNAL""#), "{counted:?}");
        }
    });
}

#[test]
fn contexts_that_cannot_be_read_are_no_errors() {
    PROCESS.runtime.block_on(async {
        let server = Running::start(Catalog::empty(), options(Callers::Followed)).await;
        let (trace, traceparent) = trace(7);
        for parent in ["", "00-0-0-00", "\u{7f}", &"0".repeat(4000), &traceparent] {
            let uri = format!("http://{}/consilium.v1.CatalogService/ListExperts", server.address);
            let parent =
                http::HeaderValue::from_bytes(parent.as_bytes()).unwrap_or(http::HeaderValue::from_static("?"));
            let request = http::Request::post(uri)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("traceparent", parent)
                .header("tracestate", "x".repeat(4000))
                .body(Body::new(http_body_util::Full::from(&[0_u8; 5][..])));
            let response = hyper_client().request(request.unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
            let trailers = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().trailers().cloned();
            assert_eq!(trailers.unwrap()["grpc-status"], "0");
        }
        let span = span_of(&trace).await;
        assert_eq!((span.trace_state.as_str(), words(&span.attributes).get("error.type")), ("", None));
    });
}
