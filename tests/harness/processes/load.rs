//! A steady load from outside. Open loop: the next request is sent when it is due, whether or not the ones before it have
//! come back; a closed loop would be slowest exactly when it matters, and would not notice.

use std::{sync::Arc, time::Duration};

use consilium_proto::{
    client::router_service_client::RouterServiceClient,
    v1::{self, answer::Body},
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, transport::Channel};

use super::{Attempt, EXPERT, Id, Ledger, Outcome, QUESTIONS};

/// Requests a second, of each load.
pub(super) const RATE: u32 = 60;
const DEADLINE: Duration = Duration::from_secs(2);
/// The router answers within the deadline; what has not come by then is lost.
const LOST: Duration = Duration::from_secs(5);

/// A load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    sending: JoinSet<()>,
}

impl Load {
    pub fn start(router: &Channel, ledger: &Arc<Ledger>) -> Self {
        let stop = CancellationToken::new();
        let mut sending = JoinSet::new();
        let client = RouterServiceClient::new(router.clone());
        sending.spawn(send(client, Arc::clone(ledger), stop.clone()));
        Self { stop, sending }
    }

    /// Sends no more, and returns when everything that was sent has an outcome.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.sending.join_next().await {
            ended.expect("a load does not panic");
        }
    }
}

async fn send(client: RouterServiceClient<Channel>, ledger: Arc<Ledger>, stop: CancellationToken) {
    let mut due = interval(Duration::from_secs(1) / RATE);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut running = JoinSet::new();
    for (text, passage) in QUESTIONS.into_iter().cycle() {
        tokio::select! {
            _ = due.tick() => {}
            () = stop.cancelled() => break,
        }
        let now = Instant::now();
        let id = ledger.open(now);
        let (client, ledger) = (client.clone(), Arc::clone(&ledger));
        running.spawn(async move {
            let (outcome, attempts) = ask(client, id, (text, passage), now).await;
            ledger.close(id, outcome, attempts, Instant::now());
        });
        while let Some(ended) = running.try_join_next() {
            ended.expect("a request does not panic");
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a request does not panic");
    }
}

async fn ask(
    mut client: RouterServiceClient<Channel>,
    id: Id,
    (text, passage): (&str, &str),
    sent: Instant,
) -> (Outcome, Vec<Attempt>) {
    let query = v1::Query { text: text.to_owned(), ..Default::default() };
    let context = v1::CallContext { request_id: id.to_string(), ..Default::default() };
    let mut request = Request::new(v1::DispatchRequest { query: Some(query), context: Some(context), options: None });
    request.set_timeout(DEADLINE);
    match timeout(LOST, client.dispatch(request)).await {
        Err(_) => (Outcome::Lost(format!("no word after {LOST:?}")), Vec::new()),
        Ok(Err(status)) => (refused(&status), Vec::new()),
        Ok(Ok(response)) => {
            let response = response.into_inner();
            (judge(&response, id, passage), attempts(&response, sent))
        }
    }
}

/// A status with a source was made here, of a connection that broke: the router itself said nothing.
fn refused(status: &Status) -> Outcome {
    match std::error::Error::source(status) {
        Some(source) => Outcome::Lost(format!("{:?}: {source}", status.code())),
        None => Outcome::Failed(status.code()),
    }
}

fn judge(response: &v1::DispatchResponse, id: Id, passage: &str) -> Outcome {
    if response.request_id != id.to_string() {
        return Outcome::Wrong(format!("the answer to {}", response.request_id));
    }
    let experts: Vec<_> = response.replies.iter().map(|reply| reply.expert.as_str()).collect();
    if experts != [EXPERT] {
        let reason = response.decision.as_ref().map_or("", |decision| &decision.reason);
        return Outcome::Wrong(format!("answered by {experts:?}: {reason}"));
    }
    let Some(Body::Passages(found)) = response.answer.as_ref().and_then(|answer| answer.body.as_ref()) else {
        return Outcome::Wrong("an answer without passages".to_owned());
    };
    match found.passages.first() {
        Some(first) if first.id == passage => Outcome::Answered,
        first => Outcome::Wrong(format!("{:?} instead of {passage}", first.map(|first| &first.id))),
    }
}

/// The router counts from when it took the request, which on loopback is when it was sent.
fn attempts(response: &v1::DispatchResponse, sent: Instant) -> Vec<Attempt> {
    let read = |attempt: &v1::Attempt| {
        let began = sent + attempt.start_offset.map(duration).unwrap_or_default();
        let ended = began + attempt.duration.map(duration).unwrap_or_default();
        Attempt { instance: attempt.instance.clone(), code: Code::from(attempt.code), began, ended }
    };
    response.replies.iter().flat_map(|reply| &reply.attempts).map(read).collect()
}

fn duration(duration: impl TryInto<Duration>) -> Duration {
    duration.try_into().unwrap_or_default()
}
