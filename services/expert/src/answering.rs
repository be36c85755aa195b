//! One answer in the making, as it is seen from outside: its span, how long it took, and how it ended.

use std::sync::Arc;

use consilium_mesh::telemetry::span::answered;
use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};
use tracing::{Instrument, Span};

use crate::{
    metrics::Tally,
    spans,
    status::Refused,
    task::{Context, Delta, Failure, Query, Task},
};

/// Dropping it is the end of an answer that nobody waits for any more.
pub(crate) struct Answering {
    tally: Arc<Tally>,
    span: Span,
    /// Whether the span is the answer's own, and not its call's, whose end others tell.
    is_own: bool,
    began: Instant,
    deadline: Instant,
    code: Option<Code>,
}

impl Answering {
    /// By a task of this kind.
    pub(crate) fn begin(tally: &Arc<Tally>, task: &str, deadline: Instant) -> Answering {
        let span = spans::answer(task);
        Answering { tally: Arc::clone(tally), span, is_own: true, began: Instant::now(), deadline, code: None }
    }

    /// All that its call is for.
    pub(crate) fn of_call(tally: &Arc<Tally>, deadline: Instant) -> Answering {
        let span = Span::current();
        Answering { tally: Arc::clone(tally), span, is_own: false, began: Instant::now(), deadline, code: None }
    }

    pub(crate) fn ended(mut self, code: Code) {
        self.code = Some(code);
    }

    /// Passes on what there is, or ends with the refusal.
    pub(crate) fn check<T>(self, outcome: Result<T, Refused>) -> Result<(Answering, T), Status> {
        match outcome {
            Ok(value) => Ok((self, value)),
            Err(refused) => Err(self.refuse(refused)),
        }
    }

    /// What the task says, up to the answer, or to what `refused` makes of a failure. Ends at the deadline: nobody bounds a
    /// stream from outside.
    pub(crate) fn run<F>(
        self,
        task: &Arc<dyn Task>,
        query: Query,
        refused: F,
    ) -> impl Stream<Item = Result<Delta, Status>> + Send + use<F>
    where
        F: Fn(Failure) -> Refused + Send + Clone,
    {
        let deadline = self.deadline;
        let deltas = self.span.in_scope(|| Arc::clone(task).answer(query, Context { deadline }));
        stream::unfold(Some((self, deltas)), move |answering| {
            let refused = refused.clone();
            async move {
                let (answering, mut deltas) = answering?;
                // A stream is polled wherever its reader happens to be.
                let next = timeout_at(deadline, deltas.next()).instrument(answering.span.clone()).await;
                let refused = match next {
                    Ok(Some(Ok(text @ Delta::Text(_)))) => return Some((Ok(text), Some((answering, deltas)))),
                    Ok(Some(Ok(done @ Delta::Done(..)))) => {
                        answering.ended(Code::Ok);
                        return Some((Ok(done), None));
                    }
                    Ok(Some(Err(failure))) => refused(failure),
                    Ok(None) => Refused::NoAnswer,
                    Err(_) => Refused::Late,
                };
                Some((Err(answering.refuse(refused)), None))
            }
        })
    }

    fn refuse(self, refused: Refused) -> Status {
        let status = Status::from(refused);
        self.ended(status.code());
        status
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // Whoever drops it at the deadline is what bounds the call; the caller reads of the deadline, too.
        let late = || if Instant::now() >= self.deadline { Code::DeadlineExceeded } else { Code::Cancelled };
        let code = self.code.unwrap_or_else(late);
        if self.is_own {
            answered(&self.span, code);
        }
        self.tally.answered(code, self.began.elapsed(), &self.span);
    }
}
