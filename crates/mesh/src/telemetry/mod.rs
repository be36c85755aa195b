//! How a process is seen from outside beside its metrics: logs on standard error, traces by OTLP, and the trace context
//! that travels with calls.

pub mod span;

/// What OpenTelemetry calls the code of a call. The conventions are about to rename it to `rpc.status_code`: then it
/// changes here, in `CALL_LABELS`, and in what is generated from them.
pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";
