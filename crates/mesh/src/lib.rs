//! How a process joins a mesh, finds the others and serves: the registry, the one way to listen and the one way to
//! connect, health, drain, configuration, logs, traces and metrics. Nothing here knows a model, a query or an answer.

pub mod admin;
pub mod backoff;
pub mod config;
pub mod dial;
pub mod drain;
pub mod errors;
pub mod files;
pub mod health;
pub mod inference;
mod layer;
pub mod limits;
pub mod logs;
pub mod message;
pub mod methods;
pub mod metrics;
pub mod process;
pub mod registry;
pub mod serve;
mod spans;
pub mod telemetry;
pub mod tls;

pub use layer::Deadline;
