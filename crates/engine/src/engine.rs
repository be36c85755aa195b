//! One loaded model that answers: what callers hold, and the threads behind it.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::cores::Cores;
use crate::cost::CostTable;
use crate::error::Error;
use crate::executor::Executor;
use crate::manifest::Manifest;
use crate::queue::{Entry, Input, Load, Queue, Ran, Slot, Ticket};
use crate::request;
use crate::session::Session;
use crate::tensor::Tensor;
use crate::threads::Threads;
use crate::tokenize::{Tokenizer, TokenizerPool};

/// How an engine queues and batches. Tokens bound models of kind `text`, rows those of kind `tensors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Tokens that may wait. Default 65,536: half a minute of work for a small encoder on one core, longer than any
    /// deadline. It bounds memory; waiting is bounded by deadlines.
    pub queue_tokens: usize,
    /// Padded tokens in one batch. Default 256: whoever comes next waits for all of it (0.1 to 0.2 s on two cores with a
    /// small encoder), and a CPU gains little throughput from larger ones.
    pub batch_tokens: usize,
    /// Rows that may wait. Default 4,096.
    pub queue_rows: usize,
    /// Rows in one batch. Default 32.
    pub batch_rows: usize,
    /// Sessions that run side by side, at most one per core. Default: see [`crate::Store::load`].
    pub executors: Option<NonZeroUsize>,
}

/// Batches' worth of tokens in one raw request to a text model.
const MOST_BATCHES: usize = 16;

impl Default for EngineOptions {
    fn default() -> Self {
        Self { queue_tokens: 65_536, batch_tokens: 256, queue_rows: 4096, batch_rows: 32, executors: None }
    }
}

/// What every request must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// When the answer is of no use any more.
    pub deadline: Instant,
}

/// The answer to a text.
#[derive(Clone)]
pub struct TextOutput {
    /// One row for each of the model's outputs, in the manifest's order.
    pub outputs: Vec<Output>,
    /// Tokens that the model saw, special tokens included.
    pub tokens: usize,
    /// The text was longer than the model's longest sequence; the end of it was not seen.
    pub truncated: bool,
    /// Where the time went.
    pub timings: Timings,
}

/// One row of one output.
#[derive(Clone, PartialEq)]
pub struct Output {
    /// The output's name in the manifest.
    pub name: Arc<str>,
    /// As many as the product of the output's dimensions after the first.
    pub values: Vec<f32>,
}

/// The answer to raw tensors.
#[derive(Debug, Clone)]
pub struct TensorOutput {
    /// In the manifest's order.
    pub tensors: Vec<Tensor>,
    /// Where the time went.
    pub timings: Timings,
}

/// Where the time of one request went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the call until the token ids were there. Zero for tensors.
    pub tokenize: Duration,
    /// In the queue.
    pub queue: Duration,
    /// In the model, together with the rest of the batch.
    pub inference: Duration,
    /// Requests in that batch, this one included.
    pub batch: usize,
}

impl fmt::Debug for TextOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextOutput")
            .field("outputs", &self.outputs)
            .field("tokens", &self.tokens)
            .field("truncated", &self.truncated)
            .field("timings", &self.timings)
            .finish()
    }
}

impl fmt::Debug for Output {
    /// Name and length: an embedding gives away most of its text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("name", &self.name).field("values", &self.values.len()).finish()
    }
}

/// A loaded model. Cheap to clone; every clone is the same engine.
///
/// Dropping a future of [`Engine::text`] or [`Engine::tensors`] abandons the request: it leaves the queue at once, and
/// a batch that runs for nobody is stopped. Dropping the last clone of an engine whose store is gone waits for its
/// threads; [`crate::Store::close`] does that without blocking.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    manifest: Arc<Manifest>,
    digest: String,
    output_names: Vec<Arc<str>>,
    closing: AtomicBool,
    queue: Arc<Queue>,
    tokenizers: Option<TokenizerPool>,
    executors: Threads,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) manifest: Manifest,
    pub(crate) digest: String,
    /// There if the manifest has one.
    pub(crate) tokenizer: Option<Tokenizer>,
    pub(crate) sessions: Vec<Box<dyn Session>>,
    /// Threads of each session.
    pub(crate) threads: usize,
    pub(crate) cores: Arc<Cores>,
    pub(crate) cost: CostTable,
    /// In the unit of `cost`.
    pub(crate) max_waiting: usize,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Manifest { name, version, .. } = &*self.0.manifest;
        f.debug_struct("Engine").field("name", name).field("version", version).finish_non_exhaustive()
    }
}

