//! The trace context that travels with calls: W3C `traceparent` and `tracestate` in gRPC metadata. Nothing else travels;
//! baggage is not carried.

use http::HeaderMap;
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::{SpanContext, TraceContextExt as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// What W3C asks everybody to carry of a `tracestate`. A longer one is a caller's attempt to have something else carried.
const MAX_STATE_BYTES: usize = 512;

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
        let mut values = self.0.get_all(key).iter();
        let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
        (value.len() <= MAX_STATE_BYTES).then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct Outgoing<'a>(&'a mut MetadataMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        // An empty `tracestate` is how there being none comes here.
        if value.is_empty() {
            return;
        }
        if let (Ok(key), Ok(value)) = (key.parse::<AsciiMetadataKey>(), AsciiMetadataValue::try_from(value)) {
            self.0.insert(key, value);
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
        let state = format!("a={}", "x".repeat(250));
        let known = caller(&headers([("traceparent", PARENT), ("tracestate", state.as_str())])).unwrap();
        assert_eq!(known.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(known.span_id().to_string(), "b7ad6b7169203331");
        assert!(known.is_sampled() && known.is_remote());
        assert_eq!(known.trace_state().header(), state);
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
    fn a_state_that_is_too_long_or_none_is_left_behind_and_its_trace_is_not() {
        for state in ["a=".to_owned() + &"x".repeat(MAX_STATE_BYTES), "no state".to_owned()] {
            let known = caller(&headers([("traceparent", PARENT), ("tracestate", state.as_str())])).unwrap();
            assert_eq!(known.trace_state().header(), "");
        }
    }
}
