//! Step 5: runs the plan. Stages one after the other until one satisfies, the legs of a stage side by side, the
//! attempts of a leg on different instances. Only this folder knows retries.

mod leg;
mod retry;
mod watch;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use consilium_gate::Vector;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::Instant};
use tonic::Code;
use tower::retry::budget::TpsBudget;

use self::leg::Ran;
use crate::{
    admission::Admitted,
    catalog::Catalog,
    error::{Error, Failure},
    metrics::Metrics,
    pipeline::EventSink,
    plan::{Leg, Plan, RESERVE, Turn},
    wire::{Answer, Ask, Inferred, Question, Texts, Timings, Voice},
};

/// Pieces of text that experts may be ahead of a caller who reads slowly.
const TEXTS_AHEAD: usize = 16;

/// What became of one leg.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// Position in the plan.
    pub(crate) leg: usize,
    pub(crate) expert: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) instance: Option<String>,
    pub(crate) result: Result<Answer, Failure>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) timings: Option<Timings>,
}

/// One try on one instance.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) instance: String,
    pub(crate) code: Code,
    /// Since the router took the request.
    pub(crate) start_offset: Duration,
    pub(crate) duration: Duration,
}

/// When a request came, and when it must be over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) received: Instant,
    pub(crate) deadline: Instant,
}

/// What every leg of a query shares.
struct Shared<'a> {
    admitted: &'a Admitted,
    vector: Option<&'a Vector>,
    /// Where pieces of text go; `None` when nobody wants them.
    texts: Option<Texts>,
}

/// Calls experts. One per router: the retry budget is shared by all requests, so that a failing mesh is not
/// hit twice as hard.
pub(crate) struct Caller {
    catalog: Arc<ArcSwap<Catalog>>,
    metrics: Metrics,
    retries: TpsBudget,
    max_message_bytes: usize,
}

impl Caller {
    pub(crate) fn new(catalog: Arc<ArcSwap<Catalog>>, metrics: Metrics, max_message_bytes: usize) -> Self {
        // At most one retry for five calls over ten seconds, and ten a second where there is little traffic.
        let retries = TpsBudget::new(Duration::from_secs(10), 10, 0.2);
        Self { catalog, metrics, retries, max_message_bytes }
    }

    /// Runs stages until there is an answer that nobody is to better, or a failure that no other expert would mend.
    pub(crate) async fn run<E: EventSink>(
        &self,
        plan: &Plan,
        admitted: &Admitted,
        vector: Option<&Vector>,
        events: &mut E,
    ) -> Result<Vec<Reply>, Error> {
        let mut replies = Vec::new();
        for stage in &plan.stages {
            let (texts, mut pieces) = mpsc::channel(TEXTS_AHEAD);
            let shared = Shared { admitted, vector, texts: E::WANTS_TEXT.then_some(texts) };
            let due = stage.legs.iter().filter(|leg| is_due(leg, &replies, admitted.deadline()));
            let mut legs: FuturesUnordered<_> = due.map(|leg| self.query(leg, &shared)).collect();
            loop {
                tokio::select! {
                    biased; // A leg's text comes before its reply.
                    Some((leg, text)) = pieces.recv() => events.text(leg, text).await?,
                    reply = legs.next() => {
                        let Some(reply) = reply else { break };
                        while let Ok((leg, text)) = pieces.try_recv() {
                            events.text(leg, text).await?;
                        }
                        events.replied(&reply).await?;
                        replies.push(reply);
                    }
                }
            }
        }
        Ok(replies)
    }

    /// Runs one leg by itself.
    pub(crate) async fn run_one<A: Ask>(&self, leg: &Leg, times: Times, ask: &A) -> Result<A::Answer, Error> {
        let failed = |failure| Error::Failed { expert: leg.expert.to_string(), failure: Box::new(failure) };
        self.run_leg(leg, times, ask).await.result.map_err(failed)
    }

    async fn query(&self, leg: &Leg, shared: &Shared<'_>) -> Reply {
        let question = Question {
            expert: &leg.expert,
            payload: shared.admitted.payload(),
            vector: shared.vector,
            voice: shared.texts.clone().map(|texts| Voice::new(leg.index, texts)),
            max_message_bytes: self.max_message_bytes,
        };
        let Ran { instance, result, attempts } = self.run_leg(leg, shared.admitted.times(), &question).await;
        let (result, timings) = match result {
            Ok(Inferred { answer, timings }) => (Ok(answer), timings),
            Err(failure) => (Err(failure), None),
        };
        let (expert, version) = (Arc::clone(&leg.expert), Arc::clone(&leg.version));
        Reply { leg: leg.index, expert, version, instance, result, attempts, timings }
    }
}

/// Whether a leg runs after what the others did.
fn is_due(leg: &Leg, replies: &[Reply], deadline: Instant) -> bool {
    match leg.turn {
        Turn::First => true,
        Turn::Escalation { after, below } => {
            let doubtful = |reply: &Reply| match &reply.result {
                // An answer that does not say how sure it is gives no reason to doubt it.
                Ok(answer) => answer.confidence().is_some_and(|confidence| confidence < below),
                Err(_) => worth_another_expert(reply),
            };
            // Without time to ask, a doubtful answer is better than a failure.
            Instant::now() + RESERVE < deadline && replies.iter().any(|reply| reply.leg == after && doubtful(reply))
        }
        Turn::Reserve => !replies.iter().any(|reply| reply.result.is_ok()) && replies.iter().any(worth_another_expert),
    }
}

/// Whether another expert could do better: not when the query itself was at fault. Time is no reason: a stage's budget
/// leaves the later ones theirs.
fn worth_another_expert(reply: &Reply) -> bool {
    match &reply.result {
        Ok(_) => false,
        Err(failure) => !matches!(
            failure.code,
            Code::InvalidArgument | Code::OutOfRange | Code::PermissionDenied | Code::Unauthenticated
        ),
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("max_message_bytes", &self.max_message_bytes).finish_non_exhaustive()
    }
}
