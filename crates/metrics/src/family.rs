//! Metrics by labels. Clones share the same numbers.

use std::{
    fmt,
    hash::Hash,
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, exemplar::HistogramWithExemplars, family::Family, gauge::Gauge},
};
use tracing::Span;

use crate::exemplar::Exemplar;

static RECORDING: AtomicBool = AtomicBool::new(true);

/// Whether the process keeps its counters and histograms at all. Off is for measuring what they cost.
pub fn set_recording(on: bool) {
    RECORDING.store(on, Ordering::Relaxed);
}

fn is_recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

/// What labels must be.
pub trait Labels: Clone + Hash + Eq + EncodeLabelSet + fmt::Debug + Send + Sync + 'static {}
impl<L: Clone + Hash + Eq + EncodeLabelSet + fmt::Debug + Send + Sync + 'static> Labels for L {}

/// Counters.
#[derive(Debug, Clone)]
pub struct Counts<L: Labels>(pub(crate) Family<L, Counter>);

/// Gauges.
#[derive(Debug, Clone)]
pub struct Gauges<L: Labels>(pub(crate) Family<L, Gauge>);

/// Histograms, whose buckets remember a trace each.
#[derive(Clone)]
pub struct Amounts<L: Labels>(pub(crate) Family<L, Histogram, Buckets>);

pub(crate) type Histogram = HistogramWithExemplars<Exemplar>;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Buckets(&'static [f64]);

impl prometheus_client::metrics::family::MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

impl<L: Labels> Default for Counts<L> {
    fn default() -> Self {
        Self(Family::default())
    }
}

impl<L: Labels> Default for Gauges<L> {
    fn default() -> Self {
        Self(Family::default())
    }
}

impl<L: Labels> Counts<L> {
    pub fn add(&self, labels: &L, more: u64) {
        if is_recording() {
            self.0.get_or_create(labels).inc_by(more);
        }
    }

    /// So far.
    pub fn get(&self, labels: &L) -> u64 {
        self.0.get(labels).map_or(0, |counter| counter.get())
    }

    /// Prints it no more.
    pub fn forget(&self, labels: &L) {
        self.0.remove(labels);
    }
}

impl<L: Labels> Gauges<L> {
    pub fn set(&self, labels: &L, value: i64) {
        self.0.get_or_create(labels).set(value);
    }

    pub fn add(&self, labels: &L, more: i64) {
        self.0.get_or_create(labels).inc_by(more);
    }

    /// Prints it no more.
    pub fn forget(&self, labels: &L) {
        self.0.remove(labels);
    }
}

impl<L: Labels> Amounts<L> {
    /// By these upper boundaries, rising.
    pub fn new(boundaries: &'static [f64]) -> Self {
        Self(Family::new_with_constructor(Buckets(boundaries)))
    }

    /// `span` is the request's, of which the bucket remembers the last that was recorded.
    pub fn observe(&self, labels: &L, value: f64, span: &Span) {
        if is_recording() {
            let exemplar = Exemplar::of(span);
            let at = exemplar.is_some().then(SystemTime::now);
            self.0.get_or_create(labels).observe(value, exemplar, at);
        }
    }

    /// Prints it no more.
    pub fn forget(&self, labels: &L) {
        self.0.remove(labels);
    }
}

impl<L: Labels> fmt::Debug for Amounts<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Amounts").finish()
    }
}
