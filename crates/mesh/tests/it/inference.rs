//! The Open Inference Protocol over a real connection: what becomes of its streams when a server leaves, and what large
//! and compressed messages get.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use consilium_mesh::{
    errors,
    inference::{self, Reply, Streaming},
    limits::{Limits, MAX_MESSAGE_BYTES},
    serve::Options,
};
use consilium_proto::{
    client::grpc_inference_service_client::GrpcInferenceServiceClient,
    inference::{
        ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
        ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
        ModelStreamInferResponse, RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
        RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveRequest,
        ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
        grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer},
        model_infer_request::InferInputTensor,
    },
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status, Streaming as Messages, codec::CompressionEncoding, metadata::MetadataValue,
    transport::Channel,
};

use crate::{
    drain::{AT_ONCE, leave},
    support::{Running, until},
};

/// Gives its inputs back once `open` has been cancelled; a model called `nobody` is none.
#[derive(Clone)]
struct Echo {
    /// The server's long streams.
    end: CancellationToken,
    open: CancellationToken,
    /// Requests that were begun.
    taken: Arc<AtomicUsize>,
}

impl Echo {
    fn answer(&self, request: ModelInferRequest) -> BoxFuture<'static, Result<ModelInferResponse, Status>> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        let open = self.open.clone();
        async move {
            let inference::Request { model, version, id, inputs, .. } = inference::Request::decode(request)?;
            open.cancelled().await;
            if model == "nobody" {
                Err(Status::not_found("no such model"))
            } else {
                Ok(Reply { model, version, id, outputs: inputs }.encode())
            }
        }
        .boxed()
    }
}

macro_rules! echo_and_nothing_else {
    ($($method:ident: $request:ty => $reply:ty,)*) => {
        #[tonic::async_trait]
        impl GrpcInferenceService for Echo {
            type ModelStreamInferStream = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

            async fn model_infer(
                &self,
                request: Request<ModelInferRequest>,
            ) -> Result<Response<ModelInferResponse>, Status> {
                self.answer(request.into_inner()).await.map(Response::new)
            }

            async fn model_stream_infer(
                &self,
                request: Request<Messages<ModelInferRequest>>,
            ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
                let streaming = Streaming::of(request.metadata(), request.extensions(), self.end.clone());
                let echo = self.clone();
                let answer = move |request| echo.answer(request).map(|reply| reply.map(inference::stream_reply));
                let replies = inference::replies(request.into_inner(), streaming, answer, inference::stream_error);
                Ok(Response::new(replies.boxed()))
            }

            $(async fn $method(&self, _: Request<$request>) -> Result<Response<$reply>, Status> {
                Err(Status::unimplemented("it only echoes"))
            })*
        }
    };
}

echo_and_nothing_else! {
    server_live: ServerLiveRequest => ServerLiveResponse,
    server_ready: ServerReadyRequest => ServerReadyResponse,
    model_ready: ModelReadyRequest => ModelReadyResponse,
    server_metadata: ServerMetadataRequest => ServerMetadataResponse,
    model_metadata: ModelMetadataRequest => ModelMetadataResponse,
    model_config: ModelConfigRequest => ModelConfigResponse,
    model_statistics: ModelStatisticsRequest => ModelStatisticsResponse,
    repository_index: RepositoryIndexRequest => RepositoryIndexResponse,
    repository_model_load: RepositoryModelLoadRequest => RepositoryModelLoadResponse,
    repository_model_unload: RepositoryModelUnloadRequest => RepositoryModelUnloadResponse,
}

struct Lab {
    server: Running,
    open: CancellationToken,
    taken: Arc<AtomicUsize>,
}

impl Lab {
    async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let (open, taken) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let server =
            Running::start_adding(Options { limits, ..Options::default() }, Duration::from_secs(30), |server| {
                let echo = Echo { end: server.long_streams(), open: open.clone(), taken: Arc::clone(&taken) };
                let service = GrpcInferenceServiceServer::new(echo)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .accept_compressed(CompressionEncoding::Gzip)
                    .accept_compressed(CompressionEncoding::Deflate);
                server.add_service(service)
            });
        Self { server: server.await, open, taken }
    }

    fn client(&self) -> GrpcInferenceServiceClient<Channel> {
        GrpcInferenceServiceClient::new(self.server.channel())
    }
}

