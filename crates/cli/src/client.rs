//! Talking to a running mesh: the calls that the commands need, and every way they can fail in words for people.

use std::time::Duration;

use consilium_mesh::{dial, errors};
use consilium_proto::{
    client::{catalog_service_client::CatalogServiceClient, router_service_client::RouterServiceClient},
    v1,
};
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    args,
    error::{Answered, Error, Trouble},
    tls, view,
};

/// A connection to a router; made with the first call.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    peer: Peer,
    channel: Channel,
}

/// Whom errors speak of.
#[derive(Debug, Clone)]
struct Peer {
    address: String,
    tls: bool,
}

/// A query and how to ask it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) query: v1::Query,
    pub(crate) context: v1::CallContext,
    pub(crate) options: v1::DispatchOptions,
    /// `None` leaves it to the mesh.
    pub(crate) deadline: Option<Duration>,
}

impl Client {
    pub(crate) fn new(target: &dial::Target) -> Result<Self, Error> {
        let peer = Peer { address: target.address.clone(), tls: target.tls.is_some() };
        let what = if peer.tls { "address or the certificates for it" } else { "address" };
        let channel = dial::channel(target)
            .map_err(|error| Error::Usage(Trouble::of(format!("the router's {what} cannot be used"), &error)))?;
        Ok(Self { peer, channel })
    }

    /// The router of the command line.
    pub(crate) fn of(router: &args::Router) -> Result<Self, Error> {
        Self::new(&tls::target(router)?).map_err(|error| tls::in_flags(error, router))
    }

    /// Whether the router says of itself that it is ready; UNAVAILABLE when it is not. Where something in between does not
    /// let the question through, the router is taken at its next answer.
    ///
    /// # Errors
    /// Also where nothing at all is said `within` this time.
    pub(crate) async fn ready(&self, within: Duration) -> Result<(), Error> {
        let mut health = HealthClient::new(self.channel.clone());
        let check = self.heard(within, health.check(HealthCheckRequest::default())).await?;
        let status = match check.map(|reply| reply.into_inner().status()) {
            Ok(ServingStatus::Serving) => return Ok(()),
            Ok(_) => Status::unavailable("the router is not ready"),
            Err(status) if status.code() == Code::Unavailable => status,
            Err(_) => return Ok(()),
        };
        Err(self.error(&status, Limit::new(None)))
    }

    pub(crate) async fn dispatch(&self, call: Call) -> Result<view::Dispatch, Error> {
        let Call { query, context, options, deadline } = call;
        let message = v1::DispatchRequest { query: Some(query), context: Some(context), options: Some(options) };
        let limit = Limit::new(deadline);
        let mut router = self.router();
        let reply = self.within(limit, router.dispatch(request(message, limit))).await?;
        Ok(view::Dispatch::new(reply.into_inner(), limit.since.elapsed()))
    }

    pub(crate) async fn stream(&self, call: Call) -> Result<Events, Error> {
        let Call { query, context, options, deadline } = call;
        let message = v1::StreamDispatchRequest { query: Some(query), context: Some(context), options: Some(options) };
        let limit = Limit::new(deadline);
        let reply = self.router().stream_dispatch(request(message, limit)).await;
        let stream = reply.map_err(|it| self.error(&it, limit))?.into_inner();
        Ok(Events { client: self.clone(), stream, limit })
    }

    pub(crate) async fn explain(&self, call: Call) -> Result<view::Explanation, Error> {
        let Call { query, context, options, deadline } = call;
        let message = v1::ExplainRequest { query: Some(query), context: Some(context), options: Some(options) };
        let limit = Limit::new(deadline);
        let reply = self.router().explain(request(message, limit)).await.map_err(|it| self.error(&it, limit))?;
        Ok(reply.into_inner().into())
    }

