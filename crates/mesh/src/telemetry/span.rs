//! What spans carry beside their names. Facts about how a request went, never what it asks or who does: whatever is set
//! here leaves the process.

use opentelemetry::{Array, StringValue, Value};
use tonic::Code;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::metrics::{code_name, is_server_fault};

/// Sets an attribute of a span, if anybody wants it.
pub fn set(span: &Span, key: &'static str, value: impl Into<Value>) {
    if !span.is_disabled() {
        span.set_attribute(key, value);
    }
}

/// Sets a list of words.
pub fn set_list<'a>(span: &Span, key: &'static str, values: impl IntoIterator<Item = &'a str>) {
    if !span.is_disabled() {
        let values: Vec<StringValue> = values.into_iter().map(|value| value.to_owned().into()).collect();
        span.set_attribute(key, Value::Array(Array::String(values)));
    }
}

/// Sets a list of numbers.
pub fn set_numbers(span: &Span, key: &'static str, values: impl IntoIterator<Item = f64>) {
    if !span.is_disabled() {
        span.set_attribute(key, Value::Array(Array::F64(values.into_iter().collect())));
    }
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
    if span.is_disabled() {
        return;
    }
    span.set_attribute(super::RPC_RESPONSE_STATUS_CODE, code_name(code));
    if failed {
        span.set_attribute("error.type", code_name(code));
        // Without a description: messages may quote what a caller wrote.
        span.set_status(opentelemetry::trace::Status::error(""));
    }
}
