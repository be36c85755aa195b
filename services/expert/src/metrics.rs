//! What experts measure, with names, label keys and meanings. An expert's numbers are on the page as long as an instance of
//! it lives in the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use consilium_mesh::metrics::{Metrics, code_name};
use consilium_metrics::{Amounts, Counts, Described, OBJECTIVE_SECONDS, Part, Sheet, Unit};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
};
use tonic::Code;
use tracing::Span;

use crate::server::{Identity, Ready};

const MODEL: Described = Described::gauge(
    "consilium_expert_model",
    &["expert", "version", "model", "model_version"],
    "1 for each model that an expert has loaded: what the metrics of engines are joined with",
);
const ANSWER_DURATION: Described = Described::histogram(
    "consilium_expert_answer_duration",
    &["expert", "rpc_response_status_code"],
    "Time from a query to the end of its answer, or to whatever came instead; of an Open Inference Protocol request each \
     text counts, and a run of raw tensors",
)
.of(Unit::Seconds);
const VECTORS: Described = Described::counter(
    "consilium_expert_vectors",
    &["expert", "source"],
    "Vectors that knowledge was searched by: brought along by the router, or made by the expert's own model",
);
const PASSAGES: Described =
    Described::gauge("consilium_expert_knowledge_passages", &["expert"], "Passages of the knowledge that answers now");
const AGE: Described = Described::gauge(
    "consilium_expert_knowledge_age",
    &["expert"],
    "Time since the file of the knowledge that answers now was written",
)
.of(Unit::Seconds);
const RELOADS: Described = Described::counter(
    "consilium_expert_knowledge_reloads",
    &["expert", "result"],
    "Times that the knowledge was read again: ok, or failed, when the old state goes on answering",
);

const EXAMPLES_RELOADS: Described = Described::counter(
    "consilium_expert_examples_reloads",
    &["expert", "result"],
    "Times that the examples were read again: ok, when routers learn them, or failed, when the card stays as it is",
);

/// Everything that this crate measures.
pub const METRICS: &[&Described] = &[&MODEL, &ANSWER_DURATION, &VECTORS, &PASSAGES, &AGE, &RELOADS, &EXAMPLES_RELOADS];

/// Who made the vector that knowledge is searched by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum VectorSource {
    Router,
    Model,
}

/// What the experts of a page count together.
#[derive(Clone, Debug)]
struct ExpertMetrics {
    answers: Amounts<AnswerLabels>,
    vectors: Counts<VectorLabels>,
    reloads: Counts<ReloadLabels>,
    examples_reloads: Counts<ReloadLabels>,
    living: Living,
}

