//! One loaded model that answers: what callers hold, and the threads behind it.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cores::Cores;
use crate::cost::CostTable;
use crate::error::Error;
use crate::executor::Executor;
use crate::manifest::Manifest;
use crate::metrics::Tally;
use crate::queue::{Bounds, Entry, Input, Load, Queue, Ran, Slot, Ticket};
use crate::request;
use crate::session::Session;
use crate::spans::Trail;
use crate::statistics::{Runs, Statistics};
use crate::threads::Threads;
use crate::token_table::TokenTable;
use crate::tokenize::{Reading, Tokenizer, TokenizerPool};
use crate::windows;
use consilium_metrics::Page;
use consilium_tensor::Tensor;

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
    /// Bytes of raw tensors that may wait, where each element of a BYTES tensor counts as 100 more than it has: that is
    /// what strings cost in memory. Default 256 MiB.
    pub queue_bytes: usize,
    /// Bytes of raw tensors in one batch of several requests, counted as in `queue_bytes`. Default 32 MiB.
    pub batch_bytes: usize,
    /// Sessions that run side by side, at most one per core. Default: see [`crate::Store::load`].
    pub executors: Option<NonZeroUsize>,
}

/// Batches' worth of tokens in one raw request to a text model.
const MOST_BATCHES: usize = 16;

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            queue_tokens: 65_536,
            batch_tokens: 256,
            queue_rows: 4096,
            batch_rows: 32,
            queue_bytes: 256 << 20,
            batch_bytes: 32 << 20,
            executors: None,
        }
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
    joins: bool,
    runs: Arc<Runs>,
    tally: Arc<Tally>,
    closing: AtomicBool,
    queue: Arc<Queue>,
    tokenizers: Option<TokenizerPool>,
    tokens: Option<TokenTable>,
    executors: Threads,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) manifest: Manifest,
    pub(crate) digest: String,
    /// There if the manifest has one.
    pub(crate) tokenizer: Option<Tokenizer>,
    /// There if the manifest has one.
    pub(crate) tokens: Option<TokenTable>,
    pub(crate) sessions: Vec<Box<dyn Session>>,
    /// Threads of each session.
    pub(crate) threads: usize,
    pub(crate) cores: Arc<Cores>,
    pub(crate) cost: CostTable,
    pub(crate) bounds: Bounds,
    /// Requests of raw tensors may run together.
    pub(crate) joins: bool,
    /// Where it counts.
    pub(crate) metrics: Page,
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
        self.0.tally.request(self.answer_text(text, call)).await
    }

    /// Answers a text of any length: what [`Engine::text`] answers, as long as the text fits the model's longest sequence.
    /// A longer one is read in windows of at most that length, eight at most, which run as requests of their own: all of
    /// it where they suffice, otherwise its beginning, its end and places spread evenly between, and `truncated` says that
    /// some was left out.
    ///
    /// Each output is then the mean of the windows' rows, weighted by their tokens: of unit vectors a shorter one, which the
    /// caller scales where length matters. `tokens` are those of all windows, `timings` those of the window that took
    /// longest.
    ///
    /// `Err` as [`Engine::text`], of whichever window it is, and `Err(Failed)` if the rows of an output are as long as
    /// their text.
    pub async fn whole_text(&self, text: &str, call: Call) -> Result<TextOutput, Error> {
        self.0.tally.request(self.answer_whole(text, call)).await
    }

    /// The vector of a text from the model's table of token vectors: as long as the manifest's `tokens.columns`, of unit
    /// length, and comparable with others of the same model's table only, never with the model's outputs. The model does
    /// not run and nothing waits: 3 µs for a question of eleven tokens.
    ///
    /// `None` where the model has no table, where no token of the text means anything to it, and for texts above 4 KiB: half
    /// of such a text would be no sound basis, and all of it too long to hold up an async caller.
    pub fn static_vector(&self, text: &str) -> Option<Vec<f32>> {
        self.0.tokens.as_ref()?.read(text, self.0.tokenizers.as_ref()?.tokenizer())
    }

    /// Whether the model's vocabulary has a word, letters only, as one token: in lower case, where the model makes no
    /// difference. At once; 10 µs at most.
    ///
    /// `None` where the model takes no text, and where its vocabulary is not one of words (WordPiece).
    pub fn has_word(&self, word: &str) -> Option<bool> {
        self.0.tokenizers.as_ref()?.tokenizer().has_word(word)
    }

    /// Runs the model on raw tensors; a text model on its token ids. The inputs may come in any order.
    ///
    /// `Err(Invalid)` names the input and what is wrong with it; otherwise as [`Engine::text`].
    pub async fn tensors(&self, inputs: Vec<Tensor>, call: Call) -> Result<TensorOutput, Error> {
        self.0.tally.request(self.answer_tensors(inputs, call)).await
    }

    async fn answer_text(&self, text: &str, call: Call) -> Result<TextOutput, Error> {
        let ticket = self.submit(text, Reading::Head, call)?;
        self.rows(&ticket.answer().await?)
    }

    async fn answer_whole(&self, text: &str, call: Call) -> Result<TextOutput, Error> {
        let (send, others) = oneshot::channel();
        let first = self.submit(text, Reading::Windows(send), call)?;
        let mut answers = vec![self.rows(&first.answer().await?)?];
        // None where one window was enough; they were sent before the first was queued.
        for other in others.await.unwrap_or_default() {
            answers.push(self.rows(&other.answer().await?)?);
        }
        windows::mean(answers)
    }

    fn submit(&self, text: &str, reading: Reading, call: Call) -> Result<Ticket, Error> {
        let Some(tokenizers) = &self.0.tokenizers else {
            return Err(Error::invalid("text", "this model takes tensors"));
        };
        let (slot, ticket) = self.enter(call, 1, 0)?;
        tokenizers.submit(text, reading, slot, &self.0.queue);
        Ok(ticket)
    }

    /// What came out of one window.
    fn rows(&self, ran: &Ran) -> Result<TextOutput, Error> {
        let rows = self.0.output_names.iter().zip(&ran.outputs).map(|(name, tensor)| {
            let values = tensor.to_fp32().ok_or_else(|| Error::failed(format!("output `{name}` is not FP32")))?;
            Ok(Output { name: Arc::clone(name), values })
        });
        let outputs = rows.collect::<Result<_, Error>>()?;
        Ok(TextOutput { outputs, tokens: ran.units, truncated: ran.tokenizing.truncated, timings: timings(ran) })
    }

    async fn answer_tensors(&self, inputs: Vec<Tensor>, call: Call) -> Result<TensorOutput, Error> {
        let (tensors, extent) = request::check(inputs, &self.0.manifest, self.0.joins)?;
        self.check_size(extent.units())?;
        let (slot, ticket) = self.enter(call, extent.units(), extent.bytes)?;
        self.0.queue.push(Entry::new(Input::Tensors(tensors), extent, slot));
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

    /// The identity of the model: the lower-case hex SHA-256 of its manifest; of a bare directory that of the list of its
    /// files, each with size and SHA-256.
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

    /// Whether requests of raw tensors run together. Of kind `tensors` warm-up decides: made-up rows must come out the same
    /// together as alone (floats but for 1e-4 of themselves and 1e-5 of the largest in their place of a row, halves and
    /// bf16 for 2e-2 and 1e-2), and every output must tell some of them apart. A request that gives an optional input runs
    /// alone.
    pub fn joins(&self) -> bool {
        self.0.joins
    }

    /// The runs so far, warm-up not counted.
    pub fn statistics(&self) -> Statistics {
        self.0.runs.so_far()
    }

    /// Starts the threads.
    pub(crate) fn start(parts: Parts) -> Result<Self, Error> {
        let manifest = Arc::new(parts.manifest);
        let no_thread = |error| Error::Model {
            name: manifest.name.clone(),
            problem: "cannot start a thread".to_owned(),
            source: Some(Box::new(error)),
        };
        let queue = Queue::new(parts.bounds, parts.cost);
        let tally = Arc::new(Tally::new(&parts.metrics, &manifest.name, &queue));
        // A sentence of 15 tokens takes 0.2 ms to tokenize and 6.5 ms to encode, so one thread serves several executors.
        let workers = parts.sessions.len().div_ceil(4);
        let tokenizers = parts.tokenizer.map(|tokenizer| TokenizerPool::start(tokenizer, workers, &queue, &tally));
        let inner = Inner {
            digest: parts.digest,
            output_names: manifest.outputs.iter().map(|output| output.name.as_str().into()).collect(),
            joins: parts.joins,
            runs: Arc::default(),
            tally,
            closing: AtomicBool::new(false),
            tokenizers: tokenizers.transpose().map_err(no_thread)?,
            tokens: parts.tokens,
            executors: Threads::default(),
            queue,
            manifest: Arc::clone(&manifest),
        };
        for (at, session) in parts.sessions.into_iter().enumerate() {
            let queue = Arc::clone(&inner.queue);
            let manifest = Arc::clone(&inner.manifest);
            let (cores, runs) = (Arc::clone(&parts.cores), Arc::clone(&inner.runs));
            let tally = Arc::clone(&inner.tally);
            let executor = Executor { session, manifest, cores, threads: parts.threads, runs, tally };
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

    /// Whether both are one engine.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn enter(&self, call: Call, units: usize, bytes: usize) -> Result<(Slot, Ticket), Error> {
        if self.0.closing.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        if call.deadline <= Instant::now() {
            return Err(Error::DeadlineExceeded);
        }
        self.0.queue.check_room(units, bytes)?;
        Ok(self.0.queue.open_slot(call.deadline, Trail::of_caller()))
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
        self.tally.close();
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use serde_json::json;

    use super::*;
    use crate::cost::Unit;
    use crate::session::{RunError, Stop};

    /// Says when it runs, waits for a word, answers nothing.
    struct Waiting {
        began: mpsc::Sender<()>,
        go: mpsc::Receiver<()>,
        _alive: Arc<()>,
    }

    impl Session for Waiting {
        fn run(&mut self, _inputs: &[Tensor], _stop: &Stop) -> Result<Vec<Tensor>, RunError> {
            self.began.send(()).unwrap();
            self.go.recv().unwrap();
            Ok(Vec::new())
        }
    }

    fn parts(session: Waiting, metrics: &Page) -> Parts {
        let manifest = json!({
            "schema": 1, "name": "m", "version": "1", "kind": "tensors", "model": "f",
            "files": [{"path": "f", "size": 1, "sha256": "a".repeat(64)}],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
            "licence": "Apache-2.0", "source": "made for tests",
        });
        Parts {
            manifest: Manifest::parse(manifest.to_string().as_bytes()).unwrap(),
            digest: String::new(),
            tokenizer: None,
            tokens: None,
            sessions: vec![Box::new(session)],
            threads: 1,
            cores: Arc::new(Cores::new(NonZeroUsize::MIN)),
            cost: CostTable { unit: Unit::Rows, points: vec![], executors: 1, batch_units: 1 },
            bounds: Bounds { units: 100, bytes: 100, batch_bytes: 100 },
            joins: false,
            metrics: metrics.clone(),
        }
    }

    #[tokio::test]
    async fn closing_finishes_what_waits_and_frees_the_session_whoever_still_holds_the_engine() {
        let ((began, has_begun), (tell, go), alive) = (mpsc::channel(), mpsc::channel(), Arc::new(()));
        let session = Waiting { began, go, _alive: Arc::clone(&alive) };
        let session_is_there = Arc::downgrade(&alive);
        drop(alive);
        let page = Page::new();
        let engine = Engine::start(parts(session, &page)).unwrap();
        let ask = |engine: &Engine| {
            let engine = engine.clone();
            let call = Call { deadline: Instant::now() + Duration::from_mins(1) };
            async move { engine.tensors(vec![Tensor::fp32("x", vec![1], &[1.0])], call).await }
        };
        let mut accepted = tokio::task::JoinSet::new();
        for _ in 0..3 {
            accepted.spawn(ask(&engine));
        }
        tokio::task::yield_now().await;
        has_begun.recv().unwrap();

        engine.refuse();
        let closing = engine.clone();
        let closing = tokio::task::spawn_blocking(move || closing.close());
        assert!(matches!(ask(&engine).await, Err(Error::Closed)));
        assert!(page.encode().contains(r#"consilium_engine_requests_total{model="m",outcome="closed"} 1"#));
        assert!(session_is_there.upgrade().is_some());
        (0..3).for_each(|_| tell.send(()).unwrap());
        closing.await.unwrap();
        assert!(session_is_there.upgrade().is_none(), "the session outlives its threads");
        assert!(accepted.join_all().await.iter().all(Result::is_ok));
        assert_eq!(engine.statistics().batches[0].count, 3);
        assert!(matches!(ask(&engine).await, Err(Error::Closed)));
        assert!(!page.encode().contains(r#"model="m""#), "a closed engine is on the page: {}", page.encode());
    }
}
