//! `inference.GRPCInferenceService`, the Open Inference Protocol, over the same expert as `server`. This is the table of
//! the calls; which model a name stands for is in `names`, how a request is answered in `infer`.

mod infer;
mod names;

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
};

use consilium_mesh::{
    Deadline,
    health::Readiness,
    inference::{Invalid, Readiness as State, Streaming, replies, server_metadata, stream_error, stream_reply},
    serve::Deadlines,
    telemetry::span::answered,
};
use consilium_proto::inference::{
    ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
    ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
    ModelStreamInferResponse, RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveRequest,
    ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
    grpc_inference_service_server::GrpcInferenceService,
};
use futures::Stream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tracing::{Instrument, Span};

use crate::{
    metrics::Tally,
    server::{Identity, Ready},
    spans,
    status::Refused,
};

/// The service; clones share one expert.
#[derive(Clone, Debug)]
pub(crate) struct Inference {
    pub(crate) identity: Arc<Identity>,
    pub(crate) ready: Arc<OnceLock<Ready>>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) readiness: Readiness,
    pub(crate) deadlines: Deadlines,
    /// Cancelled when streams are to take nothing more.
    pub(crate) end: CancellationToken,
}

impl Inference {
    fn ready(&self) -> Result<&Ready, Refused> {
        self.ready.get().ok_or(Refused::Starting)
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.readiness.is_ready() }))
    }

    /// A model that is not known is not ready: so clients know it from Triton.
    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        Ok(Response::new(ModelReadyResponse { ready: self.model(&name, &version).is_ok() }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(server_metadata()))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        Ok(Response::new(self.model(&name, &version)?.metadata()))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let ModelConfigRequest { name, version } = request.into_inner();
        Ok(Response::new(ModelConfigResponse { config: Some(self.model(&name, &version)?.config()) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        Ok(Response::new(ModelStatisticsResponse { model_stats: self.statistics(&name, &version)? }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let deadline = Deadline::of(request.extensions()).ok_or(Refused::NoDeadline)?;
        Ok(Response::new(self.infer(request.into_inner(), deadline.instant()).await?))
    }

    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        request: Request<tonic::Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let streaming = Streaming::of(request.metadata(), request.extensions(), self.end.clone());
        let (server, terms) = (self.clone(), streaming.clone());
        let stream = Span::current();
        let answer = move |message| {
            let deadline = terms.deadline(server.deadlines, Instant::now()).instant();
            let server = server.clone();
            let span = spans::request(&server.identity, &stream);
            let within = span.clone();
            let answering = async move {
                let reply = server.infer(message, deadline).await;
                answered(&span, reply.as_ref().err().map_or(Code::Ok, Status::code));
                Ok(stream_reply(reply?))
            };
            // The stream is read long after this method has returned.
            answering.instrument(within)
        };
        Ok(Response::new(Box::pin(replies(request.into_inner(), streaming, answer, stream_error))))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let RepositoryIndexRequest { repository_name, ready } = request.into_inner();
        only_repository(&repository_name)?;
        let lines = self.index().await?.into_iter().filter(|line| !ready || line.state == State::Ready);
        Ok(Response::new(RepositoryIndexResponse { models: lines.map(|line| line.entry()).collect() }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let RepositoryModelLoadRequest { repository_name, model_name, parameters } = request.into_inner();
        only_repository(&repository_name)?;
        if parameters.contains_key("config") {
            return Err(unsupported("parameters[config]", "what a model takes and gives is in its model.onnx"));
        }
        if parameters.keys().any(|key| key.starts_with("file:")) {
            return Err(unsupported("parameters[file:…]", "models come from the expert's own repository"));
        }
        let (control, model) = self.control(&model_name)?;
        control.load(model).await.map_err(Refused::NotDone)?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        let RepositoryModelUnloadRequest { repository_name, model_name, parameters: _ } = request.into_inner();
        only_repository(&repository_name)?;
        let (control, model) = self.control(&model_name)?;
        control.unload(model).await.map_err(Refused::NotDone)?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }
}

fn only_repository(name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Ok(());
    }
    Err(unsupported("repository_name", "an expert has one repository, which has no name"))
}

fn unsupported(field: &str, problem: &str) -> Status {
    Invalid { field: field.to_owned(), problem: problem.to_owned(), unsupported: true }.into()
}

#[cfg(test)]
mod tests;
