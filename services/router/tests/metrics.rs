//! What a router that really serves shows at `/metrics` after decisions, legs, attempts and retries.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "what a test stands on failing is the test failing")]

#[path = "inference/instance.rs"]
#[expect(dead_code, reason = "the tests of the Open Inference Protocol look closer")]
mod instance;
#[path = "inference/mesh.rs"]
#[expect(dead_code, reason = "the tests of the Open Inference Protocol look closer")]
mod mesh;

use std::{collections::BTreeMap, time::Duration};

use consilium_mesh::{
    errors::Refusal,
    registry::{Card, Slo},
};
use consilium_proto::{client::router_service_client::RouterServiceClient, inference::ModelInferRequest, v1};
use prost::Message;
use tonic::{Code, Request, Status};

use self::mesh::{Mesh, labs};

async fn ask(mesh: &Mesh, query: v1::Query) -> Result<v1::DispatchResponse, Status> {
    let request = v1::DispatchRequest { query: Some(query), ..Default::default() };
    Ok(RouterServiceClient::new(mesh.channel.clone()).dispatch(request).await?.into_inner())
}

fn text(text: &str) -> v1::Query {
    v1::Query { text: text.into(), ..Default::default() }
}

async fn infer(mesh: &Mesh) -> Result<(), Status> {
    let request = ModelInferRequest { model_name: "labs.net".into(), ..Default::default() };
    mesh.infer(request.encode_to_vec()).await.map(drop)
}

/// Every sample of a metric that this crate describes has the labels that the description says, in that order.
fn is_as_described(mesh: &Mesh) {
    let page = mesh.metrics.encode();
    let known: BTreeMap<_, _> =
        consilium_router::METRICS.iter().map(|known| (known.full_name(), known.labels())).collect();
    assert_eq!(known.len(), consilium_router::METRICS.len(), "no name twice");
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (sample, _) = line.split_once(' ').unwrap();
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let name = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        if let Some(described) = known.get(name) {
            let keys: Vec<_> = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
            let keys: Vec<_> = keys.into_iter().filter(|key| *key != "le").collect();
            assert_eq!(keys, *described, "{line}");
        }
    }
}

