//! Stock Go clients resolve an expert with etcd's own naming library and call it with grpc-go.

use std::fs;

use consilium_proto::DESCRIPTOR_SET;
use consilium_tests::processes::{EXPERT, Event, MESH, Options, QUESTIONS, Row, tool};
use tokio::{process::Command, time::Instant};

use crate::scene::Scene;

const CALLS: usize = 30;

pub(crate) async fn stock_clients(scene: &Scene) -> Vec<Row> {
    let clinic = scene.clinic(Options::default()).await;
    let descriptors = clinic.table("descriptors");
    fs::write(&descriptors, DESCRIPTOR_SET).expect("a temporary file can be written");
    let load = clinic.load().await;
    let (mut events, mut took, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for client in ["resolve-3.5", "resolve-3.6"] {
        let at = Instant::now();
        let mut command = Command::new(tool(client));
        command.args([
            "-etcd",
            &clinic.etcd.urls().join(","),
            "-target",
            &format!("etcd:///consilium/{MESH}/experts/{EXPERT}"),
        ]);
        command.arg("-descriptors").arg(&descriptors).args(["-text", QUESTIONS[0].0, "-calls", &CALLS.to_string()]);
        let output = command.kill_on_drop(true).output().await.expect("a client starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{client}: {said}{}", String::from_utf8_lossy(&output.stderr));
        let calls: Vec<serde_json::Value> =
            said.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        assert_eq!(calls.len(), CALLS, "{client} makes its calls");
        assert!(calls.iter().all(|call| call["code"] == "OK" && call["expert"] == EXPERT), "{client}: {said}");
        // Round robin over what it resolved: it found all three.
        for instance in clinic.experts.keys() {
            assert!(calls.iter().any(|call| call["instance"] == instance.as_str()), "{client} never met {instance}");
        }
        answered.push(format!("{client} {}", calls.len()));
        took.push(at.elapsed());
        events.push(Event { at, until: Instant::now(), instance: None });
    }
    let tally = clinic.rest(load).await;
    vec![
        Row::new("stock Go clients resolve and call the expert", tally, &events)
            .noted("their calls, all answered", &answered.join(", "))
            .measured("start, resolve and calls together", &took),
    ]
}
