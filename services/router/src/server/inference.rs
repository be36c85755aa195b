//! GRPCInferenceService, the Open Inference Protocol: the mesh's own name is the gate's model, every other name is an
//! expert's or one of its models', and whoever has it answers. What goes to an expert is passed on unopened, and so is what
//! comes back.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use consilium_mesh::{
    Deadline,
    errors::Refusal,
    health::Readiness,
    inference::{Streaming, replies, server_metadata},
    serve::Deadlines,
    telemetry::span::answered,
};
use consilium_proto::{
    inference as oip,
    raw::{self, Envelope},
};
use futures::Stream;
use prost::Message;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tracing::{Instrument, Span};

use super::{
    gate_model::GateModel,
    repository::{self, Surveys},
};
use crate::{
    error::Error,
    spans,
    wire::{About, Ask, Tensors},
};

/// The router as an inference server.
#[derive(Debug, Clone)]
pub(crate) struct Inference {
    pub(crate) gate: GateModel,
    pub(crate) surveys: Surveys,
    pub(crate) readiness: Readiness,
    /// Of the requests on streams.
    pub(crate) deadlines: Deadlines,
    pub(crate) max_message_bytes: usize,
    /// Cancelled when streams are to take no more requests.
    pub(crate) ending: CancellationToken,
}

impl Inference {
    /// The reply to an encoded `ModelInferRequest`.
    async fn infer(&self, request: Bytes, deadline: Option<Instant>) -> Result<Bytes, Status> {
        let Envelope { model_name, model_version, .. } = Envelope::of(&request)?;
        if self.is_gate(&model_name) {
            let reply = self.gate.infer(raw::open(request)?, deadline).await?;
            return Ok(reply.encode_to_vec().into());
        }
        let tensors = Tensors { request, max_message_bytes: self.max_message_bytes };
        Ok(self.gate.pipeline.pass((&model_name, &model_version), deadline, &tensors).await?)
    }

    /// Asks somebody who has it about a model.
    async fn ask<M>(
        &self,
        (name, version): (&str, &str),
        request: Request<M>,
    ) -> Result<<About<M> as Ask>::Answer, Error>
    where
        About<M>: Ask,
    {
        let deadline = deadline(&request);
        self.gate.pipeline.pass((name, version), deadline, &About(request.into_inner())).await
    }

    fn is_gate(&self, name: &str) -> bool {
        name == &*self.gate.name
    }
}

