//! What engines measure, with names, label keys and meanings. A model's numbers are on the page as long as an engine of
//! its name is loaded.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
    time::Duration,
};

use consilium_metrics::{Amounts, Counts, Described, Page, Part, STEP_SECONDS, Sheet, Unit};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
};
use tracing::Span;

use crate::{
    batch::Shape,
    error::Error,
    queue::{Load, Queue},
};

const MODEL: &[&str] = &["model"];

const QUEUE_REQUESTS: Described =
    Described::gauge("consilium_engine_queue_requests", MODEL, "Requests that wait for a model");
const QUEUE_UNITS: Described = Described::gauge(
    "consilium_engine_queue_units",
    MODEL,
    "Work that waits for a model: tokens of texts, rows of tensors",
);
const RUNNING_REQUESTS: Described =
    Described::gauge("consilium_engine_running_requests", MODEL, "Requests that a model is running");
const QUEUE_DURATION: Described =
    Described::histogram("consilium_engine_queue_duration", MODEL, "Time that requests waited until a batch took them")
        .of(Unit::Seconds);
const TOKENIZE_DURATION: Described = Described::histogram(
    "consilium_engine_tokenize_duration",
    MODEL,
    "Time from the submission of a text until its token ids were there",
)
.of(Unit::Seconds);
const INFERENCE_DURATION: Described = Described::histogram(
    "consilium_engine_inference_duration",
    MODEL,
    "Duration of runs of a model, each of one batch",
)
.of(Unit::Seconds);
const BATCH_REQUESTS: Described =
    Described::histogram("consilium_engine_batch_requests", MODEL, "Requests that ran together in a batch");
const PADDED_RATIO: Described =
    Described::histogram("consilium_engine_padded_ratio", MODEL, "Share of a batch that is padding");
const REQUESTS: Described = Described::counter(
    "consilium_engine_requests",
    &["model", "outcome"],
    "Requests by how they ended: answered, refused because the queue was full, too late, abandoned by the caller, \
     failed, invalid, or closed with the engine",
);

/// Everything that this crate measures.
pub const METRICS: &[&Described] = &[
    &REQUESTS,
    &QUEUE_REQUESTS,
    &QUEUE_UNITS,
    &RUNNING_REQUESTS,
    &QUEUE_DURATION,
    &TOKENIZE_DURATION,
    &INFERENCE_DURATION,
    &BATCH_REQUESTS,
    &PADDED_RATIO,
];

/// Batches are small: their bound is in tokens or rows.
const BATCH_SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
/// Up to what the batcher allows.
const PADDED: &[f64] = &[0.0, 0.05, 0.1, 0.15, 0.2, 0.25];

/// What the engines of a page count together.
#[derive(Clone, Debug)]
struct EngineMetrics {
    requests: Counts<RequestLabels>,
    queue: Amounts<ModelLabels>,
    tokenize: Amounts<ModelLabels>,
    inference: Amounts<ModelLabels>,
    batch_requests: Amounts<ModelLabels>,
    padded: Amounts<ModelLabels>,
    loaded: Loaded,
}

/// The queues of loaded engines by the model's name, of which several versions may be loaded at once.
#[derive(Clone, Debug, Default)]
struct Loaded(Arc<Mutex<Queues>>);

type Queues = BTreeMap<Arc<str>, Vec<Weak<Queue>>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    model: Arc<str>,
    outcome: &'static str,
}

/// What one engine counts under its model's name, until it is closed.
pub(crate) struct Tally {
    metrics: EngineMetrics,
    model: ModelLabels,
    queue: Weak<Queue>,
    /// Callers may hold an engine longer than its store does. What they count after closing would bring back series that
    /// nobody forgets any more.
    open: RwLock<bool>,
}

impl Tally {
    /// Shows the queue on the page.
    pub(crate) fn new(page: &Page, model: &str, queue: &Arc<Queue>) -> Self {
        let metrics: EngineMetrics = page.part();
        let model = ModelLabels { model: model.into() };
        let queue = Arc::downgrade(queue);
        metrics.loaded.lock().entry(Arc::clone(&model.model)).or_default().push(Weak::clone(&queue));
        Self { metrics, model, queue, open: RwLock::new(true) }
    }

    /// Counts a request by how `answering` ends, whatever ends it.
    pub(crate) async fn request<T>(&self, answering: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut request = Request { tally: self, outcome: "abandoned" };
        let answer = answering.await;
        request.outcome = outcome(&answer);
        answer
    }

    pub(crate) fn tokenized(&self, took: Duration) {
        self.while_open(|| self.metrics.tokenize.observe(&self.model, took.as_secs_f64(), &Span::none()));
    }

    /// `request` is the span of who waited.
    pub(crate) fn queued(&self, waited: Duration, request: &Span) {
        self.while_open(|| self.metrics.queue.observe(&self.model, waited.as_secs_f64(), request));
    }

