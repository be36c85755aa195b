//! The ordered way out of service. Everybody who might call has to know before anything stops answering; a server that
//! just shuts down costs calls (thousands under load, measured), one that leaves in this order costs none.

mod signals;

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

pub use self::signals::{Signal, Signals};
use crate::{health::Readiness, registry::Registration, serve::InFlight};

/// How long each step may take. All of them share `budget`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// For the registry to take the word, twice: that we drain, and that we are gone.
    pub registry: Duration,
    /// How long to keep serving while routers take notice. Zero in tests.
    pub settle: Duration,
    /// For everything together; what runs then is reported and cut off.
    pub budget: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { registry: Duration::from_secs(2), settle: Duration::from_secs(2), budget: Duration::from_secs(20) }
    }
}

/// What goes out of service: one server and what announces it.
#[derive(Debug)]
pub struct Leaving<'a> {
    pub readiness: &'a Readiness,
    /// `None` for a router.
    pub registration: Option<&'a dyn Registration>,
    /// `Server::long_streams`
    pub long_streams: CancellationToken,
    /// What `Server::serve` was given.
    pub stop: CancellationToken,
    /// `Server::in_flight`
    pub in_flight: InFlight,
}

/// How the drain went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were taken.
    pub steps: Vec<(Step, Outcome)>,
    /// Calls that were still running at the end: zero unless the last step timed out.
    pub left: usize,
}

impl Report {
    /// Whether nobody noticed: every step done and no call left.
    pub fn is_clean(&self) -> bool {
        self.left == 0 && self.steps.iter().all(|(_, outcome)| *outcome == Outcome::Done)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// NOT_SERVING, and the record says `draining`.
    Announce,
    /// The record is gone.
    Deregister,
    /// Serving on, while those who had not heard still call.
    Settle,
    /// Health watches, catalogue watches and reflection end; `ModelStreamInfer` takes no more requests.
    EndStreams,
    /// No new connections, GOAWAY, waiting for the calls that run.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    TimedOut,
    /// The registry did not take it; that never keeps a process from leaving.
    Failed,
}

/// Takes a server out of service, step by step, within `options.budget`. `stopped` is what has to have come to its end
/// after `stop`: the server's own future, and whatever works for it.
pub async fn leave(leaving: Leaving<'_>, stopped: impl Future<Output = ()>, options: Options) -> Report {
    let end = Instant::now() + options.budget;
    let within = |bound: Duration| bound.min(end.saturating_duration_since(Instant::now()));
    let Leaving { readiness, registration, long_streams, stop, in_flight } = leaving;
    let mut steps = Vec::with_capacity(5);

    readiness.drain();
    let announced = async {
        match registration {
            Some(registration) => registration.drain().await,
            None => Ok(()),
        }
    };
    steps.push((Step::Announce, outcome(timeout(within(options.registry), announced).await)));

    let deregistered = async {
        match registration {
            Some(registration) => registration.deregister().await,
            None => Ok(()),
        }
    };
    steps.push((Step::Deregister, outcome(timeout(within(options.registry), deregistered).await)));

    // Served to the end even where nothing runs: the calls that matter have not arrived yet.
    let settle = within(options.settle);
    tokio::time::sleep(settle).await;
    steps.push((Step::Settle, if settle == options.settle { Outcome::Done } else { Outcome::TimedOut }));

    long_streams.cancel();
    steps.push((Step::EndStreams, Outcome::Done));

    stop.cancel();
    let finished = timeout(within(options.budget), stopped).await;
    let left = in_flight.calls();
    steps.push((Step::Finish, if finished.is_ok() { Outcome::Done } else { Outcome::TimedOut }));

    let report = Report { steps, left };
    if report.is_clean() {
        tracing::info!(name = readiness.name(), "out of service");
    } else {
        tracing::warn!(name = readiness.name(), left, steps = ?report.steps, "out of service, not in good order");
    }
    report
}

fn outcome(result: Result<Result<(), crate::registry::Error>, tokio::time::error::Elapsed>) -> Outcome {
    match result {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the registry did not take the word");
            Outcome::Failed
        }
        Err(_) => Outcome::TimedOut,
    }
}

#[cfg(test)]
mod tests;
