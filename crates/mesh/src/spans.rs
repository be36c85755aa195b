//! The spans that this crate makes.

use http::HeaderMap;
use opentelemetry::{Context, trace::TraceContextExt as _};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::telemetry::{Callers, caller, span::set};

/// A call that `server` answers, until the end of its reply.
pub(crate) fn call(server: &'static str, method: &str, headers: &HeaderMap, callers: Callers) -> Span {
    // What log lines show as well is a field, the rest is set below: `otel.name` would have them say the method twice.
    let span = tracing::info_span!(
        parent: None,
        "call",
        otel.kind = "server",
        rpc.method = method,
        consilium.server = server,
    );
    if span.is_disabled() {
        return span;
    }
    if let Some(caller) = caller(headers) {
        match callers {
            // Fails only where nobody keeps traces.
            Callers::Followed => drop(span.set_parent(Context::new().with_remote_span_context(caller))),
            Callers::Linked => span.add_link(caller),
        }
    }
    // These begin it, so come last.
    set(&span, "rpc.system.name", "grpc");
    span.context().span().update_name(method.to_owned());
    span
}
