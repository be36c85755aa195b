//! What is in scope but clear for nobody goes to the fallback expert; so does what the chosen expert fails to answer.

use consilium_proto::v1::{self, decision::Outcome};
use consilium_tests::{Behaviour, Mesh, question};
use tonic::Status;

#[tokio::test]
async fn an_unclear_question_goes_to_the_fallback_and_says_why() {
    let (mesh, _experts) = Mesh::of_three().await;
    let mut request = question("does the pharmacy know the blood value of tablets");
    request.options = Some(v1::DispatchOptions { min_confidence: Some(0.999), ..Default::default() });
    let response = mesh.client.clone().dispatch(request).await.expect("the mesh answers").into_inner();
    let decision = response.decision.expect("a response has a decision");
    assert_eq!((decision.outcome(), decision.reason.as_str()), (Outcome::Fallback, "LOW_CONFIDENCE"));
    let chosen: Vec<_> = decision.candidates.iter().filter(|candidate| candidate.selected).collect();
    assert_eq!(chosen.len(), 1);
    assert_eq!(chosen[0].expert, "general");
    assert!(chosen[0].reasons[0].starts_with("fallback"), "{:?}", chosen[0].reasons);
    assert_eq!(response.replies[0].expert, "general");
    assert!(response.answer.is_some());
}

#[tokio::test]
async fn when_the_chosen_expert_fails_the_fallback_answers_and_the_reply_says_it_is_partial() {
    let mesh = Mesh::start("gate: {fallback: reserve}").await;
    let oracle = mesh.script("oracle", Behaviour::Fail(Status::internal("broken"))).await;
    let reserve = mesh.script("reserve", Behaviour::Answer).await;
    let response = mesh.ask("ask oracle something").await.expect("the mesh answers");
    let experts: Vec<_> = response.replies.iter().map(|reply| reply.expert.as_str()).collect();
    assert_eq!(experts, ["oracle", "reserve"]);
    assert!(response.partial && response.answer.is_some());
    assert_eq!((oracle.calls(), reserve.calls()), (1, 1));
}

#[tokio::test]
async fn what_the_caller_did_wrong_is_not_tried_on_the_fallback() {
    let mesh = Mesh::start("gate: {fallback: reserve}").await;
    let _oracle = mesh.script("oracle", Behaviour::Fail(Status::invalid_argument("no such unit"))).await;
    let reserve = mesh.script("reserve", Behaviour::Answer).await;
    let status = mesh.ask("ask oracle something").await.expect_err("the caller's mistake is an error");
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert_eq!(reserve.calls(), 0);
}