/// Every instance that there is in the process.
#[derive(Clone, Debug, Default)]
struct Living(Arc<Mutex<Vec<Weak<Tally>>>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    expert: Arc<str>,
    rpc_response_status_code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VectorLabels {
    expert: Arc<str>,
    source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    expert: Arc<str>,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct ModelLabels {
    expert: Arc<str>,
    version: Arc<str>,
    model: String,
    model_version: String,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct ExpertLabels {
    expert: Arc<str>,
}

/// What one instance counts. When the last one of an expert is dropped, the expert leaves the page.
#[derive(Debug)]
pub(crate) struct Tally {
    metrics: ExpertMetrics,
    expert: Arc<str>,
    version: Arc<str>,
    /// Weak, because what is ready counts here.
    ready: Weak<OnceLock<Ready>>,
}

impl Tally {
    /// Shows the instance on the page, with what it serves from once it is ready.
    pub(crate) fn new(page: &Metrics, identity: &Identity, ready: &Arc<OnceLock<Ready>>) -> Arc<Tally> {
        let metrics: ExpertMetrics = page.part();
        let living = metrics.living.clone();
        let tally = Arc::new(Tally {
            metrics,
            expert: identity.expert.as_str().into(),
            version: identity.version.as_str().into(),
            ready: Arc::downgrade(ready),
        });
        living.lock().push(Arc::downgrade(&tally));
        tally
    }

    /// A query has got what it gets; `span` is the answer's.
    pub(crate) fn answered(&self, code: Code, took: Duration, span: &Span) {
        self.metrics.answers.observe(&self.answer(code), took.as_secs_f64(), span);
    }

    pub(crate) fn vector(&self, source: VectorSource) {
        self.metrics.vectors.add(&self.vectors(source), 1);
    }

    /// There is knowledge. That it was read again begins at zero: of a series that begins with its first event, nobody sees
    /// that one.
    pub(crate) fn has_knowledge(&self) {
        for ok in [true, false] {
            self.metrics.reloads.add(&self.reloads(ok), 0);
        }
    }

    /// The knowledge was read again.
    pub(crate) fn reloaded(&self, ok: bool) {
        self.metrics.reloads.add(&self.reloads(ok), 1);
    }

    /// There is a file of examples.
    pub(crate) fn has_examples(&self) {
        for ok in [true, false] {
            self.metrics.examples_reloads.add(&self.reloads(ok), 0);
        }
    }

    /// The examples were read again.
    pub(crate) fn examples_reloaded(&self, ok: bool) {
        self.metrics.examples_reloads.add(&self.reloads(ok), 1);
    }

    fn answer(&self, code: Code) -> AnswerLabels {
        AnswerLabels { expert: Arc::clone(&self.expert), rpc_response_status_code: code_name(code) }
    }

    fn vectors(&self, source: VectorSource) -> VectorLabels {
        let source = match source {
            VectorSource::Router => "router",
            VectorSource::Model => "model",
        };
        VectorLabels { expert: Arc::clone(&self.expert), source }
    }

    fn reloads(&self, ok: bool) -> ReloadLabels {
        ReloadLabels { expert: Arc::clone(&self.expert), result: if ok { "ok" } else { "failed" } }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        // Held until all is forgotten, so that an instance that is about to start counts afterwards.
        let mut living = self.metrics.living.lock();
        living.retain(|other| other.strong_count() > 0);
        // Let go after the lock: one of them may be the last of its own by then.
        let others: Vec<Arc<Tally>> = living.iter().filter_map(Weak::upgrade).collect();
        if others.iter().all(|other| other.expert != self.expert) {
            for code in (0..=16).map(Code::from_i32) {
                self.metrics.answers.forget(&self.answer(code));
            }
            for source in [VectorSource::Router, VectorSource::Model] {
                self.metrics.vectors.forget(&self.vectors(source));
            }
            for ok in [true, false] {
                self.metrics.reloads.forget(&self.reloads(ok));
                self.metrics.examples_reloads.forget(&self.reloads(ok));
            }
        }
        drop(living);
        drop(others);
    }
}

impl Default for ExpertMetrics {
    fn default() -> Self {
        Self {
            answers: Amounts::new(OBJECTIVE_SECONDS),
            vectors: Counts::default(),
            reloads: Counts::default(),
            examples_reloads: Counts::default(),
            living: Living::default(),
        }
    }
}

impl Part for ExpertMetrics {
    fn register(&self, sheet: &mut Sheet<'_>) {
        sheet.amounts(&ANSWER_DURATION, &self.answers);
        sheet.counts(&VECTORS, &self.vectors);
        sheet.counts(&RELOADS, &self.reloads);
        sheet.counts(&EXAMPLES_RELOADS, &self.examples_reloads);
        sheet.collect(self.living.clone());
    }
}

impl Living {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Tally>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the living have at a moment, each series once: a process may have several instances of an expert.
#[derive(Default)]
struct Seen {
    models: BTreeSet<ModelLabels>,
    passages: BTreeMap<Arc<str>, usize>,
    ages: BTreeMap<Arc<str>, Duration>,
}

impl Seen {
    fn add(&mut self, tally: &Tally, ready: &Ready, now: SystemTime) {
        let Tally { expert, version, .. } = tally;
        self.models.extend(ready.models.serving().iter().map(|served| {
            // As the engine's own metrics call it.
            let manifest = served.engine.manifest();
            ModelLabels {
                expert: Arc::clone(expert),
                version: Arc::clone(version),
                model: manifest.name.clone(),
                model_version: manifest.version.clone(),
            }
        }));
        let Some(knowledge) = ready.task.knowledge() else { return };
        self.passages.insert(Arc::clone(expert), knowledge.current().len());
        if let Some(age) = knowledge.age(now) {
            // Of several instances, the one that is furthest behind.
            let oldest = self.ages.entry(Arc::clone(expert)).or_default();
            *oldest = age.max(*oldest);
        }
    }
}

impl Collector for Living {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let living: Vec<Arc<Tally>> = self.lock().iter().filter_map(Weak::upgrade).collect();
        let (mut seen, now) = (Seen::default(), SystemTime::now());
        // Where an expert stops at this moment, this thread may be the last to let go of it, and then waits for what its
        // engines run at that moment. That makes this one page late, and none of them asks for the page.
        for tally in &living {
            if let Some(ready) = tally.ready.upgrade().as_deref().and_then(OnceLock::get) {
                seen.add(tally, ready, now);
            }
        }
        let mut models = MODEL.encode(&mut encoder)?;
        for labels in &seen.models {
            models.encode_family(labels)?.encode_gauge(&1i64)?;
        }
        let mut passages = PASSAGES.encode(&mut encoder)?;
        for (expert, number) in seen.passages {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            passages.encode_family(&ExpertLabels { expert })?.encode_gauge(&number)?;
        }
        let mut ages = AGE.encode(&mut encoder)?;
        for (expert, age) in seen.ages {
            ages.encode_family(&ExpertLabels { expert })?.encode_gauge(&age.as_secs_f64())?;
        }
        Ok(())
    }
}
