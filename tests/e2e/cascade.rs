//! A better expert stands behind a cheap one, and is asked when the cheap one's answer is not sure enough.

use consilium_proto::v1::{self, decision::Outcome, stream_dispatch_response::Event};
use consilium_tests::{Behaviour, ExpertFiles, Mesh, Scripted, question};
use tonic::Status;

const THREE: &str = "gate: {cascade: [{experts: [cheap, better, best], escalate_below: 0.7}], fallback: reserve}";

/// A mesh where `cheap` is the expert for everything, with `better` and `best` behind it, which nobody asks for.
struct Cascade {
    mesh: Mesh,
    experts: [Scripted; 3],
    reserve: Scripted,
}

impl Cascade {
    async fn of(behaviours: [Behaviour; 3]) -> Self {
        Self::with(THREE, behaviours).await
    }

    async fn with(settings: &str, [cheap, better, best]: [Behaviour; 3]) -> Self {
        let mesh = Mesh::start(settings).await;
        let experts =
            [mesh.script("cheap", cheap).await, mesh.script("better", better).await, mesh.script("best", best).await];
        let reserve = mesh.script("reserve", Behaviour::Answer).await;
        Self { mesh, experts, reserve }
    }

    async fn ask(&self) -> v1::DispatchResponse {
        self.mesh.ask("ask cheap something").await.expect("the mesh answers")
    }

    fn calls(&self) -> [usize; 4] {
        let [cheap, better, best] = &self.experts;
        [cheap, better, best, &self.reserve].map(Scripted::calls)
    }
}

/// Who gave an answer of a scripted expert.
fn giver(answer: Option<v1::Answer>) -> String {
    let Some(v1::answer::Body::Text(text)) = answer.and_then(|answer| answer.body) else { return String::new() };
    let instance = text.text.strip_prefix("answer of ").unwrap_or_default().to_owned();
    instance.split('-').next().unwrap_or_default().to_owned()
}

fn stages(plan: Option<v1::Plan>) -> Vec<Vec<String>> {
    let plan = plan.expect("there is a plan");
    plan.stages.into_iter().map(|stage| stage.legs.into_iter().map(|leg| leg.expert).collect()).collect()
}

#[tokio::test]
async fn a_sure_answer_is_the_last_word() {
    let cascade = Cascade::of([Behaviour::Sure(0.7), Behaviour::Sure(0.9), Behaviour::Sure(0.9)]).await;
    let response = cascade.ask().await;
    assert_eq!(cascade.calls(), [1, 0, 0, 0]);
    assert_eq!((giver(response.answer).as_str(), response.partial), ("cheap", false));
}

#[tokio::test]
async fn an_unsure_answer_asks_the_next_one_until_somebody_is_sure() {
    let cascade = Cascade::of([Behaviour::Sure(0.3), Behaviour::Sure(0.8), Behaviour::Sure(0.9)]).await;
    let response = cascade.ask().await;
    assert_eq!(cascade.calls(), [1, 1, 0, 0]);
    let replied: Vec<_> = response.replies.iter().map(|reply| reply.expert.as_str()).collect();
    assert_eq!(replied, ["cheap", "better"], "every reply is told, and one is the answer");
    assert_eq!((giver(response.answer).as_str(), response.partial), ("better", false));
}

#[tokio::test]
async fn the_last_answer_counts_unless_it_is_less_sure_than_one_before_it() {
    let cascade = Cascade::of([Behaviour::Sure(0.6), Behaviour::Sure(0.5), Behaviour::Sure(0.4)]).await;
    let response = cascade.ask().await;
    assert_eq!((cascade.calls(), giver(response.answer).as_str()), ([1, 1, 1, 0], "cheap"));
    let cascade = Cascade::of([Behaviour::Sure(0.6), Behaviour::Sure(0.5), Behaviour::Answer]).await;
    let response = cascade.ask().await;
    assert_eq!(
        (cascade.calls(), giver(response.answer).as_str()),
        ([1, 1, 1, 0], "best"),
        "nobody knows how sure it is"
    );
}

