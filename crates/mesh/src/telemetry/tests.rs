//! Spans and the context that they hand on. Each test listens on its own thread only: the places in the code that it
//! listens to are its own, or are reached by tests of this file alone.

use std::{
    io,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use http::HeaderMap;
use http_body_util::{BodyExt as _, StreamBody};
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tonic::{Code, body::Body, metadata::MetadataMap};
use tower::{Layer as _, ServiceExt as _};
use tracing::subscriber::with_default;

use super::*;
use crate::{layer::trace::TraceLayer, methods::Methods, spans};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// Keeps what it gets.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

fn service() -> Service {
    let (name, namespace) = ("router".to_owned(), "clinic".to_owned());
    Service { name, namespace, version: "1.2.3".to_owned(), instance: None }
}

/// What is kept of the spans that `within` makes.
fn kept(ratio: f64, within: impl FnOnce()) -> Vec<SpanData> {
    let kept = Kept::default();
    let provider = provider(Exports::new(kept.clone(), TraceMetrics::default()), ratio, service());
    heard_by(recording(&provider), within);
    provider.shutdown().unwrap();
    kept.0.lock().unwrap().clone()
}

fn heard_by(listener: Listener<Registry>, within: impl FnOnce()) {
    with_default(tracing_subscriber::registry().with(listener), within);
}

fn headers(parent: &str) -> HeaderMap {
    [(http::HeaderName::from_static("traceparent"), parent.parse().unwrap())].into_iter().collect()
}

/// What somebody who is called within `span` is told.
fn told(span: &tracing::Span) -> Option<String> {
    let mut metadata = MetadataMap::new();
    span.in_scope(|| inject(&mut metadata));
    assert!(!metadata.contains_key("tracestate") && !metadata.contains_key("baggage"));
    Some(metadata.get("traceparent")?.to_str().unwrap().to_owned())
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    span.attributes.iter().find(|one| one.key.as_str() == key).map(|one| one.value.to_string())
}

#[test]
fn a_call_goes_on_with_its_callers_trace_and_hands_itself_on() {
    let mut traceparent = None;
    let spans = kept(0.0, || {
        let call = spans::call("router", "a.B/C", &headers(PARENT), Callers::Followed);
        call.in_scope(|| traceparent = told(&tracing::debug_span!("inner")));
        span::answered(&call, Code::Unavailable);
    });
    let [inner, call] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((call.name.as_ref(), &call.span_kind), ("a.B/C", &SpanKind::Server));
    assert_eq!((call.parent_span_id.to_string().as_str(), call.parent_span_is_remote), ("b7ad6b7169203331", true));
    assert_eq!(inner.parent_span_id, call.span_context.span_id());
    assert!([call, inner].iter().all(|span| span.span_context.trace_id().to_string() == TRACE));
    assert_eq!(traceparent, Some(format!("00-{TRACE}-{}-01", inner.span_context.span_id())));
    let mut keys: Vec<&str> = call.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        ["consilium.server", "error.type", "rpc.method", "rpc.response.status_code", "rpc.system.name"],
        "and nothing that nobody asked for"
    );
    assert_eq!(attribute(call, "rpc.response.status_code").as_deref(), Some("UNAVAILABLE"));
    assert!(inner.attributes.is_empty() && inner.events.is_empty());
}

#[test]
fn a_caller_that_keeps_nothing_is_followed_in_that_too() {
    let mut traceparent = None;
    let spans = kept(1.0, || {
        let call = spans::call("router", "a.B/C", &headers(UNSAMPLED), Callers::Followed);
        traceparent = told(&call);
    });
    assert!(spans.is_empty(), "{spans:?}");
    let traceparent = traceparent.expect("others are told as well");
    assert!(traceparent.starts_with(&format!("00-{TRACE}-")) && traceparent.ends_with("-00"), "{traceparent}");
}

#[test]
fn a_strangers_trace_is_linked_and_decides_nothing() {
    for parent in [PARENT, UNSAMPLED] {
        let spans = kept(1.0, || drop(spans::call("router", "a.B/C", &headers(parent), Callers::Linked)));
        let [call] = &spans[..] else { panic!("{spans:?}") };
        assert_ne!(call.span_context.trace_id().to_string(), TRACE);
        assert_eq!(call.parent_span_id.to_string(), "0000000000000000");
        let links: Vec<String> = call.links.iter().map(|link| link.span_context.trace_id().to_string()).collect();
        assert_eq!(links, [TRACE]);
        let none = kept(0.0, || drop(spans::call("router", "a.B/C", &headers(parent), Callers::Linked)));
        assert!(none.is_empty(), "{none:?}");
    }
}

#[test]
fn a_call_with_a_broken_context_begins_a_trace() {
    for callers in [Callers::Followed, Callers::Linked] {
        let spans = kept(1.0, || drop(spans::call("router", "a.B/C", &headers("00-broken-01"), callers)));
        let [call] = &spans[..] else { panic!("{spans:?}") };
        assert!(call.span_context.is_sampled() && call.links.is_empty());
        assert_eq!(call.parent_span_id.to_string(), "0000000000000000");
    }
}

