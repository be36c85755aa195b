//! Going out of service in order: nobody who was accepted is lost.

use consilium_tests::{Behaviour, ExpertFiles, Mesh, Scripted, question};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn experts_are_replaced_under_load_and_nobody_meets_one_that_has_stopped() {
    let mesh = Mesh::start("").await;
    let mut serving = mesh.join(&ExpertFiles::LABS).await;
    for _ in 0..3 {
        let replaced = CancellationToken::new();
        let load = async {
            let mut answered = 0;
            while !replaced.is_cancelled() {
                let four = (0..4).map(|_| mesh.ask("what does a low potassium blood value mean"));
                for reply in futures::future::join_all(four).await {
                    let reply = reply.expect("no call fails").replies.remove(0);
                    // A call that met a stopped instance would have been saved by a retry: that is not what is meant.
                    assert_eq!(reply.attempts.len(), 1, "{:?}", reply.attempts);
                    answered += 1;
                }
            }
            answered
        };
        let replace = async {
            let next = mesh.join(&ExpertFiles::LABS).await;
            let report = std::mem::replace(&mut serving, next).stop().await;
            assert!(report.is_clean(), "{report:?}");
            replaced.cancel();
        };
        let (answered, ()) = tokio::join!(load, replace);
        assert!(answered >= 4, "there was load");
    }
}

#[tokio::test]
async fn an_instance_is_out_of_the_picks_while_the_gate_still_learns_somebody_new() {
    let mesh = Mesh::start("").await;
    let one = mesh.script("oracle", Behaviour::Answer).await;
    let two = mesh.script("oracle", Behaviour::Answer).await;
    // The encoder never comes back from this example, so the gate goes on learning until the end of the test.
    let card = Scripted::card("newcomer", &["hold the gate up"]);
    let _newcomer = Scripted::join(&*mesh.registry, card, Behaviour::Answer).await;
    one.drain().await;
    loop {
        let explained = mesh.explain(question("ask oracle something")).await.expect("the mesh explains");
        if explained.plan.expect("there is a plan").stages[0].legs[0].live_instances == 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        mesh.ask("ask oracle something").await.expect("the other one answers");
    }
    assert_eq!((one.calls(), two.calls()), (0, 10));
}

#[tokio::test]
async fn a_draining_instance_gets_no_new_calls() {
    let mesh = Mesh::start("").await;
    let one = mesh.script("oracle", Behaviour::Answer).await;
    let two = mesh.script("oracle", Behaviour::Answer).await;
    one.drain().await;
    mesh.until(|catalog| {
        let draining = consilium_proto::v1::instance::State::Draining;
        catalog.experts[0].instances.iter().any(|instance| instance.id == one.instance && instance.state() == draining)
    })
    .await;
    for _ in 0..10 {
        mesh.ask("ask oracle something").await.expect("the other one answers");
    }
    assert_eq!((one.calls(), two.calls()), (0, 10));
}

#[tokio::test]
async fn the_router_answers_what_it_took_before_it_stops() {
    let mesh = Mesh::start("default_deadline: 60s\nmax_deadline: 60s").await;
    let oracle = mesh.script("oracle", Behaviour::Hold).await;
    // A watch that nobody closes must not keep the router from stopping.
    let mut catalog = mesh.catalog.clone();
    let request = consilium_proto::v1::WatchExpertsRequest {};
    let _watching = catalog.watch_experts(request).await.expect("the catalogue can be watched");

    let mut client = mesh.client.clone();
    let asked = client.dispatch(question("ask oracle something"));
    let stopping = async {
        oracle.called(1).await;
        mesh.begin_stop();
        oracle.release();
    };
    let (reply, ()) = tokio::join!(asked, stopping);
    assert!(reply.expect("what was accepted is answered").into_inner().answer.is_some());
    assert!(!mesh.readiness.is_ready());
    let report = mesh.stopped().await;
    assert!(report.is_clean(), "{report:?}");
}
