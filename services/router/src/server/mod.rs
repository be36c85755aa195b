//! The incoming edge: RouterService, CatalogService and the Open Inference Protocol. Decodes requests into the router's own
//! types, runs the pipeline and encodes what it says. Nothing is decided here.

mod catalog;
mod decode;
mod encode;
mod gate_model;
mod inference;
mod repository;
mod sink;

use std::{pin::Pin, sync::Arc, time::SystemTime};

use consilium_mesh::Deadline;
use consilium_proto::v1::{self, router_service_server::RouterService};
use futures::Stream;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use self::sink::{Collect, Forward};
pub(crate) use self::{catalog::Catalogs, gate_model::GateModel, inference::Inference, repository::Surveys};
use crate::{
    error::Error,
    feedback::{Feedback, NotTaken},
    pipeline::Pipeline,
};

/// Events that a slow caller of `StreamDispatch` may leave unread before its legs wait.
const EVENTS_AHEAD: usize = 16;

/// The router's front door.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    pub(crate) pipeline: Arc<Pipeline>,
    /// Where the mesh asks for any.
    pub(crate) feedback: Option<Arc<Feedback>>,
    /// Owns what runs for streams.
    pub(crate) tasks: TaskTracker,
}

#[tonic::async_trait]
impl RouterService for Router {
    async fn dispatch(&self, request: Request<v1::DispatchRequest>) -> Result<Response<v1::DispatchResponse>, Status> {
        let deadline = Deadline::of(request.extensions()).map(Deadline::instant);
        let v1::DispatchRequest { query, context, options } = request.into_inner();
        let request = decode::request(query, context, options, deadline)?;
        let mut events = Collect::new(&request, self.feedback.clone());
        self.pipeline.dispatch(request, &mut events).await.map_err(|error| events.failed(error))?;
        Ok(Response::new(events.into_response()))
    }

    type StreamDispatchStream = Pin<Box<dyn Stream<Item = Result<v1::StreamDispatchResponse, Status>> + Send>>;

    async fn stream_dispatch(
        &self,
        request: Request<v1::StreamDispatchRequest>,
    ) -> Result<Response<Self::StreamDispatchStream>, Status> {
        let deadline = Deadline::of(request.extensions()).map(Deadline::instant);
        let v1::StreamDispatchRequest { query, context, options } = request.into_inner();
        let request = decode::request(query, context, options, deadline)?;
        let (send, events) = mpsc::channel(EVENTS_AHEAD);
        // Kept free for the last word: a stream that ends without one looks like a success.
        let last = send.clone().reserve_owned().await.map_err(|_| Status::cancelled("the caller went away"))?;
        let pipeline = Arc::clone(&self.pipeline);
        let feedback = self.feedback.clone();
        let work = async move {
            let mut sink = Forward::new(&request, feedback, send.clone());
            let failed = sink.failures();
            // The deadline layer leaves streams alone. The pipeline keeps to the deadline by itself, unless it waits for
            // a caller who does not read.
            let outcome = tokio::select! {
                outcome = pipeline.dispatch(request, &mut sink) => outcome,
                () = send.closed() => return,
                () = passed(deadline) => Err(Error::DeadlineExceeded),
            };
            if let Err(error) = outcome {
                last.send(Err(failed(error)));
            }
        };
        // The task outlives this method, and the call does too.
        self.tasks.spawn(work.in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainResponse>, Status> {
        let deadline = Deadline::of(request.extensions()).map(Deadline::instant);
        let v1::ExplainRequest { query, context, options } = request.into_inner();
        let request = decode::request(query, context, options, deadline)?;
        let mut events = Collect::new(&request, None);
        self.pipeline.explain(request, &mut events).await.map_err(|error| events.failed(error))?;
        Ok(Response::new(events.into_explanation()))
    }

    async fn send_feedback(
        &self,
        request: Request<v1::SendFeedbackRequest>,
    ) -> Result<Response<v1::SendFeedbackResponse>, Status> {
        let feedback = self.feedback.as_ref().ok_or(Error::NoFeedback)?;
        let taken = feedback.take(decode::feedback(request.into_inner()), SystemTime::now()).await;
        taken.map_err(|NotTaken { request_id, error }| sink::failed(&request_id, error))?;
        Ok(Response::new(v1::SendFeedbackResponse {}))
    }
}

/// Returns once the deadline has passed; never, where there is none.
async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
