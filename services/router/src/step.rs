//! The steps of the walk as they are seen from outside: each has a span and a duration, however it ends.

use tokio::time::Instant;
use tracing::{Instrument, Span};

use crate::{metrics::Metrics, spans};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Admission,
    Gate,
    Plan,
    Call,
    Combine,
}

/// A step that has begun. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    step: Step,
    metrics: &'a Metrics,
    span: Span,
    since: Instant,
}

impl Step {
    pub(crate) fn begin(self, metrics: &Metrics) -> Running<'_> {
        let span = match self {
            Self::Admission => spans::admission(),
            Self::Gate => spans::gate(),
            Self::Plan => spans::plan(),
            Self::Call => spans::call(),
            Self::Combine => spans::combine(),
        };
        Running { step: self, metrics, span, since: Instant::now() }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Gate => "gate",
            Self::Plan => "plan",
            Self::Call => "call",
            Self::Combine => "combine",
        }
    }
}

impl Running<'_> {
    /// `work` is all of the step; within it, the step's span is the current one.
    pub(crate) async fn run<F: Future>(self, work: F) -> F::Output {
        work.instrument(self.span.clone()).await
    }

    /// The same of a step that waits for nothing.
    pub(crate) fn of<T>(self, work: impl FnOnce() -> T) -> T {
        self.span.in_scope(work)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.metrics.step(self.step.as_str(), self.since.elapsed(), &self.span);
    }
}
