//! Experts and instances come and go while the router runs; nothing is restarted.

use consilium_proto::v1::decision::Outcome;
use consilium_tests::{Behaviour, ExpertFiles, Mesh, Scripted};

#[tokio::test]
async fn a_new_subject_joins_by_starting_up() {
    let mesh = Mesh::start("").await;
    let _labs = mesh.join(&ExpertFiles::LABS).await;
    let text = "does the pharmacy stock aspirin tablets";
    let before = mesh.ask(text).await.expect("a refusal is an OK reply");
    assert_eq!(before.decision.expect("there is a decision").outcome(), Outcome::Refused);

    let _pharmacy = mesh.join(&ExpertFiles::PHARMACY).await;
    let after = mesh.ask(text).await.expect("the mesh answers");
    assert_eq!(after.replies[0].expert, "pharmacy");
}

#[tokio::test]
async fn a_second_version_takes_over_and_the_first_stays_reachable_by_a_pin() {
    let mesh = Mesh::start("").await;
    let _one = mesh.join(&ExpertFiles::LABS).await;
    let _two = mesh.join(&ExpertFiles { version: "2", ..ExpertFiles::LABS }).await;
    let text = "what does a low potassium blood value mean";
    assert_eq!(mesh.ask(text).await.expect("the mesh answers").replies[0].version, "2");

    let mut request = consilium_tests::question(text);
    let options = consilium_proto::v1::DispatchOptions {
        versions: [("labs".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    request.options = Some(options);
    let pinned = mesh.client.clone().dispatch(request).await.expect("the mesh answers").into_inner();
    assert_eq!(pinned.replies[0].version, "1");
}

#[tokio::test]
async fn when_the_newest_version_is_away_the_older_one_answers() {
    let mesh = Mesh::start("").await;
    let _one = mesh.join(&ExpertFiles::LABS).await;
    let two = mesh.join(&ExpertFiles { version: "2", ..ExpertFiles::LABS }).await;
    two.stop().await;
    mesh.until(|catalog| catalog.experts[0].instances.len() == 1).await;
    let response = mesh.ask("what does a low potassium blood value mean").await.expect("the mesh answers");
    assert_eq!(response.replies[0].version, "1");
}

#[tokio::test]
async fn instances_of_one_expert_share_its_calls() {
    let mesh = Mesh::start("default_deadline: 60s\nmax_deadline: 60s").await;
    let one = mesh.script("oracle", Behaviour::Hold).await;
    let two = mesh.script("oracle", Behaviour::Hold).await;
    let calls = (0..8).map(|_| mesh.ask("ask oracle something"));
    let all = futures::future::join_all(calls);
    let release = async {
        // Held calls count as load, so the eighth call cannot still go where all the others went.
        while one.calls() + two.calls() < 8 {
            tokio::select! {
                () = one.called(one.calls() + 1) => {}
                () = two.called(two.calls() + 1) => {}
            }
        }
        one.release();
        two.release();
    };
    let (replies, ()) = tokio::join!(all, release);
    assert!(replies.iter().all(Result::is_ok));
    assert_eq!((one.calls(), two.calls()), (4, 4), "two choices of two are both: the lighter one is taken each time");
}

#[tokio::test]
async fn a_crashed_instance_is_gone_and_its_card_stays() {
    let mesh = Mesh::start("").await;
    let card = Scripted::card("oracle", &["ask oracle something"]);
    let crashed = Scripted::join(&*mesh.registry, card, Behaviour::Answer).await;
    mesh.knows(&crashed.instance).await;
    drop(crashed);
    let catalog = mesh.until(|catalog| catalog.experts.iter().all(|expert| expert.instances.is_empty())).await;
    assert_eq!(catalog.experts[0].cards.len(), 1);
    mesh.ask("ask oracle something").await.expect_err("nobody is there");
}
