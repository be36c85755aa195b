//! What the router tells about itself: the catalogue, objectives, health, reflection.

use consilium_proto::v1;
use consilium_tests::{Behaviour, Mesh};
use tonic::Status;

#[tokio::test]
async fn objectives_count_answers_failures_and_nothing_that_the_caller_did_wrong() {
    let mesh = Mesh::start("").await;
    let oracle = mesh.script("oracle", Behaviour::Answer).await;
    for _ in 0..3 {
        mesh.ask("ask oracle something").await.expect("it answers");
    }
    oracle.behave(Behaviour::Fail(Status::internal("broken")));
    mesh.ask("ask oracle something").await.expect_err("it fails");
    oracle.behave(Behaviour::Fail(Status::invalid_argument("no")));
    mesh.ask("ask oracle something").await.expect_err("it finds fault with the query");

    let catalog = mesh.catalog.clone().list_experts(v1::ListExpertsRequest {}).await.expect("it lists").into_inner();
    let slo = catalog.catalog.expect("a catalogue").experts[0].slo.expect("an expert has an objective");
    assert_eq!((slo.good, slo.total), (3, 4));
    let page = mesh.metrics.encode();
    assert!(page.contains(r#"consilium_slo_good_total{expert="oracle"} 3"#), "{page}");
    assert!(page.contains(r#"consilium_slo_total{expert="oracle"} 4"#), "{page}");
}

#[tokio::test]
async fn the_catalogue_shows_cards_instances_and_their_state() {
    let (mesh, experts) = Mesh::of_three().await;
    let listed = mesh.catalog.clone().list_experts(v1::ListExpertsRequest {}).await.expect("it lists").into_inner();
    let catalog = listed.catalog.expect("a catalogue");
    assert_eq!(catalog.mesh, "test");
    let names: Vec<_> = catalog.experts.iter().map(|expert| expert.name.as_str()).collect();
    assert_eq!(names, ["general", "labs", "pharmacy"]);
    let labs = &catalog.experts[1];
    assert_eq!((labs.cards[0].task.as_str(), labs.cards[0].examples.len()), ("retrieve", 5));
    assert_eq!(labs.cards[0].models[0].digest.len(), 64);
    assert_eq!(labs.instances[0].address, experts[0].address().to_string());
    assert_eq!(labs.instances[0].state(), v1::instance::State::Serving);
}