    /// Says of the answer that came with `token` how good it was.
    pub(crate) async fn feedback(
        &self,
        token: &str,
        metrics: Vec<v1::send_feedback_request::Metric>,
        deadline: Option<Duration>,
    ) -> Result<view::Accepted, Error> {
        let message = v1::SendFeedbackRequest { token: token.to_owned(), metrics };
        let limit = Limit::new(deadline);
        let reply = self.router().send_feedback(request(message, limit)).await;
        let v1::SendFeedbackResponse {} = reply.map_err(|it| self.error(&it, limit))?.into_inner();
        Ok(view::Accepted {})
    }

    /// # Errors
    /// Also where nothing at all is said `within` this time.
    pub(crate) async fn experts(&self, within: Option<Duration>) -> Result<view::Catalog, Error> {
        let mut catalog = self.catalog();
        let call = catalog.list_experts(v1::ListExpertsRequest {});
        let reply = match within {
            Some(within) => self.heard(within, call).await?,
            None => call.await,
        };
        let reply = reply.map_err(|it| self.error(&it, Limit::new(None)))?;
        Ok(reply.into_inner().catalog.unwrap_or_default().into())
    }

    pub(crate) async fn watch(&self) -> Result<Catalogs, Error> {
        let reply = self.catalog().watch_experts(v1::WatchExpertsRequest {}).await;
        let stream = reply.map_err(|it| self.error(&it, Limit::new(None)))?.into_inner();
        Ok(Catalogs { client: self.clone(), stream })
    }

    fn router(&self) -> RouterServiceClient<Channel> {
        RouterServiceClient::new(self.channel.clone())
            .max_decoding_message_size(consilium_router::MAX_REPLY_BYTES)
            .max_encoding_message_size(dial::MAX_MESSAGE_BYTES)
    }

    fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel.clone()).max_decoding_message_size(dial::MAX_MESSAGE_BYTES)
    }

    /// Ends a call at its limit, wherever it hangs: tonic's own timer only starts once there is a connection.
    async fn within<T>(&self, limit: Limit, call: impl Future<Output = Result<T, Status>>) -> Result<T, Error> {
        let ended = match limit.deadline {
            Some(deadline) => timeout(deadline, call).await,
            None => Ok(call.await),
        };
        let ended = ended.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        ended.map_err(|status| self.error(&status, limit))
    }

    /// How a call ends that any router answers at once.
    ///
    /// # Errors
    /// Only where it does not end `within` this time: then this is no router, as a rule.
    async fn heard<T>(&self, within: Duration, call: impl Future<Output = T>) -> Result<T, Error> {
        timeout(within, call).await.map_err(|_| silent(&self.peer, within))
    }

    fn error(&self, status: &Status, limit: Limit) -> Error {
        explained(status, &self.peer, limit)
    }
}

/// How long a caller wants to wait, and since when.
#[derive(Debug, Clone, Copy)]
struct Limit {
    deadline: Option<Duration>,
    since: Instant,
}

impl Limit {
    /// From now on.
    fn new(deadline: Option<Duration>) -> Self {
        Self { deadline, since: Instant::now() }
    }

    fn has_passed(self) -> bool {
        self.deadline.is_some_and(|deadline| self.since.elapsed() >= deadline)
    }
}

/// The events of one dispatched query.
pub(crate) struct Events {
    client: Client,
    stream: Streaming<v1::StreamDispatchResponse>,
    limit: Limit,
}

impl Events {
    /// `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<view::Event>, Error> {
        loop {
            let message = self.stream.message().await.map_err(|it| self.client.error(&it, self.limit))?;
            let Some(message) = message else { return Ok(None) };
            if let Some(event) = view::Event::new(message) {
                return Ok(Some(event));
            }
        }
    }
}

/// The catalogue, whole, each time that it changes.
pub(crate) struct Catalogs {
    client: Client,
    stream: Streaming<v1::WatchExpertsResponse>,
}

impl Catalogs {
    /// `None` when the router ended the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<view::Catalog>, Error> {
        let message = self.stream.message().await.map_err(|it| self.client.error(&it, Limit::new(None)))?;
        Ok(message.map(|message| message.catalog.unwrap_or_default().into()))
    }
}