impl Engine {
    /// Answers a text: one row for each output.
    ///
    /// Text beyond the model's longest sequence is left out and `truncated` says so. The empty text is a text.
    ///
    /// `Err(Invalid)` if the model takes tensors or the text cannot be tokenized; `Err(QueueFull)`,
    /// `Err(DeadlineExceeded)` and `Err(Closed)` without having run; `Err(Failed)` if the run failed.
    pub async fn text(&self, text: &str, call: Call) -> Result<TextOutput, Error> {
        let Some(tokenizers) = &self.0.tokenizers else {
            return Err(Error::invalid("text", "this model takes tensors"));
        };
        let (slot, ticket) = self.enter(call, 1)?;
        tokenizers.submit(text, slot, &self.0.queue);
        let ran = ticket.answer().await?;
        let timings = timings(&ran);
        let rows = self.0.output_names.iter().zip(&ran.outputs).map(|(name, tensor)| {
            let values = tensor.to_fp32().ok_or_else(|| Error::failed(format!("output `{name}` is not FP32")))?;
            Ok(Output { name: Arc::clone(name), values })
        });
        let outputs = rows.collect::<Result<_, Error>>()?;
        Ok(TextOutput { outputs, tokens: ran.units, truncated: ran.tokenizing.truncated, timings })
    }

    /// Runs the model on raw tensors; a text model on its token ids. The inputs may come in any order.
    ///
    /// `Err(Invalid)` names the input and what is wrong with it; otherwise as [`Engine::text`].
    pub async fn tensors(&self, inputs: Vec<Tensor>, call: Call) -> Result<TensorOutput, Error> {
        let (tensors, extent) = request::check(inputs, &self.0.manifest)?;
        self.check_size(extent.units())?;
        let (slot, ticket) = self.enter(call, extent.units())?;
        self.0.queue.push(Entry { input: Input::Tensors(tensors), extent, since: Instant::now(), slot });
        let ran = ticket.answer().await?;
        Ok(TensorOutput { timings: timings(&ran), tensors: ran.outputs })
    }

    /// A request is run whole. One far beyond what a batch may be would hold the executor, and memory that is never
    /// given back, for all who come after.
    fn check_size(&self, units: usize) -> Result<(), Error> {
        let most = MOST_BATCHES * self.cost().batch_units;
        if self.0.manifest.tokenizer.is_some() && units > most {
            let problem = format!("{units} tokens in one request; expected at most {most}");
            return Err(Error::invalid("inputs", problem));
        }
        Ok(())
    }

    /// What the model says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// Lower-case hex SHA-256 of the manifest: the identity of the model.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// What a run costs, measured by warm-up.
    pub fn cost(&self) -> &CostTable {
        self.0.queue.cost()
    }

    /// What waits and what runs at this moment.
    pub fn load(&self) -> Load {
        self.0.queue.load()
    }

    /// Starts the threads.
    pub(crate) fn start(parts: Parts) -> Result<Self, Error> {
        let manifest = Arc::new(parts.manifest);
        let no_thread = |error| Error::Model {
            name: manifest.name.clone(),
            problem: "cannot start a thread".to_owned(),
            source: Some(Box::new(error)),
        };
        let queue = Queue::new(parts.max_waiting, parts.cost);
        // A sentence of 15 tokens takes 0.2 ms to tokenize and 6.5 ms to encode, so one thread serves several executors.
        let workers = parts.sessions.len().div_ceil(4);
        let tokenizers = parts.tokenizer.map(|tokenizer| TokenizerPool::start(tokenizer, workers, &queue));
        let inner = Inner {
            digest: parts.digest,
            output_names: manifest.outputs.iter().map(|output| output.name.as_str().into()).collect(),
            closing: AtomicBool::new(false),
            tokenizers: tokenizers.transpose().map_err(no_thread)?,
            executors: Threads::default(),
            queue,
            manifest: Arc::clone(&manifest),
        };
        for (at, session) in parts.sessions.into_iter().enumerate() {
            let queue = Arc::clone(&inner.queue);
            let manifest = Arc::clone(&inner.manifest);
            let executor = Executor { session, manifest, cores: Arc::clone(&parts.cores), threads: parts.threads };
            inner.executors.start(format!("execute-{at}"), move || executor.work(&queue)).map_err(no_thread)?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Refuses what comes from now on.
    pub(crate) fn refuse(&self) {
        self.0.closing.store(true, Ordering::Release);
    }

    /// Refuses what comes, finishes what is there, waits for the threads. Blocks.
    pub(crate) fn close(&self) {
        self.0.close();
    }

    fn enter(&self, call: Call, units: usize) -> Result<(Slot, Ticket), Error> {
        if self.0.closing.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        if call.deadline <= Instant::now() {
            return Err(Error::DeadlineExceeded);
        }
        self.0.queue.check_room(units)?;
        Ok(self.0.queue.open_slot(call.deadline))
    }
}

impl Inner {
    /// Upstream first, so that nothing that was accepted meets a closed door further down.
    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        if let Some(tokenizers) = &self.tokenizers {
            tokenizers.close();
        }
        self.queue.close();
        self.executors.join();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn timings(ran: &Ran) -> Timings {
    Timings { tokenize: ran.tokenizing.took, queue: ran.waited, inference: ran.took, batch: ran.batch }
}
