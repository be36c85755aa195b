//! One leg: attempts on different instances within the leg's budget, at most one of them a retry.

use std::pin::pin;

use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Code;
use tower::retry::budget::Budget;
use tracing::Instrument;

use super::{
    Attempt, Caller, Times,
    retry::{self, Blame, Verdict},
    watch::{Running, Trying},
};
use crate::{
    balance::Pick,
    error::Failure,
    plan::{Leg, RESERVE},
    slo::Ending,
    wire::Ask,
};

/// How many times its objective an attempt may take before it makes room for another instance.
const PATIENCE: u32 = 4;

/// What became of a leg.
#[derive(Debug)]
pub(super) struct Ran<T> {
    /// Who was asked last.
    pub(super) instance: Option<String>,
    pub(super) result: Result<T, Failure>,
    pub(super) attempts: Vec<Attempt>,
}

/// How an attempt ended, and what the budget said of the retry that may follow.
struct Ended<T> {
    outcome: Result<T, Verdict>,
    retry: Retry,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// The budget was not asked.
    Unpaid,
    Paid,
    /// It had nothing to spare, and that was counted. It may have something by now.
    Refused,
}

impl Caller {
    /// Runs the leg to its end. It is counted even when the caller goes away and this future is dropped.
    pub(super) async fn run_leg<A: Ask>(&self, leg: &Leg, times: Times, ask: &A) -> Ran<A::Answer> {
        let running = Running::start(&self.metrics, leg, A::IS_WORK);
        let (ran, ending) = self.attempt(leg, times, ask).instrument(running.span()).await;
        let code = ran.result.as_ref().map_or_else(|failure| failure.code, |_| Code::Ok);
        running.ended(ending, code);
        ran
    }

    async fn attempt<A: Ask>(&self, leg: &Leg, times: Times, ask: &A) -> (Ran<A::Answer>, Ending) {
        // A later stage's budget was allotted when the request began: what is kept back for the answer is kept here.
        let latest = times.deadline.checked_sub(RESERVE).unwrap_or(times.deadline);
        let deadline = (Instant::now() + leg.budget).min(latest);
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut last: Option<Verdict> = None;
        let mut retry = Retry::Unpaid;
        while attempts.len() < max_attempts(leg) && !ask.has_begun() && Instant::now() < deadline {
            let Some((pick, spare)) = self.pick(leg, &attempts) else { break };
            // A retry is paid for when it is certain to happen, so that failures without an alternative cost nobody.
            if attempts.is_empty() {
                if A::IS_WORK {
                    self.retries.deposit();
                }
            } else if retry == Retry::Paid || self.retries.withdraw() {
                self.metrics.retried(&leg.expert, retry == Retry::Paid);
            } else {
                if retry != Retry::Refused {
                    self.metrics.retry_refused(&leg.expert);
                }
                break;
            }
            let trying = Trying::start(&self.metrics, (leg, &pick), ask.method(), attempts.len() + 1);
            let give_way = (spare && leg.idempotent).then(|| give_way(leg, deadline));
            let ended = self.bounded(leg, (ask, &pick), (give_way, deadline)).instrument(trying.span()).await;
            retry = ended.retry;
            attempts.push(trying.ended(ended.code(), ended.as_str(), times));
            match ended.outcome {
                Ok(answer) => {
                    let instance = Some(pick.instance().to_owned());
                    // How fast somebody tells what a model is like says nothing about how fast the model is.
                    if A::IS_WORK {
                        pick.succeeded();
                    }
                    return (Ran { instance, result: Ok(answer), attempts }, Ending::Answered);
                }
                Err(verdict) => {
                    let Failure { code, reason, .. } = &verdict.failure;
                    tracing::debug!(expert = %leg.expert, instance = pick.instance(), ?code, %reason, "attempt failed");
                    self.blame::<A>(pick, &verdict, leg);
                    let elsewhere = verdict.elsewhere;
                    last = Some(verdict);
                    if !elsewhere {
                        break;
                    }
                }
            }
        }
        let mistaken = last.as_ref().is_some_and(|verdict| matches!(verdict.blame, Blame::Request | Blame::Absence));
        let failure = last.map_or_else(|| never_called(deadline), |verdict| verdict.failure);
        let ending = if mistaken { Ending::Mistaken } else { Ending::Failed(failure.code) };
        let instance = attempts.last().map(|attempt| attempt.instance.clone());
        (Ran { instance, result: Err(failure), attempts }, ending)
    }