    /// A batch has run to its end; `span` is the batch's.
    pub(crate) fn ran(&self, shape: Shape, took: Duration, span: &Span) {
        self.while_open(|| {
            let (metrics, none) = (&self.metrics, Span::none());
            metrics.inference.observe(&self.model, took.as_secs_f64(), span);
            metrics.batch_requests.observe(&self.model, shape.requests as f64, &none);
            metrics.padded.observe(&self.model, shape.padded_ratio, &none);
        });
    }

    /// Counts nothing more. With the last engine of its name the model leaves the page.
    pub(crate) fn close(&self) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = false;
        // Held until all is forgotten, so that an engine of the same name that is about to start counts afterwards.
        let mut loaded = self.metrics.loaded.lock();
        let Some(queues) = loaded.get_mut(&self.model.model) else { return };
        queues.retain(|queue| !queue.ptr_eq(&self.queue));
        if queues.is_empty() {
            loaded.remove(&self.model.model);
            self.metrics.forget(&self.model);
        }
    }

    fn while_open(&self, count: impl FnOnce()) {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if *open {
            count();
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.close();
    }
}

/// A request on its way. Dropping it counts it.
struct Request<'m> {
    tally: &'m Tally,
    outcome: &'static str,
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let Tally { metrics, model, .. } = self.tally;
        let labels = RequestLabels { model: Arc::clone(&model.model), outcome: self.outcome };
        self.tally.while_open(|| metrics.requests.add(&labels, 1));
    }
}

/// Every outcome that [`outcome`] gives, and that of a request whose future was dropped.
const OUTCOMES: [&str; 7] = ["answered", "queue_full", "deadline_exceeded", "abandoned", "failed", "invalid", "closed"];

fn outcome<T>(answer: &Result<T, Error>) -> &'static str {
    match answer {
        Ok(_) => "answered",
        Err(Error::QueueFull { .. }) => "queue_full",
        Err(Error::DeadlineExceeded) => "deadline_exceeded",
        Err(Error::Invalid { .. }) => "invalid",
        Err(Error::Closed) => "closed",
        Err(Error::Failed { .. } | Error::Runtime { .. } | Error::Manifest { .. } | Error::Model { .. }) => "failed",
    }
}

impl Default for EngineMetrics {
    fn default() -> Self {
        Self {
            requests: Counts::default(),
            queue: Amounts::new(STEP_SECONDS),
            tokenize: Amounts::new(STEP_SECONDS),
            inference: Amounts::new(STEP_SECONDS),
            batch_requests: Amounts::new(BATCH_SIZES),
            padded: Amounts::new(PADDED),
            loaded: Loaded::default(),
        }
    }
}

impl Part for EngineMetrics {
    fn register(&self, sheet: &mut Sheet<'_>) {
        sheet.counts(&REQUESTS, &self.requests);
        sheet.amounts(&QUEUE_DURATION, &self.queue);
        sheet.amounts(&TOKENIZE_DURATION, &self.tokenize);
        sheet.amounts(&INFERENCE_DURATION, &self.inference);
        sheet.amounts(&BATCH_REQUESTS, &self.batch_requests);
        sheet.amounts(&PADDED_RATIO, &self.padded);
        sheet.collect(self.loaded.clone());
    }
}

impl EngineMetrics {
    fn forget(&self, model: &ModelLabels) {
        for outcome in OUTCOMES {
            self.requests.forget(&RequestLabels { model: Arc::clone(&model.model), outcome });
        }
        for amounts in [&self.queue, &self.tokenize, &self.inference, &self.batch_requests, &self.padded] {
            amounts.forget(model);
        }
    }
}

impl Loaded {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of each model, all its engines together.
    fn loads(&self) -> Vec<(ModelLabels, Load)> {
        let sum = |sum: Load, load: Load| Load {
            waiting_units: sum.waiting_units + load.waiting_units,
            waiting_entries: sum.waiting_entries + load.waiting_entries,
            waiting_bytes: sum.waiting_bytes + load.waiting_bytes,
            running_units: sum.running_units + load.running_units,
            running_entries: sum.running_entries + load.running_entries,
        };
        self.lock()
            .iter()
            .filter_map(|(model, queues)| {
                let load = queues.iter().filter_map(Weak::upgrade).map(|queue| queue.load()).reduce(sum)?;
                Some((ModelLabels { model: Arc::clone(model) }, load))
            })
            .collect()
    }
}

impl Collector for Loaded {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        type Gauge<'d> = (&'d Described, fn(&Load) -> usize);
        let loads = self.loads();
        let gauges: [Gauge<'_>; 3] = [
            (&QUEUE_REQUESTS, |load| load.waiting_entries),
            (&QUEUE_UNITS, |load| load.waiting_units),
            (&RUNNING_REQUESTS, |load| load.running_entries),
        ];
        for (described, of) in gauges {
            let mut gauge = described.encode(&mut encoder)?;
            for (labels, load) in &loads {
                gauge.encode_family(labels)?.encode_gauge(&i64::try_from(of(load)).unwrap_or(i64::MAX))?;
            }
        }
        Ok(())
    }
}
