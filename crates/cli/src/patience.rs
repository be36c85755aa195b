//! Waiting for a router that is not there yet: how long, and how often it is asked meanwhile.

use std::time::Duration;

use consilium_mesh::backoff::Backoff;
use tokio::time::{Instant, sleep};

use crate::error::Error;

/// Soon enough for a person, and no burden on a router that is starting.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// For a call, however little is left to wait: an answer takes its time.
const LEAST: Duration = Duration::from_secs(1);

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
    /// once more right at the end. Each call is told how long it may take.
    pub(crate) async fn persist<T>(&mut self, call: impl AsyncFnMut(Duration) -> Result<T, Error>) -> Result<T, Error> {
        self.persist_until(|_| true, call).await
    }

    /// The same until what comes of it is `enough`. At the end of patience it is what it is.
    pub(crate) async fn persist_until<T>(
        &mut self,
        enough: impl Fn(&T) -> bool,
        mut call: impl AsyncFnMut(Duration) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let ended = call(self.left().max(LEAST)).await;
            let is_over = match &ended {
                Ok(result) => enough(result),
                Err(error) => !error.is_unavailable(),
            };
            if is_over {
                self.backoff.worked();
                return ended;
            }
            let left = self.left();
            if left.is_zero() {
                return ended;
            }
            sleep(self.backoff.failed(rand::random()).min(left)).await;
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
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
        let call = async |within: Duration| {
            assert!(within >= LEAST && within <= wait.max(LEAST));
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

    #[tokio::test(start_paused = true)]
    async fn what_is_not_enough_is_taken_at_the_end_all_the_same() {
        let counted = async |wait: u64, enough: i32| {
            let mut calls = 0;
            let call = async |_| {
                calls += 1;
                Ok(calls)
            };
            let mut patience = Patience::new(Duration::from_secs(wait));
            let last = patience.persist_until(|calls| *calls >= enough, call).await.unwrap();
            (last, patience.left())
        };
        let (last, left) = counted(30, 4).await;
        assert!(last == 4 && left > Duration::ZERO, "{left:?}");
        assert_eq!(counted(0, 4).await, (1, Duration::ZERO));
        let (last, left) = counted(5, 1000).await;
        assert!(last > 1 && left.is_zero(), "{last} {left:?}");
    }
}
