//! An expert that registers is routed to as soon as the gate has learned it, and nobody who asks meanwhile notices.

use std::sync::atomic::{AtomicBool, Ordering};

use consilium_tests::{Behaviour, Mesh};

/// Asks `known` until told to stop, and tells how often. Every single question must be answered.
async fn ask_on(mesh: &Mesh, stop: &AtomicBool) -> usize {
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        let response = mesh.ask("ask known something").await.expect("no request fails");
        assert_eq!(response.replies[0].expert, "known");
        asked += 1;
    }
    asked
}

#[tokio::test]
async fn experts_join_one_after_the_other_and_no_request_fails() {
    let mesh = Mesh::start("").await;
    let _known = mesh.script("known", Behaviour::Answer).await;
    let stop = AtomicBool::new(false);
    let names = ["alpha", "bravo", "charlie", "delta"];
    let join = async {
        let mut scripted = Vec::new();
        for name in names {
            scripted.push(mesh.script(name, Behaviour::Answer).await);
            let text = format!("ask {name} something");
            let routed = |decision: &consilium_proto::v1::Decision| {
                decision.candidates.iter().any(|candidate| candidate.selected && candidate.expert == name)
            };
            mesh.decides(&text, routed).await;
        }
        stop.store(true, Ordering::Relaxed);
        scripted
    };
    let (asked, scripted) = tokio::join!(ask_on(&mesh, &stop), join);
    assert!(asked > 0);
    for (name, expert) in names.iter().zip(scripted) {
        mesh.ask(&format!("ask {name} something")).await.expect("the mesh answers");
        assert_eq!(expert.calls(), 1, "{name}");
    }
}
