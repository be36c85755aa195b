//! The reply to a dispatched query, whole or event by event.

use std::{collections::BTreeMap, time::Duration};

use consilium_proto::v1;
use serde::Serialize;

use super::{Answer, Decision, milliseconds, ms};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Dispatch {
    pub(crate) request_id: String,
    pub(crate) decision: Decision,
    pub(crate) replies: Vec<Reply>,
    pub(crate) answer: Option<Answer>,
    pub(crate) partial: bool,
    pub(crate) feedback_token: String,
    /// From sending to receiving, as this program saw it. Not in the proto.
    pub(crate) round_trip_ms: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Reply {
    pub(crate) expert: String,
    pub(crate) version: String,
    pub(crate) instance: String,
    pub(crate) answer: Option<Answer>,
    pub(crate) failure: Option<Failure>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) timings: Option<Timings>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Failure {
    /// The gRPC code's number.
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) retry_after_ms: Option<f64>,
    pub(crate) metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Attempt {
    pub(crate) instance: String,
    pub(crate) code: i32,
    pub(crate) start_offset_ms: Option<f64>,
    pub(crate) duration_ms: Option<f64>,
    pub(crate) hedge: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are what JSON readers see, and there the unit belongs")]
pub(crate) struct Timings {
    pub(crate) tokenize_ms: Option<f64>,
    pub(crate) queue_ms: Option<f64>,
    pub(crate) inference_ms: Option<f64>,
    pub(crate) total_ms: Option<f64>,
}

/// One event of a stream: one key, as in the proto's `oneof event`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    Decision(Decision),
    Delta(TextDelta),
    Reply(Box<Reply>),
    Done(Done),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TextDelta {
    pub(crate) leg: u32,
    pub(crate) text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Done {
    pub(crate) request_id: String,
    pub(crate) answer: Option<Answer>,
    pub(crate) partial: bool,
    pub(crate) feedback_token: String,
}

/// The reply to feedback, which says nothing but that it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Accepted {}

impl Dispatch {
    pub(crate) fn new(reply: v1::DispatchResponse, round_trip: Duration) -> Self {
        Self {
            request_id: reply.request_id,
            decision: reply.decision.unwrap_or_default().into(),
            replies: reply.replies.into_iter().map(Reply::from).collect(),
            answer: reply.answer.map(Answer::from),
            partial: reply.partial,
            feedback_token: reply.feedback_token,
            round_trip_ms: milliseconds(round_trip),
        }
    }

    /// The reply that the answer comes from.
    pub(crate) fn answered(&self) -> Option<&Reply> {
        self.replies.iter().find(|reply| reply.answer.is_some())
    }
}

impl Reply {
    /// How long the attempt took that ended last, as the router saw it.
    pub(crate) fn call_ms(&self) -> Option<f64> {
        self.attempts.last()?.duration_ms
    }
}

impl Event {
    /// `None` for an event that this version of the contract does not know.
    pub(crate) fn new(message: v1::StreamDispatchResponse) -> Option<Self> {
        use v1::stream_dispatch_response::Event as Message;
        Some(match message.event? {
            Message::Decision(it) => Event::Decision(it.into()),
            Message::Delta(it) => Event::Delta(TextDelta { leg: it.leg, text: it.text }),
            Message::Reply(it) => Event::Reply(Box::new(it.into())),
            Message::Done(it) => Event::Done(Done {
                request_id: it.request_id,
                answer: it.answer.map(Answer::from),
                partial: it.partial,
                feedback_token: it.feedback_token,
            }),
        })
    }
}

impl From<v1::Reply> for Reply {
    fn from(reply: v1::Reply) -> Self {
        let (answer, failure) = match reply.result {
            Some(v1::reply::Result::Answer(answer)) => (Some(answer.into()), None),
            Some(v1::reply::Result::Failure(failure)) => (None, Some(failure.into())),
            None => (None, None),
        };
        let attempt = |attempt: v1::Attempt| Attempt {
            instance: attempt.instance,
            code: attempt.code,
            start_offset_ms: ms(attempt.start_offset),
            duration_ms: ms(attempt.duration),
            hedge: attempt.hedge,
        };
        Self {
            expert: reply.expert,
            version: reply.version,
            instance: reply.instance,
            answer,
            failure,
            attempts: reply.attempts.into_iter().map(attempt).collect(),
            timings: reply.timings.map(Timings::from),
        }
    }
}

impl From<v1::Failure> for Failure {
    fn from(failure: v1::Failure) -> Self {
        Self {
            code: failure.code,
            reason: failure.reason,
            message: failure.message,
            retry_after_ms: ms(failure.retry_after),
            metadata: failure.metadata.into_iter().collect(),
        }
    }
}

impl From<v1::Timings> for Timings {
    fn from(timings: v1::Timings) -> Self {
        Self {
            tokenize_ms: ms(timings.tokenize),
            queue_ms: ms(timings.queue),
            inference_ms: ms(timings.inference),
            total_ms: ms(timings.total),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::view::samples;

    #[test]
    fn a_dispatched_query_keeps_the_names_of_the_proto() {
        let json = serde_json::to_value(Dispatch::new(samples::dispatched(), Duration::from_micros(12_345))).unwrap();
        assert_eq!(json["round_trip_ms"], 12.345);
        assert_eq!(json["decision"]["outcome"], "dispatched");
        assert_eq!(json["decision"]["candidates"][0]["probability"], 0.97);
        assert_eq!(json["decision"]["elapsed_ms"], 3.1);
        assert_eq!(json["replies"][0]["timings"]["inference_ms"], 6.4);
        assert_eq!(
            json["replies"][0]["attempts"][0],
            json!({
                "instance": "di-1", "code": 0, "start_offset_ms": 3.2, "duration_ms": 8.1, "hedge": false,
            })
        );
        let mut names: Vec<_> = json.as_object().unwrap().keys().collect();
        names.sort();
        let expected = ["answer", "decision", "feedback_token", "partial", "replies", "request_id", "round_trip_ms"];
        assert_eq!(names, expected);
    }

    #[test]
    fn an_event_is_one_key() {
        let done = v1::StreamDispatchResponse {
            event: Some(v1::stream_dispatch_response::Event::Delta(v1::TextDelta { leg: 1, text: "ab".into() })),
        };
        let json = serde_json::to_value(Event::new(done).unwrap()).unwrap();
        assert_eq!(json, json!({"delta": {"leg": 1, "text": "ab"}}));
        assert_eq!(Event::new(v1::StreamDispatchResponse { event: None }), None);
    }
}
