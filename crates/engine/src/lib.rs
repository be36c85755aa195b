//! How a model answers. This crate loads ONNX models and runs them well on the cores there are; it knows nothing of the
//! network, of experts or of routing.
//!
//! The walk of a request, each step in the module of its name:
//!
//! ```text
//! Store::load    package    read and verify every byte; manifest, onnx: what it says, what hides in it
//!                bare       the same for a directory that has a model and no manifest
//!                session    one ONNX Runtime session per executor, on one copy of the weights
//!                warmup     run every size on made-up input, measure, fill the cost table
//!                prove      do rows come out the same, whatever rows they share a run with?
//! Engine::text   tokenize   worker threads: text → ids
//!    …::whole_text  windows which parts of a long text are read, and the mean of what they give
//! Engine::tensors  request  somebody else's tensors, checked
//!                queue      bounded, earliest deadline first; a dropped future leaves it at once
//!                batch      pure: which entries run together, now that an executor is free
//!                executor   one thread owns one session; rows: join, run, deal back
//! ```
//!
//! [`Engine::static_vector`] is no walk but a look: at the text's tokens (`wordpiece`: what `tokenize` does, faster, for the
//! commonest kind of text) and into a table (`token_table`) that some models bring along.
//!
//! Every run of a model holds a permit for its cores (`cores`), whichever model it is. What all of them count is in `metrics`,
//! and what a single request leaves behind on its way in `spans`.

mod bare;
mod batch;
mod cores;
mod cost;
mod engine;
mod error;
mod executor;
mod loads;
mod made_up;
mod manifest;
mod metrics;
mod onnx;
mod package;
mod prove;
mod queue;
mod request;
mod rows;
mod runtime;
mod session;
mod spans;
mod statistics;
mod store;
mod threads;
mod token_table;
mod tokenize;
mod warmup;
mod windows;
mod wordpiece;

#[cfg(feature = "testing")]
pub mod testing;

pub use bare::inspect_bare;
pub use consilium_tensor::{DataType, Tensor, UnknownDataType};
pub use cost::{CostTable, Unit};
pub use engine::{Call, Engine, EngineOptions, Output, TensorOutput, TextOutput, Timings};
pub use error::Error;
pub use manifest::{FileEntry, Kind, Manifest, TensorEntry, TokenizerEntry, TokensEntry};
pub use metrics::METRICS;
pub use package::{Inspection, inspect};
pub use queue::Load;
pub use runtime::locate;
pub use statistics::{BatchStatistics, Statistics};
pub use store::{Store, StoreOptions};
