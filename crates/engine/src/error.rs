//! What can go wrong in the engine. No variant ever carries a query's text or a tensor's values.

use std::path::PathBuf;
use std::time::Duration;

/// Every way the engine refuses or fails.
///
/// Callers map it to a status with one exhaustive match, so a new variant is a breaking change on purpose.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ONNX Runtime library is missing, unreadable or too old.
    #[error("onnx runtime: {problem}")]
    Runtime {
        /// What was tried and what to do about it.
        problem: String,
        /// What the loader said, if it said anything.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },

    /// The model directory is not what its manifest says. All problems at once.
    #[error("model directory {}: {}", dir.display(), problems.join("; "))]
    Manifest {
        /// The directory that was asked for.
        dir: PathBuf,
        /// Every problem found, each with the field or file that it concerns.
        problems: Vec<String>,
    },

    /// ONNX Runtime refused the model, or the first run of it failed.
    #[error("model {name}: {problem}")]
    Model {
        /// The model's name in its manifest.
        name: String,
        /// Which step failed.
        problem: String,
        /// What ONNX Runtime said, if it said anything.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },

    /// The caller's input cannot be run; the same input never will.
    #[error("{field}: {problem}")]
    Invalid {
        /// Path of the offending field, e.g. `inputs[a].shape`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },

    /// The queue is at its bound. Nothing was queued.
    #[error("the queue is full, room is expected in {} ms", retry_after.as_millis())]
    QueueFull {
        /// When what waits now should have run, from the cost table.
        retry_after: Duration,
    },

    /// The deadline passed before an answer was there.
    #[error("the deadline passed")]
    DeadlineExceeded,

    /// The store is closing or closed and takes no new work.
    #[error("the engine is closed")]
    Closed,

    /// The run itself failed. Other batches are not affected.
    #[error("the run failed: {problem}")]
    Failed {
        /// What failed, without any value that went in or came out.
        problem: String,
    },
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into() }
    }

    pub(crate) fn failed(problem: impl Into<String>) -> Self {
        Self::Failed { problem: problem.into() }
    }
}
