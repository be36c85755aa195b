//! The middleware of every server, one a file. `serve` composes it, in the one order that makes sense.

pub(crate) mod catch_panic;
pub(crate) mod deadline;
pub(crate) mod long_streams;
pub(crate) mod metrics;
mod outcome;
pub(crate) mod panics;
pub(crate) mod shed;
pub(crate) mod trace;
pub(crate) mod web;

pub use deadline::Deadline;

pub(crate) type Request = http::Request<tonic::body::Body>;
pub(crate) type Response = http::Response<tonic::body::Body>;