#[tokio::test]
async fn a_span_lasts_until_the_end_of_the_reply() {
    let (kept, end) = (Kept::default(), CancellationToken::new());
    let provider = provider(Exports::new(kept.clone(), TraceMetrics::default()), 1.0, service());
    let _heard = tracing::subscriber::set_default(tracing_subscriber::registry().with(recording(&provider)));
    let ended = || {
        let _ = provider.force_flush();
        kept.0.lock().unwrap().clone()
    };
    let body = {
        let end = end.clone();
        futures::stream::once(async move {
            end.cancelled().await;
            let trailers = [(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("5"))];
            Ok::<_, tonic::Status>(http_body::Frame::<bytes::Bytes>::trailers(trailers.into_iter().collect()))
        })
    };
    let reply = Mutex::new(Body::new(StreamBody::new(body)));
    let answering = tower::service_fn(|_: http::Request<Body>| {
        let reply = std::mem::take(&mut *reply.lock().unwrap());
        async { Ok::<_, std::convert::Infallible>(http::Response::new(reply)) }
    });
    let layer = TraceLayer { server: "test", methods: Methods::default(), callers: Callers::Followed };
    let reply = layer.layer(answering).oneshot(http::Request::new(Body::empty())).await.unwrap();
    assert!(ended().is_empty(), "the reply has not ended");

    let before = SystemTime::now();
    end.cancel();
    reply.into_body().collect().await.unwrap();
    let [call] = &ended()[..] else { panic!("one span") };
    assert!(call.end_time >= before);
    assert_eq!(attribute(call, "rpc.response.status_code").as_deref(), Some("NOT_FOUND"));
    assert_eq!((attribute(call, "error.type"), call.status.clone()), (None, Status::Unset));
}

#[test]
fn only_spans_of_ours_are_kept() {
    let spans = kept(1.0, || {
        let _ = tracing::info_span!(target: "h2::client", "theirs");
        let _ = tracing::trace_span!("too small");
        let ours = tracing::debug_span!("ours");
        ours.in_scope(|| tracing::error!("a line"));
    });
    let [ours] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(ours.name, "ours");
    assert!(ours.events.is_empty(), "lines are for whoever reads logs");
}

#[test]
fn without_a_collector_a_callers_trace_is_passed_on_and_none_is_begun() {
    heard_by(passing(), || {
        let call = spans::call("router", "a.B/C", &headers(PARENT), Callers::Followed);
        call.in_scope(|| {
            let inner = tracing::debug_span!("not made");
            assert!(inner.is_disabled());
            assert_eq!(told(&inner).as_deref(), Some(PARENT), "the caller's own: nothing here would be found");
        });
        for (headers, callers) in [
            (HeaderMap::new(), Callers::Followed),
            (headers(PARENT), Callers::Linked),
            (headers("x"), Callers::Followed),
        ] {
            assert_eq!(told(&spans::call("router", "a.B/C", &headers, callers)), None);
        }
    });
}

#[test]
fn a_line_has_the_ids_of_its_trace() {
    let written = Written::default();
    let writer = written.clone();
    let lines = || {
        logs::json({
            let writer = writer.clone();
            move || writer.clone()
        })
    };
    let provider = provider(Exports::new(Kept::default(), TraceMetrics::default()), 1.0, service());
    let mut ids = None;
    with_default(both(recording(&provider), lines()), || {
        let call = tracing::info_span!("call", rpc.method = "a.B/C");
        call.in_scope(|| tracing::warn!(code = "UNAVAILABLE", "within"));
        tracing::warn!("outside");
        ids = told(&call);
    });
    with_default(both(passing(), lines()), || {
        tracing::info_span!("call").in_scope(|| tracing::warn!("of no trace"));
    });
    let [within, outside, untraced] = &written.lines()[..] else { panic!("{:?}", written.lines()) };
    let ids = ids.unwrap();
    let [_, trace, span, _] = ids.split('-').collect::<Vec<_>>()[..] else { panic!("{ids}") };
    assert_eq!((within["trace_id"].as_str(), within["span_id"].as_str()), (Some(trace), Some(span)));
    assert_eq!((&within["message"], &within["level"]), (&"within".into(), &"WARN".into()));
    assert_eq!((&within["code"], &within["span"]["rpc.method"]), (&"UNAVAILABLE".into(), &"a.B/C".into()));
    assert!(within["timestamp"].is_string() && within["target"].is_string() && within["fields"].is_null(), "{within}");
    for line in [outside, untraced] {
        assert!(line["trace_id"].is_null() && line["span_id"].is_null(), "{line}");
    }
}

/// Lines, as they are written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_process_says_who_it_is() {
    let resource = Resource::from(service());
    let said = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
    let expected = [("service.name", "router"), ("service.namespace", "clinic"), ("service.version", "1.2.3")];
    for (key, value) in expected {
        assert_eq!(said(key).as_deref(), Some(value));
    }
    assert_eq!(said("telemetry.sdk.language").as_deref(), Some("rust"));
    assert_ne!(
        said("service.instance.id"),
        Resource::from(service()).get(&"service.instance.id".into()).map(|id| id.to_string())
    );
    let alone = Resource::from(Service { namespace: String::new(), instance: Some("7".to_owned()), ..service() });
    assert_eq!(alone.get(&"service.namespace".into()), None);
    assert_eq!(alone.get(&"service.instance.id".into()).map(|id| id.to_string()).as_deref(), Some("7"));
}

#[tokio::test]
async fn a_process_leaves_although_its_collector_does_not_answer() {
    let (exporter, batches, free) = export::tests::stuck();
    let exporting = Exporting::new(Exports::new(exporter, TraceMetrics::default()), 1.0, service());
    heard_by(recording(&exporting.provider), || drop(tracing::info_span!("last")));
    // The exporter is let go after that only.
    exporting.stop_within(Duration::from_millis(20)).await;
    assert_eq!(batches.recv(), Ok(1));
    drop(free);
}

#[test]
fn a_collector_that_is_known_to_fail_is_hardly_waited_for() {
    let exporting = Exporting::new(Exports::new(export::tests::Refusing, TraceMetrics::default()), 1.0, service());
    assert_eq!(exporting.patience(), LAST_EXPORT);
    heard_by(recording(&exporting.provider), || drop(tracing::info_span!("lost")));
    let _ = exporting.provider.force_flush();
    assert_eq!(exporting.patience(), LAST_TRY);
}
