//! An objective that is missed pages somebody, and heals: with the rules that `consilium slo rules` prints, in a real
//! Prometheus.

use std::{fs, time::Duration};

use consilium_tests::{
    Behaviour,
    processes::{Etcd, Manner, Outpost, PATIENCE, Prometheus, Watch, write_rules},
};
use tokio::{task::JoinSet, time::Instant};
use tonic::Status;

use crate::{
    asking::{query, to},
    scene::{Scene, say},
};

const ALERT: &str = "ConsiliumSloBurn";
const MESH: &str = "burning";
/// Calls between two looks at the alert.
const CALLS: usize = 20;
/// Rules are evaluated every second or at their own pace, and what they record feeds others.
const LONGEST: Duration = PATIENCE.saturating_mul(3);

pub(crate) async fn pages_and_heals(scene: &Scene) {
    let logs = scene.logs.join("burn");
    let etcd = Etcd::start(1, &logs).await;
    let (outpost, oracle) = Outpost::scripted(&etcd, MESH, &logs, &Manner::default(), Outpost::LATENCY).await;
    let rules = logs.join("rules.yaml");
    write_rules(&outpost.mesh_yaml(), &rules);
    let text = fs::read_to_string(&rules).expect("they were written");
    assert!(text.contains(ALERT), "{text}");
    let targets = vec![("router".to_owned(), outpost.router.admin())];
    let prometheus = Prometheus::start(&logs, &Watch { targets, rules: vec![rules] }).await;
    prometheus.scrapes(1).await;
    assert!(!fires(&prometheus).await, "nothing has happened yet");

    oracle.behave(Behaviour::Fail(Status::internal("broken")));
    let (failed, burnt) = ask_until(&outpost, "it pages", async || fires(&prometheus).await).await;
    say(&format!("{failed} failed calls page after {:.1} s", burnt.as_secs_f64()));

    // Every window of a Prometheus this young holds this run and nothing else: what heals is that errors become few among
    // all calls, below six times a budget of one in twenty, which is three in ten.
    oracle.behave(Behaviour::Answer);
    let (answered, healed) = ask_until(&outpost, "it heals", async || !fires(&prometheus).await).await;
    say(&format!("{answered} answered calls heal it after {:.1} s", healed.as_secs_f64()));
    assert!(answered > failed, "a few good calls do not make up for as many bad ones");
    let rate = prometheus.instant("slo:current_burn_rate:ratio").await.expect("the rules record it");
    let rate = rate.first().map_or(f64::NAN, |sample| sample.value);
    say(&format!("the burn rate is {rate:.2} then; {} calls in all", oracle.calls()));
}

/// Asks on until `what`, and gives how many calls and how long that took.
async fn ask_until(outpost: &Outpost, what: &str, come: impl AsyncFn() -> bool) -> (usize, Duration) {
    let (since, mut calls) = (Instant::now(), 0);
    while !come().await {
        assert!(since.elapsed() < LONGEST, "it did not come after {calls} calls: {what}");
        let mut asking = JoinSet::new();
        for _ in 0..CALLS {
            let mut client = consilium_proto::client::router_service_client::RouterServiceClient::new(
                outpost.router.channel.clone(),
            );
            asking.spawn(async move { client.dispatch(to(Outpost::ORACLE, query("ask the oracle"))).await });
        }
        calls += asking.join_all().await.len();
    }
    (calls, since.elapsed())
}

async fn fires(prometheus: &Prometheus) -> bool {
    let wanted = [("severity", "page"), ("expert", Outpost::ORACLE)];
    prometheus.rules().await.iter().any(|rule| rule.name == ALERT && rule.fires(&wanted))
}