    /// An instance that was not tried yet, and whether there is another one beside it.
    fn pick(&self, leg: &Leg, attempts: &[Attempt]) -> Option<(Pick, bool)> {
        let tried: Vec<String> = attempts.iter().map(|attempt| attempt.instance.clone()).collect();
        // As the mesh is now, not as it was when the plan was made.
        let catalog = self.catalog.load();
        let pool = catalog.pool(&leg.expert)?;
        let spare = attempts.len() + 1 < max_attempts(leg) && pool.live(leg.wanted()) > attempts.len() + 1;
        Some((pool.pick(leg.wanted(), &tried)?, spare))
    }

    /// Asks, and waits until `deadline`. At `give_way` the attempt is ended for another instance's sake, unless it has
    /// begun to speak or the retry budget is empty: then waiting on is the best chance there is.
    async fn bounded<A: Ask>(
        &self,
        leg: &Leg,
        (ask, pick): (&A, &Pick),
        (give_way, deadline): (Option<Instant>, Instant),
    ) -> Ended<A::Answer> {
        let since = Instant::now();
        let judged = |status| retry::judge(&status, since.elapsed(), leg, pick.is_promised(leg.wanted()));
        let mut call = pin!(ask.ask(pick.channel(), deadline.saturating_duration_since(since)));
        let mut retry = Retry::Unpaid;
        if let Some(give_way) = give_way {
            tokio::select! {
                biased;
                outcome = &mut call => return Ended { outcome: outcome.map_err(judged), retry },
                () = sleep_until(give_way) => {}
            }
            if !ask.has_begun() {
                if self.retries.withdraw() {
                    let verdict = retry::timed_out(since.elapsed(), leg);
                    return Ended { outcome: Err(verdict), retry: Retry::Paid };
                }
                self.metrics.retry_refused(&leg.expert);
                retry = Retry::Refused;
            }
        }
        let outcome = match timeout_at(deadline, call).await {
            Ok(outcome) => outcome.map_err(judged),
            Err(_) => Err(retry::timed_out(since.elapsed(), leg)),
        };
        Ended { outcome, retry }
    }

    fn blame<A: Ask>(&self, pick: Pick, verdict: &Verdict, leg: &Leg) {
        match verdict.blame {
            Blame::Instance => pick.failed(verdict.failure.retry_after),
            Blame::Request if A::IS_WORK => pick.succeeded(),
            Blame::Request | Blame::Nobody => drop(pick),
            Blame::Absence => {
                if pick.lacks(leg.wanted()) {
                    self.metrics.ejected(&leg.expert, "lacking");
                }
            }
        }
    }
}

impl<T> Ended<T> {
    fn code(&self) -> Code {
        self.outcome.as_ref().map_or_else(|verdict| verdict.failure.code, |_| Code::Ok)
    }

    fn as_str(&self) -> &'static str {
        match &self.outcome {
            Ok(_) => "answered",
            Err(_) if self.retry == Retry::Paid => "gave_way",
            Err(verdict) => verdict.blame.as_str(),
        }
    }
}

/// The first try and one more. What no record lists is tried once: another instance knows no better, and a name that
/// somebody got wrong must not use up what all retry with.
fn max_attempts(leg: &Leg) -> usize {
    if leg.is_unlisted { 1 } else { 2 }
}

/// When an attempt makes room for another instance: after several times its objective, or half of what remains,
/// whichever is later. An instance that hangs must not eat the whole budget, one that is merely slow must get to answer.
fn give_way(leg: &Leg, deadline: Instant) -> Instant {
    let now = Instant::now();
    let remaining = deadline.saturating_duration_since(now);
    now + (leg.slo.latency * PATIENCE).max(remaining / 2).min(remaining)
}

fn never_called(deadline: Instant) -> Failure {
    if Instant::now() >= deadline {
        Failure::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "no time was left to call the expert")
    } else {
        Failure::new(Code::Unavailable, "NO_LIVE_INSTANCE", "no live instance")
    }
}
