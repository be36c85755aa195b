//! The collector that is shipped keeps the traces that somebody will want to see: those of failed calls and of missed
//! objectives, also where it keeps nothing of what is ordinary.

use std::time::Duration;

use consilium_proto::{client::router_service_client::RouterServiceClient, v1};
use consilium_tests::{
    Behaviour,
    processes::{Chooser, Etcd, Jaeger, Manner, Outpost, Trace, until},
};
use serde_json::Value;
use tonic::{Response, Status};

use crate::{
    asking::{Context, query, to},
    scene::{Scene, say},
};

const ORDINARY: usize = 5;
/// What an expert promises that is held up for longer. Far below what the collector itself calls slow.
const IMPATIENT: Duration = Duration::from_millis(1);
const HELD: Duration = Duration::from_millis(20);

pub(crate) async fn what_went_wrong(scene: &Scene) {
    let logs = scene.logs.join("keeping");
    let etcd = Etcd::start(1, &logs).await;
    let jaeger = Jaeger::start(&logs).await;
    let chooser = Chooser::before(&jaeger, 0, &logs).await;
    let manner = Manner::default().traced(&chooser.otlp());
    let (patient, oracle) = Outpost::scripted(&etcd, "patient", &logs, &manner, Outpost::LATENCY).await;
    let (impatient, held) = Outpost::scripted(&etcd, "impatient", &logs, &manner, IMPATIENT).await;

    let (mut ordinary, failed, missed) = (Vec::new(), Context::new(), Context::new());
    for _ in 0..ORDINARY {
        let context = Context::new();
        ask(&patient, &context).await.expect("it answers");
        ordinary.push(context);
    }
    oracle.behave(Behaviour::Fail(Status::internal("broken")));
    // Whether the call fails or its only reply does is the router's to say: its spans are what this is about.
    let _ = ask(&patient, &failed).await;
    held.behave(Behaviour::Hold);
    let late = async {
        held.called(1).await;
        // Nothing is waited for here: this is how long it takes.
        tokio::time::sleep(HELD).await;
        held.release();
    };
    let (answered, ()) = tokio::join!(ask(&impatient, &missed), late);
    answered.expect("it answers, late");

    // What was not chosen is gone for good, so that nothing of it can come to the store after this.
    let all = async || (chooser.chosen().await == (2, ORDINARY as u64)).then_some(());
    let ((), took) = until("the collector has chosen two traces and no other", all).await;
    let failed = jaeger.until(&failed.trace, "the failed call, whole", is_whole).await;
    assert!(failed.0.iter().any(|span| span.error), "no span of it failed:\n{failed}");
    let missed = jaeger.until(&missed.trace, "the missed objective, whole", is_whole).await;
    let legs: Vec<_> = missed.0.iter().filter(|span| span.name == "leg").collect();
    assert!(legs.iter().any(|leg| *leg.get("consilium.slo.met") == Value::Bool(false)), "none was missed:\n{missed}");
    assert!(!missed.0.iter().any(|span| span.error), "it was to be kept for its objective alone:\n{missed}");
    for context in &ordinary {
        let trace = jaeger.trace(&context.trace).await;
        assert!(trace.0.is_empty(), "nothing went wrong in this, and it was kept:\n{trace}");
    }
    say(&format!("{ORDINARY} ordinary traces were let go, two were kept, {took:.1?} after the last call"));
    say(&format!("kept for an error:\n{failed}kept for a missed objective:\n{missed}"));
}

async fn ask(outpost: &Outpost, context: &Context) -> Result<Response<v1::DispatchResponse>, Status> {
    let request = context.with(to(Outpost::ORACLE, query("ask the oracle")));
    RouterServiceClient::new(outpost.router.channel.clone()).dispatch(request).await
}

/// The router's own span ends last.
fn is_whole(trace: &Trace) -> bool {
    trace.0.iter().any(|span| span.name.ends_with("/Dispatch"))
}
