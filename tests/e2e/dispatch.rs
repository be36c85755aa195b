//! The right expert's answer comes back, with the reasons and the parts that a client needs.

use consilium_proto::v1::{self, answer::Body, decision::Outcome, reply::Result as ReplyResult};
use consilium_tests::{Mesh, question};

#[tokio::test]
async fn each_question_is_answered_by_the_expert_that_it_is_for() {
    let (mesh, _experts) = Mesh::of_three().await;
    for (text, expert) in [
        ("what does a low potassium blood value mean", "labs"),
        ("does the pharmacy stock aspirin tablets", "pharmacy"),
        ("where do visitors of the clinic park", "general"),
    ] {
        let response = mesh.ask(text).await.expect("the mesh answers");
        let decision = response.decision.expect("a response has a decision");
        assert_eq!(decision.outcome(), Outcome::Dispatched, "{text}");
        assert_eq!(response.replies.len(), 1, "{text}");
        assert_eq!(response.replies[0].expert, expert, "{text}");
        assert!(!response.partial, "{text}");
    }
}

#[tokio::test]
async fn a_reply_says_who_answered_from_what_and_where_the_time_went() {
    let (mesh, experts) = Mesh::of_three().await;
    let response = mesh.ask("which laboratory value shows inflammation").await.expect("the mesh answers");

    let decision = response.decision.expect("a response has a decision");
    assert!(!decision.gate_revision.is_empty() && decision.gate_tier == "encoder", "{decision:?}");
    assert!(decision.elapsed.is_some());
    let sum: f64 = decision.candidates.iter().map(|candidate| candidate.probability).sum();
    assert!(sum <= 1.0 + 1e-9, "{sum}");
    let chosen: Vec<_> = decision.candidates.iter().filter(|candidate| candidate.selected).collect();
    assert_eq!(chosen.len(), 1);
    assert!(!chosen[0].reasons.is_empty());

    let reply = &response.replies[0];
    assert_eq!(reply.instance, experts[0].instance());
    assert_eq!(reply.attempts.len(), 1);
    assert_eq!(reply.attempts[0].code, 0);
    let timings = reply.timings.as_ref().expect("an expert tells its timings");
    assert!(timings.total.is_some() && timings.inference.is_some());

    let answer = response.answer.expect("there is an answer");
    assert_eq!(reply.result, Some(ReplyResult::Answer(answer.clone())));
    assert!(!answer.knowledge_revision.is_empty() && !answer.calibrated);
    let Some(Body::Passages(found)) = answer.body else { panic!("a retrieve expert answers with passages") };
    assert_eq!(found.passages.len(), 2, "as many as `top` says");
    let passage = &found.passages[0];
    let best = passage.best.expect("the best sentence is marked");
    assert!(passage.text.get(best.start as usize..best.end as usize).is_some_and(|sentence| !sentence.is_empty()));
    assert_eq!(passage.source.as_ref().map(|source| source.as_of.as_str()), Some("2026-01-15"));
}

#[tokio::test]
async fn a_request_keeps_its_id_or_gets_one() {
    let (mesh, _experts) = Mesh::of_three().await;
    let mut request = question("does the pharmacy stock aspirin tablets");
    request.context = Some(v1::CallContext { request_id: "ward-7/42".into(), ..Default::default() });
    let kept = mesh.client.clone().dispatch(request).await.expect("the mesh answers").into_inner();
    assert_eq!(kept.request_id, "ward-7/42");
    let made = mesh.ask("does the pharmacy stock aspirin tablets").await.expect("the mesh answers");
    assert_eq!(made.request_id.len(), 36, "a UUID: {}", made.request_id);
}

#[tokio::test]
async fn the_caller_may_narrow_the_choice_and_ask_several() {
    let (mesh, _experts) = Mesh::of_three().await;
    let text = "does the pharmacy stock tablets for a high potassium blood value";
    let mut request = question(text);
    request.options = Some(v1::DispatchOptions {
        top_k: Some(2),
        min_confidence: Some(0.05),
        combine: Some(v1::Combine::All.into()),
        ..Default::default()
    });
    let both = mesh.client.clone().dispatch(request).await.expect("the mesh answers").into_inner();
    let mut experts: Vec<_> = both.replies.iter().map(|reply| reply.expert.as_str()).collect();
    experts.sort_unstable();
    assert_eq!(experts, ["labs", "pharmacy"]);
    let sections = both.answer.expect("there is an answer").sections;
    assert_eq!(sections.len(), 2, "`all` keeps every answer");

    let mut request = question(text);
    request.options = Some(v1::DispatchOptions { experts: vec!["labs".into()], ..Default::default() });
    let one = mesh.client.clone().dispatch(request).await.expect("the mesh answers").into_inner();
    assert!(one.replies.iter().all(|reply| reply.expert == "labs"), "only the allowed expert is called");
}

#[tokio::test]
async fn an_expert_that_does_not_serve_a_given_value_is_out() {
    let (mesh, _experts) = Mesh::of_three().await;
    let mut request = question("does the pharmacy stock aspirin tablets");
    let clinician = v1::Values { values: vec!["clinician".into()] };
    request.query.as_mut().expect("there is a query").attributes.insert("audience".into(), clinician);
    let response = mesh.client.clone().dispatch(request).await.expect("the mesh answers").into_inner();
    assert!(response.replies.iter().all(|reply| reply.expert != "pharmacy"), "pharmacy serves patients only");
    let decision = response.decision.expect("a response has a decision");
    let pharmacy =
        decision.candidates.iter().find(|candidate| candidate.expert == "pharmacy").expect("it was considered");
    assert!(pharmacy.reasons[0].contains("audience"), "{:?}", pharmacy.reasons);
    assert_eq!(decision.dimensions[0].source, "given");
}
