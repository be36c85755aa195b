//! The trace context that travels with calls: W3C `traceparent` in gRPC metadata, which is numbers and nothing else. A
//! caller's `tracestate` and baggage are not carried: they are free text, and would be in every span, and in every
//! expert's.

use http::HeaderMap;
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::{SpanContext, TraceContextExt as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";

/// Writes the context of the current span, so that whoever is called goes on with its trace. Nothing where there is none.
pub fn inject(metadata: &mut MetadataMap) {
    let span = Span::current();
    if !span.is_disabled() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut Outgoing(metadata));
    }
}

/// The span that a call was made from, as its headers say. What cannot be read was not said.
pub(crate) fn caller(headers: &HeaderMap) -> Option<SpanContext> {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(headers));
    let caller = context.span().span_context().clone();
    caller.is_valid().then_some(caller)
}

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    /// A header that comes twice says nothing.
    fn get(&self, key: &str) -> Option<&str> {
        let mut values = self.0.get_all(Some(key).filter(|key| *key == TRACEPARENT)?).iter();
        values.next().filter(|_| values.next().is_none())?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

struct Outgoing<'a>(&'a mut MetadataMap);

impl Injector for Outgoing<'_> {
    /// A `tracestate` comes here too, empty.
    fn set(&mut self, key: &str, value: String) {
        if let (TRACEPARENT, Ok(value)) = (key, AsciiMetadataValue::try_from(value)) {
            self.0.insert(TRACEPARENT, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers<'a>(pairs: impl IntoIterator<Item = (&'static str, &'a str)>) -> HeaderMap {
        pairs.into_iter().map(|(key, value)| (http::HeaderName::from_static(key), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_caller_is_who_its_headers_say() {
        let known = caller(&headers([("traceparent", PARENT)])).unwrap();
        assert_eq!(known.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(known.span_id().to_string(), "b7ad6b7169203331");
        assert!(known.is_sampled() && known.is_remote());
        let unsampled = caller(&headers([("traceparent", PARENT.replace("-01", "-00").as_str())])).unwrap();
        assert!(!unsampled.is_sampled());
    }

    #[test]
    fn what_cannot_be_read_was_not_said() {
        assert_eq!(caller(&HeaderMap::new()), None);
        let huge = "x".repeat(100_000);
        for parent in [
            "",
            "0",
            "----",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-zaf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            huge.as_str(),
        ] {
            assert_eq!(caller(&headers([("traceparent", parent)])), None, "{parent:.60}");
        }
        let mut twice = headers([("traceparent", PARENT)]);
        twice.append("traceparent", PARENT.replace("-01", "-00").parse().unwrap());
        assert_eq!(caller(&twice), None);
        let mut bytes = HeaderMap::new();
        bytes.insert("traceparent", http::HeaderValue::from_bytes(b"00-\xff").unwrap());
        assert_eq!(caller(&bytes), None);
    }

    #[test]
    fn a_state_stays_at_the_door() {
        let known = caller(&headers([("traceparent", PARENT), ("tracestate", "vendor=canary")])).unwrap();
        assert_eq!(known.trace_state().header(), "");
        let state = opentelemetry::trace::TraceState::from_key_value([("vendor", "canary")]).unwrap();
        let known = SpanContext::new(known.trace_id(), known.span_id(), known.trace_flags(), true, state);
        let mut metadata = MetadataMap::new();
        let context = Context::new().with_remote_span_context(known);
        TraceContextPropagator::new().inject_context(&context, &mut Outgoing(&mut metadata));
        assert_eq!(metadata.keys().count(), 1);
        assert_eq!(metadata.get("traceparent").unwrap(), PARENT);
    }
}
