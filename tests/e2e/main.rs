//! End-to-end tests: one file per behaviour, each against a whole mesh with real gRPC. See `harness`.

#![expect(clippy::expect_used, reason = "a test that cannot go on says so by a panic")]

mod bad_input;
mod cancellation;
mod cascade;
mod deadline;
mod dispatch;
mod drain;
mod explain;
mod fallback;
mod feedback;
mod join_and_leave;
mod metrics_page;
mod newcomer;
mod observe;
mod refusal;
mod reload;
mod retry;
mod stream;
mod unavailable;
mod web;
