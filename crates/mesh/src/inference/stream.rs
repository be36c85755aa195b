//! `ModelStreamInfer`: one reply a request, in the order of the requests.

use std::future::Future;

use bytes::Bytes;
use consilium_proto::{inference as oip, raw};
use futures::{Stream, StreamExt, future};
use http::Extensions;
use tokio::{
    task::JoinError,
    time::{Instant, sleep_until},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tonic::{Status, metadata::MetadataMap};

use crate::{
    Deadline,
    layer::{
        deadline::{self, Deadlines},
        shed::Room,
    },
};

/// Requests of one stream that are worked on at the same time.
pub const MOST_AT_ONCE: usize = 16;

/// How one stream is to be served.
#[derive(Debug, Clone)]
pub struct Streaming {
    /// The client asked, by metadata `triton_grpc_error: true`, that an error ends the stream with its status. Otherwise
    /// it is a reply like others and the stream goes on.
    pub errors_end_it: bool,
    /// When it is cancelled, no more requests are taken; those that were are answered, and the stream ends well.
    pub end: CancellationToken,
    /// The client's own bound of the whole stream. Unlike a call's it has no maximum: a stream may be open for days.
    pub until: Option<Instant>,
    /// Where each request takes a call's place while it is worked on. `None` outside of `serve`: unbounded.
    room: Option<Room>,
}

impl Streaming {
    /// As the stream's request has it in its metadata and extensions; `end` is the server's `long_streams`.
    pub fn of(metadata: &MetadataMap, extensions: &Extensions, end: CancellationToken) -> Self {
        let errors_end_it = metadata.get("triton_grpc_error").is_some_and(|value| value == "true");
        // A malformed timeout has been refused before this is asked.
        let timeout = deadline::asked(metadata.as_ref()).ok().flatten();
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self { errors_end_it, end, until, room: extensions.get().cloned() }
    }

    /// When a request of this stream that is taken `now` must have been answered.
    pub fn deadline(&self, deadlines: Deadlines, now: Instant) -> Deadline {
        Deadline::new(match self.until {
            Some(until) => until.min(now + deadlines.max),
            None => now + deadlines.default.min(deadlines.max),
        })
    }
}

/// A request that a stream carries.
pub trait Asked {
    /// The client's own name for it, by which an error is told to whom it belongs.
    fn id(&self) -> String;
}

impl Asked for oip::ModelInferRequest {
    fn id(&self) -> String {
        self.id.clone()
    }
}

/// An encoded one.
impl Asked for Bytes {
    fn id(&self) -> String {
        raw::Envelope::of(self).map(|envelope| envelope.id).unwrap_or_default()
    }
}

/// The replies to `requests`, in their order, [`MOST_AT_ONCE`] of them in the making. `answer` makes a reply of a
/// request, `error` one of a request's id and its failure (see [`Streaming::errors_end_it`]).
///
/// Each answer is made in a task of its own, which ends with the stream: a transport that waits for its reader does not
/// poll the stream, and deadlines must hold nevertheless. A request has a call's place until its reply is handed over.
///
/// An error of `requests` itself ends the stream with its status, after the replies to what came before: nothing can
/// follow a message that could not be read.
pub fn replies<M, R, F>(
    requests: impl Stream<Item = Result<M, Status>> + Send + 'static,
    streaming: Streaming,
    answer: impl Fn(M) -> F + Send + Sync + 'static,
    error: fn(&str, &Status) -> R,
) -> impl Stream<Item = Result<R, Status>> + Send + 'static
where
    M: Asked + Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<R, Status>> + Send + 'static,
{
    let Streaming { errors_end_it, end, until, room } = streaming;
    let tasks = TaskTracker::new();
    let answering = move |request: Result<M, Status>| {
        let begun = request.map(|request| {
            let id = request.id();
            let place = room.as_ref().map(Room::enter).transpose();
            (id, place.map(|place| (place, AbortOnDropHandle::new(tasks.spawn(answer(request))))))
        });
        async move {
            let (id, work) = match begun {
                Ok(begun) => begun,
                Err(unreadable) => return (Err(unreadable), None),
            };
            let (reply, place) = match work {
                Ok((place, task)) => (task.await.unwrap_or_else(unfinished), place),
                Err(full) => (Err(full), None),
            };
            (reply.or_else(|status| if errors_end_it { Err(status) } else { Ok(error(&id, &status)) }), place)
        }
    };
    let over = async move {
        match until {
            Some(until) => sleep_until(until).await,
            None => future::pending().await,
        }
    };
    // After a message that cannot be read, what looks like further ones is not to be trusted.
    let until_unreadable = |unreadable: &mut bool, request: Result<M, Status>| {
        let request = (!*unreadable).then_some(request);
        *unreadable = matches!(request, None | Some(Err(_)));
        future::ready(request)
    };
    let requests = requests.take_until(end.cancelled_owned()).scan(false, until_unreadable);
    let replies = requests.map(answering).buffered(MOST_AT_ONCE).map(|(reply, _place)| reply);
    // The first error drops everything that is still in the making.
    futures::stream::unfold(Some((Box::pin(replies), Box::pin(over))), |open| async move {
        let (mut replies, mut over) = open?;
        let reply = tokio::select! {
            biased;
            reply = replies.next() => reply?,
            () = &mut over => Err(deadline::exceeded()),
        };
        let open = reply.is_ok().then_some((replies, over));
        Some((reply, open))
    })
}

/// A panic goes on where the stream is polled, as if the answer had been made there: the layers around know what to do.
fn unfinished<R>(error: JoinError) -> Result<R, Status> {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(Status::unavailable("the runtime has been shut down")),
    }
}

/// A reply as streams carry it. It is the only one to its request, and says so.
pub fn stream_reply(mut reply: oip::ModelInferResponse) -> oip::ModelStreamInferResponse {
    let last = oip::infer_parameter::ParameterChoice::BoolParam(true);
    reply.parameters.insert(raw::FINAL.to_owned(), oip::InferParameter { parameter_choice: Some(last) });
    oip::ModelStreamInferResponse { error_message: String::new(), infer_response: Some(reply) }
}

/// A failure as streams carry it, with the id of the request that it belongs to.
pub fn stream_error(id: &str, status: &Status) -> oip::ModelStreamInferResponse {
    let reply = oip::ModelInferResponse { id: id.to_owned(), ..oip::ModelInferResponse::default() };
    oip::ModelStreamInferResponse { error_message: raw::error_message(status), infer_response: Some(reply) }
}

#[cfg(test)]
mod tests;
