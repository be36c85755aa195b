//! What an expert does with a query: the `Task` trait, its kinds, and the words they share. No protobuf here (that is
//! `server.rs`), no lifecycle (that is `service.rs`).

mod answer;
mod classify;
mod embed;
mod encoder;
mod retrieve;
#[cfg(test)]
mod scripted;
mod tensors;

use std::{fmt, sync::Arc, time::Duration};

use consilium_engine::Manifest;
use futures::stream::BoxStream;
use tokio::time::Instant;

pub use answer::{Answer, Body, Confidence, Head, Label, Passage, Source, Vector};
pub(crate) use encoder::Encoder;
#[cfg(test)]
pub(crate) use scripted::Scripted;

use crate::{Error, TaskConfig, TaskKind, Unserved, knowledge::Knowledge, metrics::Tally, models::Models};

/// What an expert does with a query.
pub trait Task: fmt::Debug + Send + Sync {
    /// Pieces as they come; [`Delta::Done`] is the last and always there unless an error ends the stream.
    /// Dropping the stream abandons the work.
    fn answer(self: Arc<Self>, query: Query, context: Context) -> BoxStream<'static, Result<Delta, Failure>>;

    /// What it answers from besides its model; `None` for tasks that know nothing else.
    fn knowledge(&self) -> Option<&Arc<Knowledge>> {
        None
    }
}

/// A query as tasks see it. Its `Debug` says how large it is, never what it asks.
#[derive(Clone, Default)]
pub struct Query {
    pub text: String,
    /// The gate's vector of `text`. Tasks on another encoder ignore it.
    pub vector: Option<Vector>,
    pub tensors: Vec<consilium_engine::Tensor>,
}

/// What a task knows about the call.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Nobody waits for the answer after this.
    pub deadline: Instant,
}

/// A piece of an answer as it is made.
#[derive(Debug)]
pub enum Delta {
    Text(String),
    Done(Answer, Timings),
}

/// Where the time of an answer went; zero where nothing ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    pub tokenize: Duration,
    pub queue: Duration,
    pub inference: Duration,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Engine(#[from] consilium_engine::Error),
    #[error(transparent)]
    Unserved(#[from] Unserved),
    /// The model ran, but what came out is no answer.
    #[error("the model's output {output} {problem}")]
    Output { output: String, problem: &'static str },
}

/// The task that `config` describes, over its models. `Err` when the model is not one for this kind of task or the
/// knowledge cannot be read.
pub(crate) async fn build(
    config: &TaskConfig,
    models: &Arc<Models>,
    tally: &Arc<Tally>,
) -> Result<Arc<dyn Task>, Error> {
    let engine = || Ok(models.get(None, "").map_err(Error::Task)?.engine.clone());
    Ok(match config {
        TaskConfig::Embed { .. } => Arc::new(embed::Embed::new(engine()?)?),
        TaskConfig::Classify { .. } => Arc::new(classify::Classify::new(engine()?)?),
        TaskConfig::Retrieve { knowledge, top, .. } => {
            Arc::new(retrieve::Retrieve::open(engine()?, knowledge, *top, tally).await?)
        }
        TaskConfig::Tensors { .. } => Arc::new(tensors::Tensors::new(Arc::clone(models))),
    })
}

impl TaskKind {
    /// Whether a model can do this, as far as its manifest tells.
    ///
    /// # Errors
    /// What is wrong with it, such as `names no labels in its manifest`.
    pub fn fits(self, manifest: &Manifest) -> Result<(), &'static str> {
        match self {
            TaskKind::Embed | TaskKind::Retrieve => manifest.embedding().map(drop),
            TaskKind::Classify => classify::heads(manifest).map(drop),
            TaskKind::Tensors => Ok(()),
        }
    }
}

impl Failure {
    fn output(output: &str, problem: &'static str) -> Failure {
        Failure::Output { output: output.to_owned(), problem }
    }
}

impl From<consilium_engine::Timings> for Timings {
    fn from(timings: consilium_engine::Timings) -> Timings {
        Timings { tokenize: timings.tokenize, queue: timings.queue, inference: timings.inference }
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query([redacted, {} bytes of text, {} tensors])", self.text.len(), self.tensors.len())
    }
}