fn request(id: &str, bytes: usize) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "UINT8".into(),
        shape: vec![i64::try_from(bytes).unwrap()],
        ..InferInputTensor::default()
    };
    ModelInferRequest {
        model_name: "echo".into(),
        id: id.into(),
        inputs: vec![input],
        raw_input_contents: vec![vec![0; bytes].into()],
        ..ModelInferRequest::default()
    }
}

type Requests = mpsc::UnboundedSender<ModelInferRequest>;

async fn stream(lab: &Lab, triton_grpc_error: &'static str) -> (Requests, Messages<ModelStreamInferResponse>) {
    let (requests, received) = mpsc::unbounded_channel();
    let mut call = Request::new(UnboundedReceiverStream::new(received));
    call.metadata_mut().insert("triton_grpc_error", MetadataValue::from_static(triton_grpc_error));
    (requests, lab.client().model_stream_infer(call).await.unwrap().into_inner())
}

fn id(reply: Option<ModelStreamInferResponse>) -> (String, String) {
    let ModelStreamInferResponse { error_message, infer_response } = reply.unwrap();
    (infer_response.unwrap().id, error_message)
}

#[tokio::test]
async fn a_leaving_server_answers_what_its_streams_asked_and_waits_for_no_more() {
    let mut lab = Lab::start().await;
    let (_idle, mut nothing) = stream(&lab, "false").await;
    let (busy, mut replies) = stream(&lab, "false").await;
    for id in ["1", "2", "3"] {
        busy.send(request(id, 8)).unwrap();
    }
    until(|| lab.taken.load(Ordering::Relaxed) == 3).await;
    assert_eq!(lab.server.in_flight.calls(), 3, "a stream is none, each of its requests is one");

    let (open, end) = (lab.open.clone(), lab.server.long_streams.clone());
    let (report, ()) = tokio::join!(leave(&mut lab.server, AT_ONCE), async {
        end.cancelled().await;
        busy.send(request("too late", 8)).unwrap();
        assert!(nothing.message().await.unwrap().is_none(), "the idle stream ends well, before the busy one");
        open.cancel();
        for expected in ["1", "2", "3"] {
            assert_eq!(id(replies.message().await.unwrap()), (expected.to_owned(), String::new()));
        }
        assert!(replies.message().await.unwrap().is_none());
    });
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((lab.taken.load(Ordering::Relaxed), lab.server.in_flight.calls()), (3, 0));
}

