//! One leg: attempts on different instances within the leg's budget, at most one of them a retry.

use std::{sync::Arc, time::Duration};

use consilium_gate::Vector;
use tokio::time::{Instant, timeout_at};
use tonic::Code;
use tower::retry::budget::Budget;

use super::{Attempt, Caller, Reply, retry};
use crate::{
    admission::Admitted,
    error::Failure,
    metrics::Metrics,
    plan::Leg,
    slo::{self, Ending},
    wire::{Call, Inferred, Texts},
};

/// The first try and one more.
const MAX_ATTEMPTS: usize = 2;
/// How many times its objective an attempt may take before it makes room for another instance.
const PATIENCE: u32 = 4;

/// What every leg of a request shares.
pub(super) struct Shared<'a> {
    pub(super) admitted: &'a Admitted,
    pub(super) vector: Option<&'a Vector>,
    /// Where pieces of text go; `None` when nobody wants them.
    pub(super) texts: Option<Texts>,
}

impl Caller {
    /// Runs the leg to its end. What became of it is in the reply; it counts for the expert's objective even when the
    /// caller goes away and this future is dropped.
    pub(super) async fn run_leg(&self, leg: &Leg, shared: &Shared<'_>) -> Reply {
        let mut watch = Watch::start(&self.metrics, leg);
        let deadline = (watch.since + leg.budget).min(shared.admitted.deadline());
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut last = Failure::new(Code::Unavailable, "NO_LIVE_INSTANCE", "no live instance");
        while attempts.len() < MAX_ATTEMPTS && Instant::now() < deadline {
            let tried: Vec<String> = attempts.iter().map(|attempt| attempt.instance.clone()).collect();
            let catalog = self.catalog.load();
            let Some(pool) = catalog.pool(&leg.expert) else { break };
            let Some(pick) = pool.pick(&leg.version, &tried) else {
                break;
            };
            let others = pool.live(&leg.version) > attempts.len() + 1 && attempts.len() + 1 < MAX_ATTEMPTS;
            let until = if others && leg.idempotent {
                give_way(leg, deadline)
            } else {
                deadline
            };

            let since = Instant::now();
            let instance = pick.instance().to_owned();
            let outcome = timeout_at(until, self.attempt(leg, shared, pick.channel(), until)).await;
            let verdict = match outcome {
                Ok(Ok(inferred)) => {
                    pick.succeeded();
                    attempts.push(self.ended(leg, &instance, (Code::Ok, since), shared));
                    watch.ending = Ending::Answered;
                    return reply(leg, Some(instance), Ok(inferred), attempts);
                }
                Ok(Err(status)) => retry::judge(&status, since.elapsed(), leg.idempotent),
                Err(_) => retry::timed_out(since.elapsed(), leg.idempotent),
            };
            tracing::debug!(expert = %leg.expert, %instance, code = ?verdict.failure.code, reason = %verdict.failure.reason, "attempt failed");
            if verdict.blames_instance {
                pick.failed(verdict.failure.retry_after);
            } else {
                pick.succeeded();
            }
            attempts.push(self.ended(leg, &instance, (verdict.failure.code, since), shared));
            last = verdict.failure;
            if !verdict.elsewhere || !self.retries.withdraw() {
                break;
            }
        }
        if attempts.is_empty() && Instant::now() >= deadline {
            last = Failure::new(
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                "no time was left to call the expert",
            );
        }
        watch.ending = Ending::Failed(last.code);
        let instance = attempts.last().map(|attempt| attempt.instance.clone());
        reply(leg, instance, Err(last), attempts)
    }

    async fn attempt(
        &self,
        leg: &Leg,
        shared: &Shared<'_>,
        channel: tonic::transport::Channel,
        until: Instant,
    ) -> Result<Inferred, tonic::Status> {
        self.retries.deposit();
        let call = Call {
            expert: &leg.expert,
            payload: shared.admitted.payload(),
            vector: shared.vector,
            timeout: until.saturating_duration_since(Instant::now()),
            max_message_bytes: self.max_message_bytes,
        };
        match &shared.texts {
            None => call.infer(channel).await,
            Some(texts) => call.stream_infer(channel, leg.index, texts).await,
        }
    }

    fn ended(&self, leg: &Leg, instance: &str, (code, since): (Code, Instant), shared: &Shared<'_>) -> Attempt {
        self.metrics.attempt(&leg.expert, code);
        let start_offset = since.saturating_duration_since(shared.admitted.received());
        Attempt {
            instance: instance.to_owned(),
            code,
            start_offset,
            duration: since.elapsed(),
        }
    }
}

/// When an attempt makes room for another instance: after several times its objective, or half of what remains,
/// whichever is later. An instance that hangs must not eat the whole budget, one that is merely slow must get to answer.
fn give_way(leg: &Leg, deadline: Instant) -> Instant {
    let now = Instant::now();
    let remaining = deadline.saturating_duration_since(now);
    now + (leg.slo.latency * PATIENCE).max(remaining / 2).min(remaining)
}

fn reply(leg: &Leg, instance: Option<String>, result: Result<Inferred, Failure>, attempts: Vec<Attempt>) -> Reply {
    let (result, timings) = match result {
        Ok(inferred) => (Ok(inferred.answer), inferred.timings),
        Err(failure) => (Err(failure), None),
    };
    let (expert, version) = (Arc::clone(&leg.expert), Arc::clone(&leg.version));
    Reply {
        leg: leg.index,
        expert,
        version,
        instance,
        result,
        attempts,
        timings,
    }
}

/// Counts the leg when it ends, however it ends.
struct Watch<'a> {
    metrics: &'a Metrics,
    expert: &'a str,
    latency: Duration,
    since: Instant,
    ending: Ending,
}

impl<'a> Watch<'a> {
    fn start(metrics: &'a Metrics, leg: &'a Leg) -> Self {
        let since = Instant::now();
        Self {
            metrics,
            expert: &leg.expert,
            latency: leg.slo.latency,
            since,
            ending: Ending::Abandoned,
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(good) = slo::judge(self.ending, self.since.elapsed(), self.latency) {
            self.metrics.leg(self.expert, good);
        }
    }
}
