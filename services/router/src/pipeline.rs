//! The walk of a request, in order. A newcomer reads this first.
//!
//! Failing is for `admission` (may this run at all) and `call` (did it); the gate and the plan describe.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::{
    admission::{Admission, Admitted, Request},
    call::{Caller, Reply},
    catalog::Catalog,
    combine::{self, Merged},
    error::Error,
    gate::{Decision, Gate},
    metrics::Metrics,
    model::Named,
    plan::{self, Plan},
    step::{Running, Step},
    wire::Ask,
};

/// The six steps and what they share.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) admission: Admission,
    pub(crate) gate: Gate,
    pub(crate) caller: Caller,
    pub(crate) metrics: Metrics,
    pub(crate) catalog: Arc<ArcSwap<Catalog>>,
}

/// Who is told what happens, in this order: `decided` once, then for each leg any number of `text` and one `replied`,
/// then `done` once, unless the query was refused or failed.
pub(crate) trait EventSink: Send {
    /// Whether pieces of text are wanted as they come.
    const WANTS_TEXT: bool;

    fn decided(&mut self, decision: &Decision, plan: &Plan) -> impl Future<Output = Result<(), Error>> + Send;
    fn text(&mut self, leg: usize, text: String) -> impl Future<Output = Result<(), Error>> + Send;
    fn replied(&mut self, reply: &Reply) -> impl Future<Output = Result<(), Error>> + Send;
    fn done(&mut self, merged: Option<Merged>) -> impl Future<Output = Result<(), Error>> + Send;
}

impl Pipeline {
    /// Routes one request and runs what it needs.
    pub(crate) async fn dispatch(&self, request: Request, events: &mut impl EventSink) -> Result<(), Error> {
        let (admitted, decision, plan) = self.decide(request, events).await?;
        if decision.runs_nothing()? {
            return events.done(None).await;
        }
        let running = self.caller.run(&plan, &admitted, decision.vector(), events);
        let replies = self.step(Step::Call).run(running).await?;
        let (how, misses_somebody) = (admitted.options().combine, decision.misses_somebody());
        let merged = self.step(Step::Combine).of(|| combine::merge(&plan, &replies, how, misses_somebody))?;
        events.done(Some(merged)).await
    }

    /// The same walk up to the plan.
    pub(crate) async fn explain(&self, request: Request, events: &mut impl EventSink) -> Result<(), Error> {
        self.decide(request, events).await.map(drop)
    }

    /// The short walk of a request that names its expert or one of its models: there is nothing to decide, and one leg to
    /// run. `deadline` is the request's own, if it has one.
    pub(crate) async fn pass<A: Ask>(
        &self,
        (name, version): (&str, &str),
        deadline: Option<Instant>,
        ask: &A,
    ) -> Result<A::Answer, Error> {
        let times = self.admission.times(deadline);
        let leg = {
            let catalog = self.catalog.load();
            let remaining = times.deadline.saturating_duration_since(times.received);
            Named::find(name, &catalog)?.leg(version, &catalog, remaining)?
        };
        self.caller.run_one(&leg, times, ask).await
    }

    async fn decide(&self, request: Request, events: &mut impl EventSink) -> Result<(Admitted, Decision, Plan), Error> {
        let catalog = self.catalog.load_full();
        let admitted = self.step(Step::Admission).of(|| self.admission.admit(request, &catalog, &self.gate))?;
        let decision = self.step(Step::Gate).run(self.gate.decide(&admitted, &catalog)).await;
        let (deadline, now) = (admitted.deadline(), Instant::now());
        let plan = self.step(Step::Plan).of(|| plan::build(&decision, &catalog, deadline, now));
        events.decided(&decision, &plan).await?;
        Ok((admitted, decision, plan))
    }

    fn step(&self, step: Step) -> Running<'_> {
        step.begin(&self.metrics)
    }
}
