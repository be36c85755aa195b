//! The way from a number to a trace: which request was one of those that a bucket counts.

use opentelemetry::trace::TraceContextExt as _;
use prometheus_client::encoding::EncodeLabelSet;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// A span that is being recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Exemplar {
    trace_id: String,
    span_id: String,
}

impl Exemplar {
    /// `None` where the span is not recorded: then there would be no trace to find.
    pub fn of(span: &Span) -> Option<Self> {
        if span.is_disabled() {
            return None;
        }
        let context = span.context();
        let span = context.span();
        let known = span.span_context();
        (known.is_valid() && known.is_sampled())
            .then(|| Self { trace_id: known.trace_id().to_string(), span_id: known.span_id().to_string() })
    }
}
