//! Going out of service in order: nobody who was accepted is lost.

use consilium_tests::{Behaviour, ExpertFiles, Mesh};

#[tokio::test]
async fn experts_are_replaced_under_load_and_no_call_fails() {
    let mesh = Mesh::start("").await;
    let mut serving = mesh.join(&ExpertFiles::LABS).await;
    for _ in 0..3 {
        let load = async {
            let mut answered = 0;
            for _ in 0..40 {
                let replies =
                    futures::future::join_all((0..4).map(|_| mesh.ask("what does a low potassium blood value mean")));
                for reply in replies.await {
                    assert!(reply.expect("no call fails").answer.is_some());
                    answered += 1;
                }
            }
            answered
        };
        let replace = async {
            let next = mesh.join(&ExpertFiles::LABS).await;
            let report = std::mem::replace(&mut serving, next).stop().await;
            assert_eq!(report.left, 0, "{report:?}");
        };
        let (answered, ()) = tokio::join!(load, replace);
        assert_eq!(answered, 160);
    }
}

#[tokio::test]
async fn a_draining_instance_gets_no_new_calls() {
    let mesh = Mesh::start("").await;
    let one = mesh.script("oracle", Behaviour::Answer).await;
    let two = mesh.script("oracle", Behaviour::Answer).await;
    one.drain().await;
    mesh.until(|catalog| {
        let draining = consilium_proto::v1::instance::State::Draining;
        catalog.experts[0]
            .instances
            .iter()
            .any(|instance| instance.id == one.instance && instance.state() == draining)
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
    let _watching = catalog
        .watch_experts(request)
        .await
        .expect("the catalogue can be watched");

    let mut client = mesh.client.clone();
    let asked = client.dispatch(consilium_tests::question("ask oracle something"));
    let stopping = async {
        oracle.called(1).await;
        mesh.begin_stop();
        oracle.release();
    };
    let (reply, ()) = tokio::join!(asked, stopping);
    assert!(
        reply
            .expect("what was accepted is answered")
            .into_inner()
            .answer
            .is_some()
    );
    assert!(!mesh.readiness.is_ready());
    let report = mesh.stopped().await;
    assert!(report.is_clean(), "{report:?}");
}
