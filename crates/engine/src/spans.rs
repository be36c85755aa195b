//! The spans that a request leaves on its way through an engine. Facts about the way, never what is asked. Nothing is
//! made for a caller whose span nobody keeps, and nothing where nobody records at level DEBUG.
//!
//! A span ends when its last holder lets go of it, and so does its parent: whoever answers a request lets go first.

use consilium_metrics::is_recorded;
use tracing::{Span, debug_span, field::Empty};

use crate::{batch::Shape, manifest::Manifest};

/// The spans of one request.
pub(crate) struct Trail {
    /// Of the step that it is in.
    step: Span,
    /// The caller's, or none if nobody keeps that.
    request: Span,
}

impl Trail {
    /// Of whoever calls at this moment.
    pub(crate) fn of_caller() -> Self {
        let caller = Span::current();
        // A batch below a span that is not kept would not be kept either, whoever else is in it.
        let request = if is_recorded(&caller) { caller } else { Span::none() };
        Self { step: Span::none(), request }
    }

    /// Of another part of the same request, which waits by itself.
    pub(crate) fn beside(&self) -> Self {
        Self { step: Span::none(), request: self.request.clone() }
    }

    pub(crate) fn request(&self) -> &Span {
        &self.request
    }

    /// From here on it waits for its token ids.
    pub(crate) fn tokenizes(&mut self) {
        self.step = self.begin(|request| debug_span!(parent: request, "tokenize"));
    }

    /// From here on it waits for a batch.
    pub(crate) fn queues(&mut self) {
        // The step before ends where the next begins.
        self.step = Span::none();
        self.step = self.begin(|request| debug_span!(parent: request, "queue"));
    }

    /// It waits no more.
    pub(crate) fn is_taken(&mut self) {
        self.step = Span::none();
    }

    fn begin(&self, step: impl FnOnce(&Span) -> Span) -> Span {
        if self.request.is_disabled() { Span::none() } else { step(&self.request) }
    }
}

/// A batch of these requests, the most urgent first: a child of the first whose span is kept, linked to all of those, as
/// each of them is to it.
pub(crate) fn batch<'r>(requests: impl Iterator<Item = &'r Span> + Clone, manifest: &Manifest, shape: Shape) -> Span {
    let recorded = requests.filter(|request| !request.is_disabled());
    let Some(first) = recorded.clone().next() else { return Span::none() };
    let batch = debug_span!(
        parent: first,
        "batch",
        consilium.model.name = manifest.name.as_str(),
        consilium.model.version = manifest.version.as_str(),
        // Unsigned numbers would become words: OpenTelemetry has none.
        consilium.batch.size = count(shape.requests),
        consilium.batch.rows = count(shape.rows),
        consilium.batch.padded_ratio = shape.padded_ratio,
        otel.status_code = Empty,
    );
    if batch.is_disabled() {
        return Span::none();
    }
    // One caller may have several requests in a batch.
    let mut linked = Vec::new();
    for request in recorded {
        let id = request.id();
        if !linked.contains(&id) {
            linked.push(id);
            batch.follows_from(request);
            request.follows_from(&batch);
        }
    }
    batch
}

/// The batch did not run to its end.
pub(crate) fn failed(batch: &Span) {
    batch.record("otel.status_code", "error");
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
