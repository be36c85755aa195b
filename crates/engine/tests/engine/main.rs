//! The engine from outside. One binary, so that it is linked once.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in the functions beside it too"
)]

mod bare;
mod long;
mod models;
mod scripted;
mod shapes;
mod support;
mod tokens;