#[tokio::test]
async fn a_decision_a_leg_and_an_attempt_count_once_each() {
    let rules = "rules: [{name: sodium, when: 'query.text.contains(\"sodium\")', prefer: [labs]}, \
                 {name: ward, when: 'labels[\"ward\"] == \"7\"', prefer: [labs]}]";
    let mesh = Mesh::with_gate(rules, "").await;
    let instance = mesh.labs(&[]).await;
    ask(&mesh, text("my sodium is low")).await.unwrap();
    let id = &instance.id;
    for (sample, expected) in [
        (r#"consilium_router_decisions_total{outcome="DISPATCHED",reason="CONFIDENT",tier="encoder"} "#.to_owned(), 1),
        (r#"consilium_router_selections_total{expert="labs",outcome="DISPATCHED"} "#.to_owned(), 1),
        (r#"consilium_router_confidence_ratio_count{expert="labs"} "#.to_owned(), 1),
        (r#"consilium_gate_duration_seconds_count{tier="encoder"} "#.to_owned(), 1),
        (r#"consilium_gate_rules_matched_total{rule="sodium"} "#.to_owned(), 1),
        (r#"consilium_gate_rules_matched_total{rule="ward"} "#.to_owned(), 0),
        ("consilium_gate_rule_errors_total ".to_owned(), 1),
        ("consilium_gate_experts ".to_owned(), 1),
        (r#"consilium_gate_fits_total{result="failed"} "#.to_owned(), 0),
        (r#"consilium_router_leg_duration_seconds_count{expert="labs",slo="met"} "#.to_owned(), 1),
        (r#"consilium_router_attempts_total{expert="labs",rpc_response_status_code="OK"} "#.to_owned(), 1),
        (format!(r#"consilium_router_instance_picks_total{{expert="labs",expert_instance="{id}"}} "#), 1),
        (format!(r#"consilium_router_instance_failures_total{{expert="labs",expert_instance="{id}"}} "#), 0),
        (format!(r#"consilium_router_instance_in_flight{{expert="labs",expert_instance="{id}"}} "#), 0),
        (
            r#"rpc_client_call_duration_seconds_count{expert="labs",rpc_system_name="grpc",rpc_method="consilium.v1.ExpertService/Infer",rpc_response_status_code="OK",error_type=""} "#.to_owned(),
            1,
        ),
    ] {
        assert_eq!(mesh.count(&sample), expected, "{sample}: {}", mesh.metrics.encode());
    }
    for step in ["admission", "gate", "plan", "call", "combine"] {
        let sample = format!(r#"consilium_router_step_duration_seconds_count{{step="{step}"}} "#);
        assert_eq!(mesh.count(&sample), 1, "{step}");
    }
    assert!(mesh.count(r#"consilium_gate_fits_total{result="ok"} "#) > 0);
    is_as_described(&mesh);
}

#[tokio::test]
async fn what_is_refused_at_the_door_takes_one_step() {
    let mesh = Mesh::start("").await;
    assert_eq!(ask(&mesh, text("")).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(mesh.count(r#"consilium_router_step_duration_seconds_count{step="admission"} "#), 1);
    assert_eq!(mesh.count(r#"consilium_router_step_duration_seconds_count{step="gate"} "#), 0);
}

#[tokio::test]
async fn retries_count_until_the_budget_refuses_them() {
    let mesh = Mesh::start("").await;
    let (one, two) = (mesh.labs(&["net"]).await, mesh.labs(&["net"]).await);
    for instance in [&one, &two] {
        instance.script(|_, _| Err(Status::unavailable("draining")));
    }
    let refused = r#"consilium_router_retries_refused_total{expert="labs"} "#;
    let mut calls = 0;
    while mesh.count(refused) == 0 {
        assert!(calls < 10_000, "the budget ends");
        infer(&mesh).await.unwrap_err();
        calls += 1;
    }
    let attempts = (one.got().len() + two.got().len()) as u64;
    let retries = mesh.count(r#"consilium_router_retries_total{expert="labs",cause="failed"} "#);
    assert_eq!(retries, calls - 1, "all but the last");
    assert_eq!(retries, attempts - calls);
    let of = |what: &str, id: &str| {
        mesh.count(&format!(r#"consilium_router_instance_{what}_total{{expert="labs",expert_instance="{id}"}} "#))
    };
    assert_eq!(of("picks", &one.id) + of("picks", &two.id), attempts, "the last pick could not be paid for");
    assert_eq!(of("failures", &one.id) + of("failures", &two.id), attempts);
    let failed = r#"rpc_client_call_duration_seconds_count{expert="labs",rpc_system_name="grpc",rpc_method="inference.GRPCInferenceService/ModelInfer",rpc_response_status_code="UNAVAILABLE",error_type="UNAVAILABLE"} "#;
    assert_eq!(mesh.count(failed), attempts);
    is_as_described(&mesh);
}

#[tokio::test]
async fn an_attempt_that_makes_room_is_a_slow_one() {
    let mesh = Mesh::start("").await;
    let slo = Slo { latency: Duration::from_millis(10), objective: 0.9, first_token: None };
    let card = Card { slo, ..labs() };
    let (stuck, _sound) = (mesh.join(card.clone(), &[]).await, mesh.join(card, &[]).await);
    stuck.answers().forget_permits(usize::MAX);
    while stuck.got().is_empty() {
        let mut request =
            Request::new(v1::DispatchRequest { query: Some(text("my sodium is low")), ..Default::default() });
        request.set_timeout(Duration::from_secs(1));
        RouterServiceClient::new(mesh.channel.clone()).dispatch(request).await.unwrap();
    }
    assert_eq!(mesh.count(r#"consilium_router_retries_total{expert="labs",cause="slow"} "#), 1);
    assert_eq!(mesh.count(r#"consilium_router_leg_duration_seconds_count{expert="labs",slo="missed"} "#), 1);
}

#[tokio::test]
async fn a_leg_that_is_refused_a_retry_twice_counts_once() {
    let mesh = Mesh::start("").await;
    let slo = Slo { latency: Duration::from_millis(10), objective: 0.9, first_token: None };
    let card = Card { slo, ..labs() };
    let instances = [mesh.join(card.clone(), &["net"]).await, mesh.join(card, &["net"]).await];
    for instance in &instances {
        instance.script(|_, _| Err(Status::unavailable("draining")));
    }
    let refused = || mesh.count(r#"consilium_router_retries_refused_total{expert="labs"} "#);
    while refused() == 0 {
        infer(&mesh).await.unwrap_err();
    }
    for instance in &instances {
        instance.answers().forget_permits(usize::MAX);
    }
    let mut request = Request::new(v1::DispatchRequest { query: Some(text("my sodium is low")), ..Default::default() });
    request.set_timeout(Duration::from_secs(2));
    let mut client = RouterServiceClient::new(mesh.channel.clone());
    let before = refused();
    let fail = async {
        // It is to make room, and cannot.
        while refused() == before {
            tokio::task::yield_now().await;
        }
        for instance in &instances {
            instance.answers().close();
        }
    };
    let (status, ()) = tokio::join!(client.dispatch(request), fail);
    assert_eq!(status.unwrap_err().code(), Code::Internal);
    assert_eq!(refused(), before + 1);
}

#[tokio::test]
async fn an_instance_that_lacks_its_model_is_passed_over_once() {
    let mesh = Mesh::start("").await;
    let (one, _two) = (mesh.labs(&["net"]).await, mesh.labs(&["net"]).await);
    one.script(|_, _| Err(Refusal::new(Code::NotFound, "UNKNOWN_MODEL", "unloaded").into_status()));
    while one.got().is_empty() {
        infer(&mesh).await.unwrap();
    }
    infer(&mesh).await.unwrap();
    assert_eq!(mesh.count(r#"consilium_router_ejections_total{expert="labs",cause="lacking"} "#), 1);
}
