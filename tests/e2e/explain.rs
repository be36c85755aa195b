//! `Explain` says what `Dispatch` would do, and calls nobody.

use consilium_proto::v1;
use consilium_tests::{Behaviour, Mesh, question};

/// A decision without what differs from call to call: how long it took, and whether the text was asked before.
fn timeless(decision: Option<v1::Decision>) -> v1::Decision {
    v1::Decision { elapsed: None, gate_tier: String::new(), ..decision.expect("there is a decision") }
}

#[tokio::test]
async fn it_makes_the_decision_that_dispatch_makes() {
    let (mesh, _experts) = Mesh::of_three().await;
    for text in [
        "what does a low potassium blood value mean",
        "does the pharmacy stock aspirin tablets",
        "may I ask visitors about the value of tablets",
        "write a poem about the autumn sea",
    ] {
        let explained = mesh.explain(question(text)).await.expect("the mesh explains");
        let dispatched = mesh.ask(text).await.expect("the mesh answers");
        assert_eq!(timeless(explained.decision), timeless(dispatched.decision), "{text}");
    }
}

#[tokio::test]
async fn its_plan_names_the_chosen_expert_first_and_the_fallback_behind_it() {
    let (mesh, _experts) = Mesh::of_three().await;
    let explained = mesh.explain(question("does the pharmacy stock aspirin tablets")).await.expect("the mesh explains");
    let plan = explained.plan.expect("there is a plan");
    let stages: Vec<Vec<_>> =
        plan.stages.iter().map(|stage| stage.legs.iter().map(|leg| leg.expert.as_str()).collect()).collect();
    assert_eq!(stages, [["pharmacy"], ["general"]]);
    for leg in plan.stages.iter().flat_map(|stage| &stage.legs) {
        assert_eq!(leg.live_instances, 1);
        let budget = leg.budget.as_ref().expect("a leg has a budget");
        assert!(budget.seconds < 2, "within the default deadline: {budget:?}");
    }
}

#[tokio::test]
async fn it_calls_nobody() {
    let mesh = Mesh::start("").await;
    let oracle = mesh.script("oracle", Behaviour::Answer).await;
    let explained = mesh.explain(question("ask oracle something")).await.expect("the mesh explains");
    assert_eq!(explained.plan.expect("there is a plan").stages.len(), 1);
    assert_eq!(oracle.calls(), 0);
    mesh.ask("ask oracle something").await.expect("the mesh answers");
    assert_eq!(oracle.calls(), 1, "the same question does call");
}
