//! `StreamDispatch`: the decision, pieces of text, each reply, the end, in this order.

use consilium_proto::v1::{self, stream_dispatch_response::Event};
use consilium_tests::{Behaviour, Mesh};
use tonic::Code;

fn question(text: &str) -> v1::StreamDispatchRequest {
    let query = v1::Query { text: text.into(), ..Default::default() };
    v1::StreamDispatchRequest { query: Some(query), ..Default::default() }
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Decision(_) => "decision",
        Event::Delta(_) => "delta",
        Event::Reply(_) => "reply",
        Event::Done(_) => "done",
    }
}

async fn events(mesh: &Mesh, text: &str) -> (Vec<Event>, Option<tonic::Status>) {
    let mut stream = mesh.client.clone().stream_dispatch(question(text)).await.expect("the stream opens").into_inner();
    let mut events = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => events.push(message.event.expect("a message has an event")),
            Ok(None) => return (events, None),
            Err(status) => return (events, Some(status)),
        }
    }
}

#[tokio::test]
async fn text_comes_between_the_decision_and_the_reply_in_the_order_it_was_said() {
    let mesh = Mesh::start("").await;
    let _oracle = mesh.script("oracle", Behaviour::Stream(vec!["first ", "second ", "third"])).await;
    let (events, status) = events(&mesh, "ask oracle something").await;
    assert!(status.is_none(), "{status:?}");
    let kinds: Vec<_> = events.iter().map(kind).collect();
    assert_eq!(kinds, ["decision", "delta", "delta", "delta", "reply", "done"]);
    let said: String = events
        .iter()
        .filter_map(|event| if let Event::Delta(delta) = event { Some(&*delta.text) } else { None })
        .collect();
    assert_eq!(said, "first second third");
    let Some(Event::Done(done)) = events.last() else { panic!("the end comes last") };
    assert!(done.answer.is_some() && !done.request_id.is_empty());
}

#[tokio::test]
async fn a_real_expert_streams_its_answer_too() {
    let (mesh, _experts) = Mesh::of_three().await;
    let (events, status) = events(&mesh, "does the pharmacy stock aspirin tablets").await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(events.iter().map(kind).collect::<Vec<_>>(), ["decision", "reply", "done"]);
    let unary = mesh.ask("does the pharmacy stock aspirin tablets").await.expect("the mesh answers");
    let Some(Event::Done(done)) = events.last() else { panic!("the end comes last") };
    assert_eq!(done.answer, unary.answer, "both ways give one answer");
}

#[tokio::test]
async fn a_refusal_is_a_decision_and_an_end() {
    let (mesh, _experts) = Mesh::of_three().await;
    let (events, status) = events(&mesh, "write a poem about the autumn sea").await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(events.iter().map(kind).collect::<Vec<_>>(), ["decision", "done"]);
}

#[tokio::test]
async fn a_failure_comes_after_what_is_known_of_it() {
    let mesh = Mesh::start("").await;
    let _oracle = mesh.script("oracle", Behaviour::Fail(tonic::Status::invalid_argument("no"))).await;
    let (events, status) = events(&mesh, "ask oracle something").await;
    assert_eq!(events.iter().map(kind).collect::<Vec<_>>(), ["decision", "reply"]);
    assert_eq!(status.map(|status| status.code()), Some(Code::InvalidArgument));
}

#[tokio::test]
async fn nobody_starts_over_once_the_caller_has_text() {
    let mesh = Mesh::start("").await;
    let breaking = || Behaviour::Break(vec!["first ", "second "], tonic::Status::unavailable("gone"));
    let one = mesh.script("oracle", breaking()).await;
    let two = mesh.script("oracle", breaking()).await;
    let (events, status) = events(&mesh, "ask oracle something").await;
    assert_eq!(events.iter().map(kind).collect::<Vec<_>>(), ["decision", "delta", "delta", "reply"]);
    assert_eq!(status.map(|status| status.code()), Some(Code::Unavailable));
    assert_eq!(one.calls() + two.calls(), 1);
}
