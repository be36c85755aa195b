//! Waiting for a router that is not there yet: how long, and how often it is asked meanwhile.

use std::time::Duration;

use consilium_mesh::backoff::Backoff;
use tokio::time::{Instant, sleep};

use crate::error::Error;

/// Soon enough for a person, and no burden on a router that is starting.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// How much longer somebody waits. What was waited for one thing is gone for the next.
#[derive(Debug)]
pub(crate) struct Patience {
    until: Instant,
    backoff: Backoff,
}

impl Patience {
    /// From now on.
    pub(crate) fn new(wait: Duration) -> Self {
        Self { until: Instant::now() + wait, backoff: Backoff::new(SHORTEST, LONGEST) }
    }

    /// For what has to be there at once.
    pub(crate) fn none() -> Self {
        Self::new(Duration::ZERO)
    }

    /// Calls until something other than UNAVAILABLE comes of it, or until patience is at its end. Calls once at least, and
    /// once more right at the end.
    pub(crate) async fn persist<T>(&mut self, mut call: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
        loop {
            match call().await {
                Err(error) if error.is_unavailable() => {
                    let left = self.until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(error);
                    }
                    sleep(self.backoff.failed(rand::random()).min(left)).await;
                }
                ended => {
                    self.backoff.worked();
                    return ended;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;
    use crate::{
        error::{Answered, Trouble},
        view::CallFailure,
    };

    fn failed(code: Code) -> Error {
        let failure = CallFailure::new(&Status::new(code, "no"), code, &Trouble::new("no"));
        Error::Answered(Box::new(Answered { is_usage: false, trouble: Trouble::new("no"), failure }))
    }

    /// How often it was called, how long it took, and whether it ended well.
    async fn persisted(
        wait: Duration,
        mut outcomes: impl Iterator<Item = Result<(), Error>>,
    ) -> (usize, Duration, bool) {
        let (began, mut calls) = (Instant::now(), 0);
        let call = async || {
            calls += 1;
            outcomes.next().unwrap()
        };
        let ended = Patience::new(wait).persist(call).await.is_ok();
        (calls, began.elapsed(), ended)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_asked_again_until_it_is_or_time_is_over() {
        let unavailable = || std::iter::repeat_with(|| Err(failed(Code::Unavailable)));
        let (calls, took, ended) = persisted(Duration::from_secs(30), unavailable().take(5).chain([Ok(())])).await;
        assert!(ended && calls == 6 && took >= SHORTEST * 5 && took <= Duration::from_secs(10), "{calls} {took:?}");
        let (calls, took, ended) = persisted(Duration::from_secs(30), unavailable()).await;
        assert!(!ended && took == Duration::from_secs(30) && (15..=300).contains(&calls), "{calls} {took:?}");
        assert_eq!(persisted(Duration::ZERO, unavailable()).await, (1, Duration::ZERO, false));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_waiting_does_not_help_is_told_at_once() {
        let outcomes = [failed(Code::InvalidArgument), Error::Failed(Trouble::new("no"))];
        for outcome in outcomes {
            let ended = persisted(Duration::from_secs(30), std::iter::once(Err(outcome))).await;
            assert_eq!(ended, (1, Duration::ZERO, false));
        }
    }
}
