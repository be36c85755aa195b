//! Nobody takes the spans: calls are answered all the same, spans are counted as lost, and processes leave in good order.

use consilium_proto::client::{
    grpc_inference_service_client::GrpcInferenceServiceClient, router_service_client::RouterServiceClient,
};
use consilium_tests::processes::{Etcd, Expert, Lab, Manner, Outpost, Signal, free_port, until};
use futures::future::join_all;
use tokio::{net::TcpListener, task::JoinSet, time::Instant};

use crate::{
    asking::{CHEST, add_sub, query, to},
    scene::{Scene, say},
};

/// Of each kind.
const CALLS: usize = 200;

pub(crate) async fn dead(scene: &Scene) {
    let logs = scene.logs.join("collectors");
    let etcd = Etcd::start(1, &logs).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = silent.local_addr().expect("a bound port has an address");
    let mut accepting = JoinSet::new();
    accepting.spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = silent.accept().await {
            kept.push(connection);
        }
    });
    for (name, url) in
        [("silent", format!("http://{address}")), ("closed", format!("http://127.0.0.1:{}", free_port()))]
    {
        let outpost = Outpost::start(&etcd, name, &logs, &Manner::default().traced(&url)).await;
        let since = Instant::now();
        ask(&outpost).await;
        let took = since.elapsed();
        let lost = async || {
            let mut lost = vec![lost(&outpost.router.page("/metrics").await?)];
            for expert in &outpost.experts {
                lost.push(self::lost(&expert.page("/metrics").await?));
            }
            lost.iter().all(|spans| *spans > 0).then_some(lost)
        };
        let (lost, counted) = until("every process counts spans that it lost", lost).await;
        let leaving = Instant::now();
        let Outpost { mut router, experts, .. } = outpost;
        router.process.signal(Signal::TERM);
        let (left, _) = tokio::join!(router.process.ended(), join_all(experts.into_iter().map(Expert::leave)));
        assert!(left.success(), "{name}: the router leaves in good order");
        say(&format!(
            "{name}: {} calls answered in {took:.1?}; {lost:?} spans lost, counted {counted:.1?} later; all gone in {:.1?}",
            2 * CALLS,
            leaving.elapsed()
        ));
    }
}

/// Every call is answered.
async fn ask(outpost: &Outpost) {
    let mut router = RouterServiceClient::new(outpost.router.channel.clone());
    let mut tensors = GrpcInferenceServiceClient::new(outpost.router.channel.clone());
    for _ in 0..CALLS {
        router.dispatch(to(Lab::TRIAGE, query(CHEST))).await.expect("it is answered");
        tensors.model_infer(add_sub()).await.expect("it is answered");
    }
}

/// The spans that a page says did not arrive.
fn lost(page: &str) -> u64 {
    let lines = page.lines().filter(|line| line.starts_with("consilium_trace_spans_total{"));
    let lost = lines.filter(|line| line.contains(r#""failed""#) || line.contains(r#""dropped""#));
    lost.filter_map(|line| line.rsplit_once("} ")?.1.parse::<u64>().ok()).sum()
}