fn request<T>(message: T, limit: Limit) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(deadline) = limit.deadline {
        request.set_timeout(deadline);
    }
    request
}

/// A status, in words for people and in the words of the contract.
fn explained(status: &Status, peer: &Peer, limit: Limit) -> Error {
    // tonic says CANCELLED where its own timer fires first; before that, somebody else did.
    let is_late = status.code() == Code::Cancelled && limit.has_passed();
    let code = if is_late { Code::DeadlineExceeded } else { status.code() };
    let (is_usage, trouble) = in_words(status, code, peer, limit.deadline);
    Error::Answered(Box::new(Answered { is_usage, failure: view::CallFailure::new(status, code, &trouble), trouble }))
}

/// Whether the caller did something wrong, and what to tell whoever it is.
fn in_words(status: &Status, code: Code, peer: &Peer, deadline: Option<Duration>) -> (bool, Trouble) {
    let reason = errors::reason(status);
    // Statuses that tonic makes at this end carry a cause and no reason of ours.
    let made_here = reason.is_none() && std::error::Error::source(status).is_some();
    match code {
        // Which code it is depends on when exactly the other end hangs up.
        code if made_here && code != Code::DeadlineExceeded => (false, no_answer(status, peer)),
        Code::DeadlineExceeded => {
            let headline = match deadline {
                Some(deadline) => format!("no answer within {}", humantime::format_duration(deadline)),
                None => "no answer within the mesh's deadline".to_owned(),
            };
            let hint = "--deadline gives it more time, for example --deadline 5s";
            (false, Trouble::new(headline).with_hint(hint))
        }
        Code::InvalidArgument => {
            let violations = errors::violations(status);
            let details: Vec<String> = violations.iter().map(|it| format!("{}: {}", it.field, it.problem)).collect();
            // The message repeats the violations, for callers that read nothing else.
            let headline = if details.is_empty() { status.message() } else { "the router does not take this" };
            (true, Trouble { details, ..Trouble::new(headline) })
        }
        Code::NotFound => {
            (true, Trouble::new(status.message()).with_hint("consilium experts lists who is in the mesh"))
        }
        code => {
            let reason = reason.unwrap_or_else(|| format!("{code:?}"));
            let message = if status.message().is_empty() { code.description() } else { status.message() };
            let trouble = Trouble::new(message).with_detail(reason);
            let trouble = match errors::retry_after(status) {
                Some(after) if after.is_zero() => trouble.with_hint("worth another try at once"),
                Some(after) => trouble.with_hint(format!("worth another try in {}", humantime::format_duration(after))),
                None => trouble,
            };
            (false, trouble)
        }
    }
}

/// Nobody took the call. Where nobody listens that is all there is to say; of TLS more can be wrong, and only the cause says
/// what. Whoever is there and hangs up on plaintext serves TLS, as a rule.
fn no_answer(status: &Status, peer: &Peer) -> Trouble {
    let Peer { address, tls } = peer;
    let is_there = status.code() != Code::Unavailable;
    let headline = if is_there { format!("{address} hangs up") } else { format!("no router answers at {address}") };
    let trouble = match std::error::Error::source(status) {
        Some(cause) if *tls || is_there => Trouble::of(headline, cause),
        _ => Trouble::new(headline),
    };
    match (tls, is_there) {
        (true, _) => trouble.with_hint(
            "does it run and serve TLS, does --ca know its certificate, and does it want to see one (--certificate, --key)?",
        ),
        (false, true) => {
            trouble.with_hint(format!("is it a router? if it serves TLS, say --router https://{address}"))
        }
        (false, false) => trouble.with_hint("is it running? start it with: consilium up meshes/clinic/mesh.yaml"),
    }
}

