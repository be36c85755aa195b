//! Chosen, but nobody live: an error that says who is missing, or the fallback with the missing expert named. The gate
//! goes on knowing an expert that is away, so its queries do not land elsewhere.

use consilium_mesh::errors;
use consilium_proto::v1::{decision::Outcome, stream_dispatch_response::Event};
use consilium_tests::{Behaviour, ExpertFiles, Mesh, question};
use tonic::Code;

#[tokio::test]
async fn without_a_fallback_the_caller_hears_who_is_missing() {
    let mesh = Mesh::start("").await;
    let labs = mesh.join(&ExpertFiles::LABS).await;
    let _pharmacy = mesh.join(&ExpertFiles::PHARMACY).await;
    let text = "what does a low potassium blood value mean";
    assert!(mesh.ask(text).await.expect("labs is there").answer.is_some());

    labs.stop().await;
    mesh.until(|catalog| catalog.experts.iter().any(|expert| expert.name == "labs" && expert.instances.is_empty()))
        .await;

    let status = mesh.ask(text).await.expect_err("nobody can answer");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(errors::reason(&status).as_deref(), Some("NO_LIVE_INSTANCE"));
    assert_eq!(errors::metadata(&status).get("experts").map(String::as_str), Some("labs"));

    let explained = mesh.explain(question(text)).await.expect("explaining needs nobody");
    let decision = explained.decision.expect("there is a decision");
    assert_eq!(decision.outcome(), Outcome::Unavailable);
    assert_eq!(decision.unavailable_experts, ["labs"]);

    let request = consilium_proto::v1::StreamDispatchRequest { query: question(text).query, ..Default::default() };
    let mut stream = mesh.client.clone().stream_dispatch(request).await.expect("the stream opens").into_inner();
    let first = stream.message().await.expect("the decision comes").expect("before the error");
    assert!(matches!(first.event, Some(Event::Decision(_))));
    assert_eq!(stream.message().await.expect_err("then the error").code(), Code::Unavailable);
}

#[tokio::test]
async fn with_a_fallback_it_answers_and_names_the_missing_expert() {
    let (mesh, mut experts) = Mesh::of_three().await;
    let labs = experts.remove(0);
    labs.stop().await;
    mesh.until(|catalog| catalog.experts.iter().any(|expert| expert.name == "labs" && expert.instances.is_empty()))
        .await;
    let response = mesh.ask("what does a low potassium blood value mean").await.expect("the fallback answers");
    let decision = response.decision.expect("a response has a decision");
    assert_eq!((decision.outcome(), decision.reason.as_str()), (Outcome::Fallback, "NO_LIVE_INSTANCE"));
    assert_eq!(decision.unavailable_experts, ["labs"]);
    assert_eq!(response.replies[0].expert, "general");
    assert!(response.partial, "the expert that should have answered did not");
}

#[tokio::test]
async fn registered_but_not_answering_is_unavailable_too() {
    let mesh = Mesh::start("").await;
    let mut oracle = mesh.script("oracle", Behaviour::Answer).await;
    oracle.break_down().await;
    let status = mesh.ask("ask oracle something").await.expect_err("nobody answers");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(errors::reason(&status).as_deref(), Some("INSTANCE_UNREACHABLE"));
}