#[tokio::test]
async fn an_answer_without_a_confidence_gives_no_reason_to_doubt_it() {
    let cascade = Cascade::of([Behaviour::Answer, Behaviour::Sure(0.9), Behaviour::Sure(0.9)]).await;
    let response = cascade.ask().await;
    assert_eq!((cascade.calls(), giver(response.answer).as_str()), ([1, 0, 0, 0], "cheap"));
}

#[tokio::test]
async fn an_expert_that_fails_is_followed_by_the_next_one_and_only_when_all_fail_by_the_fallback() {
    let broken = || Behaviour::Fail(Status::internal("broken"));
    let cascade = Cascade::of([broken(), Behaviour::Sure(0.9), Behaviour::Sure(0.9)]).await;
    let response = cascade.ask().await;
    assert_eq!((cascade.calls(), giver(response.answer).as_str()), ([1, 1, 0, 0], "better"));
    assert!(response.partial, "somebody who should have answered did not");

    let cascade = Cascade::of([Behaviour::Sure(0.5), broken(), broken()]).await;
    let response = cascade.ask().await;
    assert_eq!((cascade.calls(), giver(response.answer).as_str()), ([1, 1, 1, 0], "cheap"), "an unsure answer is one");

    let cascade = Cascade::of([broken(), broken(), broken()]).await;
    let response = cascade.ask().await;
    assert_eq!((cascade.calls(), giver(response.answer).as_str()), ([1, 1, 1, 1], "reserve"));
}

#[tokio::test]
async fn a_mistake_of_the_caller_is_nobody_elses_to_mend() {
    let mistaken = Behaviour::Fail(Status::invalid_argument("no such unit"));
    let cascade = Cascade::of([mistaken, Behaviour::Sure(0.9), Behaviour::Sure(0.9)]).await;
    let status = cascade.mesh.ask("ask cheap something").await.expect_err("it stays a mistake");
    assert_eq!((status.code(), cascade.calls()), (tonic::Code::InvalidArgument, [1, 0, 0, 0]));
}

#[tokio::test]
async fn an_explanation_shows_the_stages_and_why_they_are_there() {
    let cascade = Cascade::of([Behaviour::Answer, Behaviour::Answer, Behaviour::Answer]).await;
    let explained = cascade.mesh.explain(question("ask cheap something")).await.expect("the mesh explains");
    let decision = explained.decision.expect("there is a decision");
    let better = decision.candidates.iter().find(|candidate| candidate.expert == "better").expect("it is known");
    assert!(better.reasons.contains(&"behind cheap, for answers below 0.70".to_owned()), "{:?}", better.reasons);
    let plan = explained.plan.clone().expect("there is a plan");
    assert_eq!(stages(explained.plan), [["cheap"], ["better"], ["best"], ["reserve"]]);
    let budgets: Vec<_> = plan.stages.iter().flat_map(|stage| &stage.legs).filter_map(|leg| leg.budget).collect();
    let time = |budget: &prost_types::Duration| (budget.seconds, budget.nanos);
    assert!(
        budgets.windows(2).all(|pair| time(&pair[0]) < time(&pair[1])),
        "each leaves the later ones their objective"
    );
    assert_eq!(cascade.calls(), [0; 4]);
}

#[tokio::test]
async fn who_may_not_answer_is_passed_over() {
    let rule = "gate: {cascade: [{experts: [cheap, better, best], escalate_below: 0.7}], \
                rules: [{name: no-better, when: '\"plain\" in labels', forbid: [better]}]}";
    let cascade = Cascade::with(rule, [Behaviour::Sure(0.3), Behaviour::Sure(0.9), Behaviour::Sure(0.8)]).await;
    let mut request = question("ask cheap something");
    if let Some(query) = &mut request.query {
        query.labels.insert("plain".into(), "1".into());
    }
    let response = cascade.mesh.client.clone().dispatch(request).await.expect("the mesh answers").into_inner();
    assert_eq!((cascade.calls(), giver(response.answer).as_str()), ([1, 0, 1, 0], "best"));
}