/// Somebody is there, and says nothing.
fn silent(peer: &Peer, within: Duration) -> Error {
    let Peer { address, tls } = peer;
    let within = humantime::format_duration(Duration::from_millis(within.as_millis().try_into().unwrap_or(u64::MAX)));
    let hint = if *tls {
        "is it a router, and does it serve TLS?".to_owned()
    } else {
        format!("is it a router? if it serves TLS, say --router https://{address}")
    };
    let trouble = Trouble::new(format!("{address} says nothing")).with_detail(format!("in {within}")).with_hint(hint);
    let code = Code::DeadlineExceeded;
    let failure = view::CallFailure::new(&Status::deadline_exceeded("nothing said"), code, &trouble);
    Error::Answered(Box::new(Answered { is_usage: false, trouble, failure }))
}

#[cfg(test)]
mod tests {
    use consilium_mesh::errors::Refusal;

    use super::*;

    fn read(status: impl Into<Status>) -> (u8, Trouble) {
        let error = ended(&status.into(), Limit::new(Some(Duration::from_millis(1500))));
        (error.exit_code(), error.trouble())
    }

    fn ended(status: &Status, limit: Limit) -> Error {
        explained(status, &Peer { address: "127.0.0.1:7600".to_owned(), tls: false }, limit)
    }

    #[tokio::test]
    async fn a_router_that_is_not_there_is_said_to_be_not_there() {
        // Bound and dropped: nobody listens at this port.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let error = Client::new(&dial::Target::plain(&address)).unwrap().experts(None).await.unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(error.trouble().headline, format!("no router answers at {address}"));
        assert!(error.trouble().hint.unwrap().contains("consilium up"));
    }

    #[test]
    fn what_the_caller_did_wrong_is_listed_field_by_field() {
        let refusal = Refusal::new(Code::InvalidArgument, "INVALID_REQUEST", "two things are wrong")
            .with_violation("query.attributes[planet]", "the mesh declares no such dimension")
            .with_violation("options.top_k", "is 99; expected 1 to 16");
        let (code, trouble) = read(refusal);
        assert_eq!(code, 2);
        assert_eq!(
            trouble.details,
            ["query.attributes[planet]: the mesh declares no such dimension", "options.top_k: is 99; expected 1 to 16",]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_call_was_late_only_where_its_deadline_has_passed() {
        let code = |limit| ended(&Status::cancelled("Timeout expired"), limit).failure().code.unwrap();
        let (limited, unlimited) = (Limit::new(Some(Duration::from_millis(300))), Limit::new(None));
        tokio::time::advance(Duration::from_millis(299)).await;
        assert_eq!((code(limited).as_str(), code(unlimited).as_str()), ("CANCELLED", "CANCELLED"));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((code(limited).as_str(), code(unlimited).as_str()), ("DEADLINE_EXCEEDED", "CANCELLED"));
        let said = |limit| ended(&Status::cancelled("the caller went away"), limit).trouble().headline;
        assert_eq!(
            (said(limited).as_str(), said(unlimited).as_str()),
            ("no answer within 300ms", "the caller went away")
        );
    }

    #[test]
    fn the_other_failures_say_what_to_do() {
        let (code, trouble) = read(Status::deadline_exceeded("x"));
        assert_eq!((code, trouble.headline.as_str()), (1, "no answer within 1s 500ms"));

        let shed = Refusal::new(Code::ResourceExhausted, "OVERLOADED", "too many calls")
            .with_retry_after(Duration::from_millis(20));
        let (code, trouble) = read(shed);
        assert_eq!((code, trouble.headline.as_str()), (1, "too many calls"));
        assert_eq!(trouble.details, ["OVERLOADED"]);
        assert_eq!(trouble.hint.unwrap(), "worth another try in 20ms");

        let (code, trouble) = read(Refusal::new(Code::NotFound, "UNKNOWN_EXPERT", "the mesh has no expert x"));
        assert_eq!(code, 2);
        assert!(trouble.hint.unwrap().contains("consilium experts"));

        // The router is there and says that nobody can answer: not the same as no router.
        let (code, trouble) = read(Refusal::new(Code::Unavailable, "NO_LIVE_INSTANCE", "no live instance of general"));
        assert_eq!((code, trouble.headline.as_str()), (1, "no live instance of general"));
    }
}
