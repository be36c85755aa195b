//! The way from a number to a trace: which request was one of those that a bucket counts.

use opentelemetry::trace::{SpanContext, TraceContextExt as _};
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
        recorded(span, |known| Self { trace_id: known.trace_id().to_string(), span_id: known.span_id().to_string() })
    }
}

/// Whether somebody keeps the span, so that facts about it are worth making.
pub fn is_recorded(span: &Span) -> bool {
    recorded(span, |_| ()).is_some()
}

/// A sampled context alone does not say so: where nothing is exported, a span has its caller's.
fn recorded<T>(span: &Span, then: impl FnOnce(&SpanContext) -> T) -> Option<T> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let known = span.span_context();
    (span.is_recording() && known.is_valid() && known.is_sampled()).then(|| then(known))
}
