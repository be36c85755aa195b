//! What is told of legs and attempts: each has a span, and is counted and timed. However it ends, also when the caller goes
//! away and what runs is dropped.

use tokio::time::Instant;
use tonic::Code;
use tracing::Span;

use super::{Attempt, Times};
use crate::{
    balance::Pick,
    metrics::Metrics,
    plan::Leg,
    slo::{self, Ending},
    spans,
};

/// A leg that runs. Abandoned, unless it is said how it ended.
pub(super) struct Running<'a> {
    metrics: &'a Metrics,
    leg: &'a Leg,
    /// Whether it counts for the expert's objective at all.
    is_work: bool,
    span: Span,
    since: Instant,
    ended: Option<(Ending, Code)>,
}

impl<'a> Running<'a> {
    pub(super) fn start(metrics: &'a Metrics, leg: &'a Leg, is_work: bool) -> Self {
        Self { metrics, leg, is_work, span: spans::leg(leg), since: Instant::now(), ended: None }
    }

    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(super) fn ended(mut self, ending: Ending, code: Code) {
        self.ended = Some((ending, code));
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Self { metrics, leg, is_work, span, since, ended } = self;
        let took = since.elapsed();
        let ending = ended.map_or(Ending::Abandoned, |(ending, _)| ending);
        let good = slo::judge(ending, took, leg.slo.latency).filter(|_| *is_work);
        spans::leg_ended(span, ended.map(|(_, code)| code), good);
        if *is_work {
            metrics.leg(&leg.expert, good, took, span);
        }
    }
}

/// An attempt that runs. Nobody's fault, unless it is said how it ended.
pub(super) struct Trying<'a> {
    metrics: &'a Metrics,
    leg: &'a Leg,
    method: &'static str,
    instance: String,
    span: Span,
    since: Instant,
    ended: Option<(Code, &'static str)>,
}

impl<'a> Trying<'a> {
    /// The attempt with this `number`, counted from 1. A pick that comes to nothing does not count.
    pub(super) fn start(
        metrics: &'a Metrics,
        (leg, pick): (&'a Leg, &Pick),
        method: &'static str,
        number: usize,
    ) -> Self {
        let span = spans::attempt(leg, pick, method, number);
        pick.is_tried();
        Self { metrics, leg, method, instance: pick.instance().to_owned(), span, since: Instant::now(), ended: None }
    }

    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// What the caller is told of it.
    pub(super) fn ended(mut self, code: Code, outcome: &'static str, times: Times) -> Attempt {
        self.ended = Some((code, outcome));
        let start_offset = self.since.saturating_duration_since(times.received);
        Attempt { instance: self.instance.clone(), code, start_offset, duration: self.since.elapsed() }
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        let Self { metrics, leg, method, span, since, ended, .. } = self;
        let took = since.elapsed();
        let (code, outcome) = (ended.map(|(code, _)| code), ended.map_or("nobody", |(_, outcome)| outcome));
        spans::attempt_ended(span, code, outcome);
        metrics.attempt(&leg.expert, method, (code.unwrap_or(Code::Cancelled), took), span);
    }
}
