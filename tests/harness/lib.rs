//! What the end-to-end tests are made of: a whole mesh in one process, with real gRPC on ports that are bound first, a
//! registry in memory and real experts on a small real model. Beside them a scripted expert, for faults that a real
//! one cannot be made to show on demand. What takes killing to show is tested with [`processes`] instead.
//!
//! Nothing here sleeps to wait for something: the router tells over `WatchExperts` what it knows.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so by a panic")]

mod encoder;
mod files;
mod mesh;
pub mod processes;
mod scripted;

pub use encoder::Words;
pub use files::{ExpertFiles, models, onnxruntime};
pub use mesh::{Mesh, question};
pub use scripted::{Behaviour, Scripted, Stumbled};
