//! What spans carry beside their names. Facts about how a request went, never what it asks or who does: whatever is set
//! here leaves the process.

use consilium_metrics::is_recorded;
use opentelemetry::{
    Array, KeyValue, StringValue, Value,
    trace::{SpanRef, TraceContextExt as _},
};
use tonic::Code;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::metrics::{code_name, is_server_fault};

/// A span below the current one, where somebody keeps that: of a trace that is not kept, facts would be gathered for nobody.
/// The context that goes on with calls is then the current span's own, and says the same.
pub fn inner(span: impl FnOnce() -> Span) -> Span {
    if is_recorded(&Span::current()) { span() } else { Span::none() }
}

/// Sets an attribute of a span, if anybody keeps it.
pub fn set(span: &Span, key: &'static str, value: impl Into<Value>) {
    kept(span, |span| span.set_attribute(KeyValue::new(key, value)));
}

/// Sets a list of words.
pub fn set_list<'a>(span: &Span, key: &'static str, values: impl IntoIterator<Item = &'a str>) {
    kept(span, |span| {
        let values: Vec<StringValue> = values.into_iter().map(|value| value.to_owned().into()).collect();
        span.set_attribute(KeyValue::new(key, Value::Array(Array::String(values))));
    });
}

/// Sets a list of numbers.
pub fn set_numbers(span: &Span, key: &'static str, values: impl IntoIterator<Item = f64>) {
    kept(span, |span| {
        span.set_attribute(KeyValue::new(key, Value::Array(Array::F64(values.into_iter().collect()))));
    });
}

/// How a call that this process answered ended: failed only where the server was at fault, as OpenTelemetry has it.
pub fn answered(span: &Span, code: Code) {
    ended(span, code, is_server_fault(code));
}

/// How a call that this process made ended: failed unless it went well.
pub fn called(span: &Span, code: Code) {
    ended(span, code, code != Code::Ok);
}

fn ended(span: &Span, code: Code, failed: bool) {
    kept(span, |span| {
        span.set_attribute(KeyValue::new(super::RPC_RESPONSE_STATUS_CODE, code_name(code)));
        if failed {
            span.set_attribute(KeyValue::new("error.type", code_name(code)));
            // Without a description: messages may quote what a caller wrote.
            span.set_status(opentelemetry::trace::Status::error(""));
        }
    });
}

/// Facts about a span that nobody keeps are not even made. A look costs less than one of them.
fn kept(span: &Span, facts: impl FnOnce(SpanRef<'_>)) {
    if span.is_disabled() {
        return;
    }
    let context = span.context();
    let span = context.span();
    if span.is_recording() {
        facts(span);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// How many words are looked at for a span.
    fn looked_at(sampler: Sampler) -> usize {
        let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let mut looked_at = 0;
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            set_list(&tracing::info_span!("call"), "words", ["a", "b"].into_iter().inspect(|_| looked_at += 1));
        });
        looked_at
    }

    #[test]
    fn what_nobody_keeps_is_not_made() {
        assert_eq!(looked_at(Sampler::AlwaysOn), 2);
        assert_eq!(looked_at(Sampler::AlwaysOff), 0);
    }
}
