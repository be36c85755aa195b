//! Raw tensors are balanced and retried like any leg: an instance dies under them, and nobody notices.

use std::time::Duration;

use consilium_proto::{
    client::grpc_inference_service_client::GrpcInferenceServiceClient, inference::ModelInferResponse,
};
use consilium_tests::processes::{Lab, Signal};
use tokio::{task::JoinSet, time::interval};
use tonic::Status;

use crate::bad_input::{assert_right, request};

const REQUESTS: usize = 300;
/// Between two of them.
const PERIOD: Duration = Duration::from_millis(10);

/// Kills one of the two instances in the middle of a steady load. The last trial: it does not come back.
pub(crate) async fn an_instance(lab: &Lab) {
    let client = GrpcInferenceServiceClient::new(lab.router.channel.clone());
    let mut asked: JoinSet<Result<ModelInferResponse, Status>> = JoinSet::new();
    let mut next = interval(PERIOD);
    for sent in 0..REQUESTS {
        next.tick().await;
        if sent == REQUESTS / 2 {
            lab.tensors[1].process.signal(Signal::KILL);
        }
        let mut client = client.clone();
        asked.spawn(async move { client.model_infer(request()).await.map(tonic::Response::into_inner) });
    }
    let answered = asked.join_all().await;
    let failed: Vec<_> = answered.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {REQUESTS} requests failed: {failed:?}", failed.len());
    answered.iter().flatten().for_each(assert_right);
}
