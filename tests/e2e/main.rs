//! End-to-end tests: one file per behaviour, each against a whole mesh with real gRPC. See `harness`.

mod bad_input;
mod cancellation;
mod deadline;
mod dispatch;
mod drain;
mod explain;
mod fallback;
mod join_and_leave;
mod observe;
mod refusal;
mod retry;
mod stream;
mod unavailable;
