//! Where a pipeline's events go: collected for a unary reply, or forwarded as they come.

use std::{sync::Arc, time::SystemTime};

use consilium_mesh::errors::REQUEST_ID;
use consilium_proto::v1::{self, stream_dispatch_response::Event};
use tokio::sync::mpsc;
use tonic::{Status, metadata::MetadataValue};

use super::encode;
use crate::{
    admission::{MAX_REQUEST_ID_BYTES, Request},
    call::Reply,
    combine::Merged,
    error::Error,
    feedback::{Draft, Feedback},
    gate::Decision,
    pipeline::EventSink,
    plan::Plan,
};

/// Everything that happened, for one reply at the end.
#[derive(Debug)]
pub(super) struct Collect {
    response: v1::DispatchResponse,
    plan: Option<v1::Plan>,
    draft: Option<Draft>,
}

impl Collect {
    /// With a token for `feedback`, where there is any.
    pub(super) fn new(request: &Request, feedback: Option<Arc<Feedback>>) -> Self {
        let response = v1::DispatchResponse { request_id: request.id.clone(), ..Default::default() };
        Self { response, plan: None, draft: feedback.map(|feedback| Draft::new(feedback, request)) }
    }

    pub(super) fn failed(&self, error: Error) -> Status {
        failed(&self.response.request_id, error)
    }

    pub(super) fn into_response(self) -> v1::DispatchResponse {
        self.response
    }

    pub(super) fn into_explanation(self) -> v1::ExplainResponse {
        let v1::DispatchResponse { request_id, decision, .. } = self.response;
        v1::ExplainResponse { request_id, decision, plan: self.plan }
    }
}

impl EventSink for Collect {
    const WANTS_TEXT: bool = false;

    async fn decided(&mut self, decision: &Decision, plan: &Plan) -> Result<(), Error> {
        self.response.decision = Some(encode::decision(decision));
        self.plan = Some(encode::plan(plan));
        if let Some(draft) = &mut self.draft {
            draft.decided(decision, plan);
        }
        Ok(())
    }

    async fn text(&mut self, _: usize, _: String) -> Result<(), Error> {
        Ok(())
    }

    async fn replied(&mut self, reply: &Reply) -> Result<(), Error> {
        self.response.replies.push(encode::reply(reply));
        if let Some(draft) = &mut self.draft {
            draft.replied(reply);
        }
        Ok(())
    }

    async fn done(&mut self, merged: Option<Merged>) -> Result<(), Error> {
        self.response.feedback_token = token(self.draft.take(), merged.as_ref());
        if let Some(merged) = merged {
            self.response.answer = Some(merged.answer.into_message());
            self.response.partial = merged.partial;
        }
        Ok(())
    }
}

/// Sends every event on at once. A caller who reads slowly slows the legs down, one who goes away ends them.
#[derive(Debug)]
pub(super) struct Forward {
    request_id: String,
    draft: Option<Draft>,
    events: mpsc::Sender<Result<v1::StreamDispatchResponse, Status>>,
}

impl Forward {
    /// With a token for `feedback`, where there is any.
    pub(super) fn new(
        request: &Request,
        feedback: Option<Arc<Feedback>>,
        events: mpsc::Sender<Result<v1::StreamDispatchResponse, Status>>,
    ) -> Self {
        let draft = feedback.map(|feedback| Draft::new(feedback, request));
        Self { request_id: request.id.clone(), draft, events }
    }

    /// What makes a status of an error; needs no access to the sink, which the pipeline has then.
    pub(super) fn failures(&self) -> impl Fn(Error) -> Status + Send + use<> {
        let request_id = self.request_id.clone();
        move |error| failed(&request_id, error)
    }

    async fn send(&self, event: Event) -> Result<(), Error> {
        let message = v1::StreamDispatchResponse { event: Some(event) };
        self.events.send(Ok(message)).await.map_err(|_| Error::Gone)
    }
}

impl EventSink for Forward {
    const WANTS_TEXT: bool = true;

    async fn decided(&mut self, decision: &Decision, plan: &Plan) -> Result<(), Error> {
        if let Some(draft) = &mut self.draft {
            draft.decided(decision, plan);
        }
        self.send(Event::Decision(encode::decision(decision))).await
    }

    async fn text(&mut self, leg: usize, text: String) -> Result<(), Error> {
        let leg = u32::try_from(leg).unwrap_or(u32::MAX);
        self.send(Event::Delta(v1::TextDelta { leg, text })).await
    }

    async fn replied(&mut self, reply: &Reply) -> Result<(), Error> {
        if let Some(draft) = &mut self.draft {
            draft.replied(reply);
        }
        self.send(Event::Reply(encode::reply(reply))).await
    }

    async fn done(&mut self, merged: Option<Merged>) -> Result<(), Error> {
        let feedback_token = token(self.draft.take(), merged.as_ref());
        let mut done = v1::Done { request_id: self.request_id.clone(), feedback_token, ..Default::default() };
        if let Some(merged) = merged {
            done.answer = Some(merged.answer.into_message());
            done.partial = merged.partial;
        }
        self.send(Event::Done(done)).await
    }
}

/// The token of the answer that is given now, or of the refusal; empty where the mesh asks for no feedback.
fn token(draft: Option<Draft>, merged: Option<&Merged>) -> String {
    draft.map(|draft| draft.token(merged, SystemTime::now())).unwrap_or_default()
}

/// The error's status, with the request's id so that a caller's report can be found again; without, where it is not known.
pub(super) fn failed(request_id: &str, error: Error) -> Status {
    let mut status = Status::from(error);
    // An id that is too long or not ASCII is itself what was wrong; repeated in a header it would do harm.
    if (1..=MAX_REQUEST_ID_BYTES).contains(&request_id.len())
        && request_id.is_ascii()
        && let Ok(id) = MetadataValue::try_from(request_id)
    {
        status.metadata_mut().insert(REQUEST_ID, id);
    }
    status
}