#[tokio::test]
async fn open_streams_take_no_calls_place_and_are_as_many_as_calls_may_be() {
    let lab = Lab::with(Limits { max_in_flight: 2, ..Limits::default() }).await;
    let (_idle, _nothing) = stream(&lab, "false").await;
    let (busy, mut replies) = stream(&lab, "false").await;
    let third = lab.client().model_stream_infer(futures::stream::empty()).await.unwrap_err();
    assert_eq!((errors::reason(&third).as_deref(), errors::retry_after(&third).is_some()), (Some("OVERLOADED"), true));
    assert_eq!(lab.server.in_flight.calls(), 0);

    for id in ["1", "2", "3"] {
        busy.send(request(id, 8)).unwrap();
    }
    until(|| lab.server.metrics.encode().contains(r#"consilium_rpc_server_shed_total{server="server"} 2"#)).await;
    let call = lab.client().model_infer(request("4", 8)).await.unwrap_err();
    assert_eq!(errors::reason(&call).as_deref(), Some("OVERLOADED"));
    assert_eq!(lab.taken.load(Ordering::Relaxed), 2);
    lab.open.cancel();
    for (expected, problem) in [("1", ""), ("2", ""), ("3", "too many calls are running here")] {
        assert_eq!(id(replies.message().await.unwrap()), (expected.to_owned(), problem.to_owned()));
    }
    lab.client().model_infer(request("5", 8)).await.unwrap();
    drop((busy, replies));
    while lab.client().model_stream_infer(futures::stream::empty()).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_error_leaves_a_stream_open_or_ends_it_as_the_client_wants() {
    let lab = Lab::start().await;
    lab.open.cancel();
    let nobody = || ModelInferRequest { model_name: "nobody".into(), ..request("2", 8) };
    let wrong = || ModelInferRequest { raw_input_contents: Vec::new(), ..request("3", 8) };

    let (requests, mut replies) = stream(&lab, "false").await;
    for request in [request("1", 8), nobody(), wrong(), request("4", 0)] {
        requests.send(request).unwrap();
    }
    assert_eq!(id(replies.message().await.unwrap()), ("1".into(), String::new()));
    assert_eq!(id(replies.message().await.unwrap()), ("2".into(), "no such model".into()));
    let (of, problem) = id(replies.message().await.unwrap());
    assert!(of == "3" && problem.starts_with("inputs[x].contents: "), "{problem}");
    assert_eq!(id(replies.message().await.unwrap()), ("4".into(), String::new()));

    let (requests, mut replies) = stream(&lab, "true").await;
    for request in [request("1", 8), nobody(), request("4", 8)] {
        requests.send(request).unwrap();
    }
    assert_eq!(id(replies.message().await.unwrap()), ("1".into(), String::new()));
    assert_eq!(replies.message().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn compressed_requests_are_read_and_bombs_are_not_blown_up() {
    let lab = Lab::start().await;
    lab.open.cancel();
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        let mut client = lab.client().send_compressed(encoding);
        let reply = client.model_infer(request("1", 1 << 20)).await.unwrap().into_inner();
        assert_eq!(reply.raw_output_contents[0].len(), 1 << 20);
        // 64 MiB of zeros are 64 KiB on the wire.
        let bomb = client.model_infer(request("2", 64 << 20)).await.unwrap_err();
        assert_eq!(bomb.code(), Code::ResourceExhausted, "{bomb:?}");
        assert!(bomb.message().contains("size limit"), "{bomb:?}");
        assert_eq!(errors::retry_after(&bomb), None, "the same again would not do better");

        let (requests, received) = mpsc::unbounded_channel();
        requests.send(request("1", 8)).unwrap();
        requests.send(request("2", 64 << 20)).unwrap();
        let call = Request::new(UnboundedReceiverStream::new(received));
        let mut replies = client.model_stream_infer(call).await.unwrap().into_inner();
        assert_eq!(id(replies.message().await.unwrap()), ("1".into(), String::new()));
        assert_eq!(replies.message().await.unwrap_err().code(), Code::ResourceExhausted);
    }
    lab.client().model_infer(request("3", 8)).await.unwrap();
}

#[tokio::test]
async fn messages_that_are_too_large_too_many_or_in_an_unknown_encoding_have_their_own_codes() {
    let lab = Lab::start().await;
    lab.open.cancel();
    let mut client = lab.client();
    let large = client.model_infer(request("1", MAX_MESSAGE_BYTES)).await.unwrap_err();
    assert_eq!(large.code(), Code::OutOfRange, "{large:?}");

    // Two bytes each on the wire, sixteen times that in memory; inputs would be 150 times as large.
    let crowd = ModelInferRequest { raw_input_contents: vec![Bytes::new(); 1 << 20], ..request("2", 0) };
    let crowd = client.model_infer(crowd).await.unwrap_err();
    assert_eq!((crowd.code(), crowd.message()), (Code::InvalidArgument, "more than 16384 fields"));

    let mut odd = Request::new(request("3", 8));
    odd.metadata_mut().insert("grpc-encoding", MetadataValue::from_static("snappy"));
    let odd = client.model_infer(odd).await.unwrap_err();
    assert_eq!(odd.code(), Code::Unimplemented, "{odd:?}");
    assert!(odd.metadata().contains_key("grpc-accept-encoding"), "says what it would take: {odd:?}");
    client.model_infer(request("4", 8)).await.unwrap();
}