#[tonic::async_trait]
impl raw::Service for Inference {
    async fn server_live(
        &self,
        _: Request<oip::ServerLiveRequest>,
    ) -> Result<Response<oip::ServerLiveResponse>, Status> {
        Ok(Response::new(oip::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<oip::ServerReadyRequest>,
    ) -> Result<Response<oip::ServerReadyResponse>, Status> {
        Ok(Response::new(oip::ServerReadyResponse { ready: self.readiness.is_ready() }))
    }

    async fn server_metadata(
        &self,
        _: Request<oip::ServerMetadataRequest>,
    ) -> Result<Response<oip::ServerMetadataResponse>, Status> {
        Ok(Response::new(server_metadata()))
    }

    async fn model_ready(
        &self,
        request: Request<oip::ModelReadyRequest>,
    ) -> Result<Response<oip::ModelReadyResponse>, Status> {
        let oip::ModelReadyRequest { name, version } = request.get_ref().clone();
        let asked = if self.is_gate(&name) {
            let ready = self.readiness.is_ready();
            self.gate.described(&version).map(|_| oip::ModelReadyResponse { ready })
        } else {
            self.ask((&name, &version), request).await
        };
        match asked.map_err(Status::from) {
            Ok(reply) => Ok(Response::new(reply)),
            // Of what nobody has, or nobody can be asked about, it is an answer that it is not ready.
            Err(status) if matches!(status.code(), Code::NotFound | Code::Unavailable) => {
                Ok(Response::new(oip::ModelReadyResponse { ready: false }))
            }
            Err(status) => Err(status),
        }
    }

    async fn model_metadata(
        &self,
        request: Request<oip::ModelMetadataRequest>,
    ) -> Result<Response<oip::ModelMetadataResponse>, Status> {
        let oip::ModelMetadataRequest { name, version } = request.get_ref().clone();
        if self.is_gate(&name) {
            return Ok(Response::new(self.gate.described(&version)?.metadata()));
        }
        Ok(Response::new(self.ask((&name, &version), request).await?))
    }

    async fn model_config(
        &self,
        request: Request<oip::ModelConfigRequest>,
    ) -> Result<Response<oip::ModelConfigResponse>, Status> {
        let oip::ModelConfigRequest { name, version } = request.get_ref().clone();
        if self.is_gate(&name) {
            let config = Some(self.gate.described(&version)?.config());
            return Ok(Response::new(oip::ModelConfigResponse { config }));
        }
        Ok(Response::new(self.ask((&name, &version), request).await?))
    }

    async fn model_infer(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let deadline = deadline(&request);
        self.infer(request.into_inner(), deadline).await.map(Response::new)
    }

    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        request: Request<tonic::Streaming<Bytes>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let streaming = Streaming::of(request.metadata(), request.extensions(), self.ending.clone());
        let (this, deadlines, stream) = (Arc::new(self.clone()), streaming.clone(), Span::current());
        let answer = move |request: Bytes| {
            let this = Arc::clone(&this);
            // Every request is a leg of its own: each goes where it is best for it, and is retried by itself.
            let deadline = deadlines.deadline(this.deadlines, Instant::now()).instant();
            let span = spans::request(&stream);
            let within = span.clone();
            let reply = async move {
                let reply = this.infer(request, Some(deadline)).await;
                answered(&span, reply.as_ref().err().map_or(Code::Ok, Status::code));
                Ok(raw::stream_reply(&reply?))
            };
            // The stream is read long after this method has returned.
            reply.instrument(within)
        };
        Ok(Response::new(Box::pin(replies(request.into_inner(), streaming, answer, raw::stream_error))))
    }

    async fn model_statistics(
        &self,
        request: Request<oip::ModelStatisticsRequest>,
    ) -> Result<Response<oip::ModelStatisticsResponse>, Status> {
        let deadline = deadline(&request);
        let message = request.into_inner();
        let times = self.gate.pipeline.admission.times(deadline);
        let catalog = self.gate.pipeline.catalog.load_full();
        let model_stats = if message.name.is_empty() {
            let mut all = vec![self.gate.statistics()];
            all.extend(self.surveys.of_all(&catalog, times).await?);
            all
        } else if self.is_gate(&message.name) {
            self.gate.described(&message.version)?;
            vec![self.gate.statistics()]
        } else {
            self.surveys.of_model(&catalog, message, times).await?
        };
        Ok(Response::new(oip::ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<oip::RepositoryIndexRequest>,
    ) -> Result<Response<oip::RepositoryIndexResponse>, Status> {
        let oip::RepositoryIndexRequest { repository_name, ready } = request.into_inner();
        if !repository_name.is_empty() {
            let refusal = Refusal::new(Code::Unimplemented, "UNSUPPORTED", "a mesh has no repositories with names");
            return Err(refusal.with_violation("repository_name", "expected to be empty").into_status());
        }
        let mut models = vec![repository::gate(&self.gate.name, &self.readiness)];
        models.extend(repository::index(&self.gate.pipeline.catalog.load()));
        models.retain(|model| !ready || model.state == "READY");
        Ok(Response::new(oip::RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        _: Request<oip::RepositoryModelLoadRequest>,
    ) -> Result<Response<oip::RepositoryModelLoadResponse>, Status> {
        Err(no_models_here())
    }

    async fn repository_model_unload(
        &self,
        _: Request<oip::RepositoryModelUnloadRequest>,
    ) -> Result<Response<oip::RepositoryModelUnloadResponse>, Status> {
        Err(no_models_here())
    }
}

fn deadline<M>(request: &Request<M>) -> Option<Instant> {
    Deadline::of(request.extensions()).map(Deadline::instant)
}

fn no_models_here() -> Status {
    let message = "a router loads no models: ask the instances of the expert, each for itself";
    Refusal::new(Code::Unimplemented, "UNSUPPORTED", message).into_status()
}
