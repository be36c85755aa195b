//! One leg: attempts on different instances within the leg's budget, at most one of them a retry.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use consilium_gate::Vector;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Status};
use tower::retry::budget::Budget;

use super::{
    Attempt, Caller, Reply,
    retry::{self, Blame, Verdict},
};
use crate::{
    admission::Admitted,
    balance::Pick,
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

/// How an attempt ended, and whether the retry that may follow is paid for already.
struct Ended {
    outcome: Result<Inferred, Verdict>,
    paid: bool,
}

impl Caller {
    /// Runs the leg to its end. What became of it is in the reply; it counts for the expert's objective even when the
    /// caller goes away and this future is dropped.
    pub(super) async fn run_leg(&self, leg: &Leg, shared: &Shared<'_>) -> Reply {
        let mut watch = Watch::start(&self.metrics, leg);
        let deadline = (watch.since + leg.budget).min(shared.admitted.deadline());
        // Text that the caller has cannot be taken back: after the first piece nobody starts over.
        let said = AtomicBool::new(false);
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut last = None;
        let mut paid = false;
        while attempts.len() < MAX_ATTEMPTS && !said.load(Ordering::Relaxed) && Instant::now() < deadline {
            let Some((pick, spare)) = self.pick(leg, &attempts) else { break };
            // A retry is paid for when it is certain to happen, so that failures without an alternative cost nobody.
            if attempts.is_empty() {
                self.retries.deposit();
            } else if !paid && !self.retries.withdraw() {
                break;
            }
            let since = Instant::now();
            let instance = pick.instance().to_owned();
            let call = self.attempt(leg, shared, &pick, (deadline, &said));
            let give_way = (spare && leg.idempotent).then(|| give_way(leg, deadline));
            let ended = self.bounded(leg, call, (give_way, deadline), &said).await;
            paid = ended.paid;
            let code = ended.outcome.as_ref().map_or_else(|verdict| verdict.failure.code, |_| Code::Ok);
            attempts.push(self.record(leg, &instance, (code, since), shared));
            match ended.outcome {
                Ok(inferred) => {
                    pick.succeeded();
                    watch.ending = Ending::Answered;
                    return reply(leg, Some(instance), Ok(inferred), attempts);
                }
                Err(verdict) => {
                    tracing::debug!(expert = %leg.expert, %instance, ?code, reason = %verdict.failure.reason, "attempt failed");
                    blame(pick, &verdict);
                    last = Some(verdict.failure);
                    if !verdict.elsewhere {
                        break;
                    }
                }
            }
        }
        let failure = last.unwrap_or_else(|| never_called(deadline));
        watch.ending = Ending::Failed(failure.code);
        let instance = attempts.last().map(|attempt| attempt.instance.clone());
        reply(leg, instance, Err(failure), attempts)
    }

    /// An instance that was not tried yet, and whether there is another one beside it.
    fn pick(&self, leg: &Leg, attempts: &[Attempt]) -> Option<(Pick, bool)> {
        let tried: Vec<String> = attempts.iter().map(|attempt| attempt.instance.clone()).collect();
        // As the mesh is now, not as it was when the plan was made.
        let catalog = self.catalog.load();
        let pool = catalog.pool(&leg.expert)?;
        let spare = attempts.len() + 1 < MAX_ATTEMPTS && pool.live(&leg.version) > attempts.len() + 1;
        Some((pool.pick(&leg.version, &tried)?, spare))
    }

    async fn attempt(
        &self,
        leg: &Leg,
        shared: &Shared<'_>,
        pick: &Pick,
        (deadline, said): (Instant, &AtomicBool),
    ) -> Result<Inferred, Status> {
        let call = Call {
            expert: &leg.expert,
            payload: shared.admitted.payload(),
            vector: shared.vector,
            timeout: deadline.saturating_duration_since(Instant::now()),
            max_message_bytes: self.max_message_bytes,
        };
        match &shared.texts {
            None => call.infer(pick.channel()).await,
            Some(texts) => call.stream_infer(pick.channel(), leg.index, (texts, said)).await,
        }
    }

    /// Waits for the attempt until `deadline`. At `give_way` it is ended for another instance's sake, unless it has
    /// begun to speak or the retry budget is empty: then waiting on is the best chance there is.
    async fn bounded(
        &self,
        leg: &Leg,
        call: impl Future<Output = Result<Inferred, Status>>,
        (give_way, deadline): (Option<Instant>, Instant),
        said: &AtomicBool,
    ) -> Ended {
        let since = Instant::now();
        let judged = |status: &Status| retry::judge(status, since.elapsed(), leg);
        let mut call = pin!(call);
        if let Some(give_way) = give_way {
            tokio::select! {
                biased;
                outcome = &mut call => return Ended { outcome: outcome.map_err(|status| judged(&status)), paid: false },
                () = sleep_until(give_way) => {}
            }
            if !said.load(Ordering::Relaxed) && self.retries.withdraw() {
                let verdict = retry::timed_out(since.elapsed(), leg);
                return Ended { outcome: Err(verdict), paid: true };
            }
        }
        let outcome = match timeout_at(deadline, call).await {
            Ok(outcome) => outcome.map_err(|status| judged(&status)),
            Err(_) => Err(retry::timed_out(since.elapsed(), leg)),
        };
        Ended { outcome, paid: false }
    }

    fn record(&self, leg: &Leg, instance: &str, (code, since): (Code, Instant), shared: &Shared<'_>) -> Attempt {
        self.metrics.attempt(&leg.expert, code);
        let start_offset = since.saturating_duration_since(shared.admitted.received());
        Attempt { instance: instance.to_owned(), code, start_offset, duration: since.elapsed() }
    }
}

/// When an attempt makes room for another instance: after several times its objective, or half of what remains,
/// whichever is later. An instance that hangs must not eat the whole budget, one that is merely slow must get to answer.
fn give_way(leg: &Leg, deadline: Instant) -> Instant {
    let now = Instant::now();
    let remaining = deadline.saturating_duration_since(now);
    now + (leg.slo.latency * PATIENCE).max(remaining / 2).min(remaining)
}

fn blame(pick: Pick, verdict: &Verdict) {
    match verdict.blame {
        Blame::Instance => pick.failed(verdict.failure.retry_after),
        Blame::Request => pick.succeeded(),
        Blame::Nobody => drop(pick),
    }
}

fn never_called(deadline: Instant) -> Failure {
    if Instant::now() >= deadline {
        Failure::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "no time was left to call the expert")
    } else {
        Failure::new(Code::Unavailable, "NO_LIVE_INSTANCE", "no live instance")
    }
}

fn reply(leg: &Leg, instance: Option<String>, result: Result<Inferred, Failure>, attempts: Vec<Attempt>) -> Reply {
    let (result, timings) = match result {
        Ok(inferred) => (Ok(inferred.answer), inferred.timings),
        Err(failure) => (Err(failure), None),
    };
    let (expert, version) = (Arc::clone(&leg.expert), Arc::clone(&leg.version));
    Reply { leg: leg.index, expert, version, instance, result, attempts, timings }
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
        Self { metrics, expert: &leg.expert, latency: leg.slo.latency, since, ending: Ending::Abandoned }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(good) = slo::judge(self.ending, self.since.elapsed(), self.latency) {
            self.metrics.leg(self.expert, good);
        }
    }
}