#[tokio::test]
async fn the_next_one_stands_in_for_an_expert_that_nobody_serves() {
    let Cascade { mesh, experts: [cheap, better, best], reserve } =
        Cascade::of([Behaviour::Answer, Behaviour::Sure(0.9), Behaviour::Answer]).await;
    let instance = cheap.instance.clone();
    cheap.leave().await;
    let gone = |catalog: &v1::Catalog| {
        catalog.experts.iter().all(|expert| expert.instances.iter().all(|known| known.id != instance))
    };
    mesh.until(gone).await;
    let response = mesh.ask("ask cheap something").await.expect("the mesh answers");
    let decision = response.decision.expect("there is a decision");
    assert_eq!(
        (decision.outcome(), decision.unavailable_experts.as_slice()),
        (Outcome::Dispatched, ["cheap".to_owned()].as_slice())
    );
    assert_eq!((giver(response.answer).as_str(), response.partial), ("better", true));
    assert_eq!([&better, &best, &reserve].map(Scripted::calls), [1, 0, 0]);
}

#[tokio::test]
async fn a_stream_tells_every_reply_and_ends_with_the_answer_that_counts() {
    let cascade = Cascade::of([Behaviour::Sure(0.3), Behaviour::Sure(0.8), Behaviour::Answer]).await;
    let query = v1::Query { text: "ask cheap something".into(), ..Default::default() };
    let request = v1::StreamDispatchRequest { query: Some(query), ..Default::default() };
    let mut stream = cascade.mesh.client.clone().stream_dispatch(request).await.expect("the stream opens").into_inner();
    let (mut replied, mut answer) = (Vec::new(), None);
    while let Some(message) = stream.message().await.expect("the stream goes on") {
        match message.event {
            Some(Event::Reply(reply)) => replied.push(reply.expert),
            Some(Event::Done(done)) => answer = done.answer,
            _ => {}
        }
    }
    assert_eq!((replied, giver(answer).as_str()), (vec!["cheap".to_owned(), "better".to_owned()], "better"));
}

#[tokio::test]
async fn a_better_expert_that_takes_too_long_leaves_the_answer_that_there_is() {
    let settings = "default_deadline: 500ms\ngate: {cascade: [{experts: [cheap, better], escalate_below: 0.7}]}";
    let cascade = Cascade::with(settings, [Behaviour::Sure(0.3), Behaviour::Hold, Behaviour::Answer]).await;
    let response = cascade.ask().await;
    assert_eq!((cascade.calls(), giver(response.answer).as_str()), ([1, 1, 0, 0], "cheap"));
    cascade.experts[1].abandoned(1).await;
}

#[tokio::test]
async fn real_experts_say_how_sure_they_are() {
    // The similarity of what they find is below one, and above nothing.
    for (below, asked) in [(1.0, vec!["labs", "general"]), (0.0, vec!["labs"])] {
        let settings = format!("gate: {{cascade: [{{experts: [labs, general], escalate_below: {below}}}]}}");
        let mesh = Mesh::start(&settings).await;
        let _labs = mesh.join(&ExpertFiles::LABS).await;
        let _general = mesh.join(&ExpertFiles::GENERAL).await;
        let response = mesh.ask("what does a low potassium blood value mean").await.expect("the mesh answers");
        let replied: Vec<_> = response.replies.iter().map(|reply| reply.expert.as_str()).collect();
        assert_eq!(replied, asked, "below {below}");
        let confidence = |reply: &v1::Reply| match &reply.result {
            Some(v1::reply::Result::Answer(answer)) => answer.confidence.expect("a search says how near it came"),
            other => panic!("everybody answers: {other:?}"),
        };
        let best = response.replies.iter().map(confidence).fold(0.0, f64::max);
        assert_eq!(response.answer.and_then(|answer| answer.confidence), Some(best));
    }
}
