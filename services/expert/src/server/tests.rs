use std::{sync::atomic::Ordering, time::Duration};

use consilium_mesh::{errors, metrics::Metrics};
use tonic::Code;

use super::{
    testing::{card, identity},
    *,
};
use crate::task::Scripted;

const PATIENCE: Duration = Duration::from_secs(5);

fn server(task: Option<Arc<Scripted>>) -> Server {
    server_on(&Metrics::new(), task)
}

fn server_on(page: &Metrics, task: Option<Arc<Scripted>>) -> Server {
    let ready = OnceLock::new();
    if let Some(task) = task {
        ready.set(Ready::new(card(), task, Arc::default(), None)).unwrap();
    }
    let (identity, ready) = (Arc::new(identity()), Arc::new(ready));
    let tally = Tally::new(page, &identity, &ready);
    Server::new(identity, ready, tally)
}

/// A request as it comes from the deadline layer.
fn request(expert: &str) -> Request<v1::StreamInferRequest> {
    let query = v1::Query { text: "what?".to_owned(), ..Default::default() };
    let message = v1::StreamInferRequest { expert: expert.to_owned(), query: Some(query), ..Default::default() };
    let mut request = Request::new(message);
    request.extensions_mut().insert(Deadline::new(Instant::now() + PATIENCE));
    request
}

fn unary(request: Request<v1::StreamInferRequest>) -> Request<v1::InferRequest> {
    request.map(|v1::StreamInferRequest { expert, query, context, embedding }| v1::InferRequest {
        expert,
        query,
        context,
        embedding,
    })
}

async fn refusal(server: &Server, request: Request<v1::StreamInferRequest>) -> (Code, Option<String>) {
    let status = server.infer(unary(request)).await.expect_err("the call is refused");
    (status.code(), errors::reason(&status))
}

#[tokio::test]
async fn a_stream_gives_the_pieces_and_then_the_answer() {
    let task = Scripted::new(&["for", "ty"]);
    task.released.add_permits(1);
    let events = server(Some(task)).stream_infer(request("oracle")).await.unwrap().into_inner();
    let events: Vec<_> = events.map(|event| event.unwrap().event.unwrap()).collect().await;
    let [v1::stream_infer_response::Event::Delta(one), v1::stream_infer_response::Event::Delta(two), done] =
        events.as_slice()
    else {
        panic!("{} events", events.len())
    };
    assert_eq!((one.as_str(), two.as_str()), ("for", "ty"));
    let v1::stream_infer_response::Event::Done(done) = done else { panic!("no answer at the end") };
    assert_eq!((done.expert.as_str(), done.version.as_str(), done.instance.as_str()), ("oracle", "3", "oracle-1"));
    assert!(done.answer.is_some() && done.timings.is_some());
}

#[tokio::test]
async fn infer_gives_the_answer_alone_and_the_name_may_be_left_out() {
    let task = Scripted::new(&["for", "ty"]);
    task.released.add_permits(1);
    let response = server(Some(task)).infer(unary(request(""))).await.unwrap().into_inner();
    assert!(matches!(response.answer.unwrap().body, Some(v1::answer::Body::Embedding(_))));
}

#[tokio::test]
async fn other_experts_are_not_found_and_a_starting_one_is_unavailable() {
    let starting = server(None);
    assert_eq!(refusal(&starting, request("oracle")).await, (Code::Unavailable, Some("STARTING".to_owned())));
    assert_eq!(refusal(&starting, request("sibyl")).await, (Code::NotFound, Some("UNKNOWN_EXPERT".to_owned())));
    let describe = Request::new(v1::DescribeRequest { expert: "sibyl".to_owned() });
    assert_eq!(starting.describe(describe).await.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test]
async fn a_call_without_a_deadline_is_not_run() {
    let task = Scripted::new(&[]);
    let mut request = request("oracle");
    request.extensions_mut().clear();
    let refused = refusal(&server(Some(Arc::clone(&task))), request).await;
    assert_eq!(refused, (Code::Internal, Some("DEFECT".to_owned())));
    assert_eq!(task.begun.available_permits(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_its_deadline_and_abandons_the_work() {
    let task = Scripted::new(&["for"]);
    let (begun, page) = (Instant::now(), Metrics::new());
    // It lives as long as the test: with the server the expert leaves the page.
    let server = server_on(&page, Some(Arc::clone(&task)));
    let mut events = server.stream_infer(request("oracle")).await.unwrap().into_inner();
    assert!(events.next().await.unwrap().is_ok());
    let status = events.next().await.unwrap().expect_err("the task never answers");
    assert_eq!((status.code(), begun.elapsed()), (Code::DeadlineExceeded, PATIENCE));
    assert!(events.next().await.is_none());
    assert!(task.abandoned.load(Ordering::SeqCst));
    assert_eq!(counted(&page), ["DEADLINE_EXCEEDED 1"]);
}

/// The codes that the answers of a page ended with, and how many of each.
fn counted(page: &Metrics) -> Vec<String> {
    let series = r#"consilium_expert_answer_duration_seconds_count{expert="oracle",rpc_response_status_code=""#;
    page.encode().lines().filter_map(|line| Some(line.strip_prefix(series)?.replace("\"}", ""))).collect()
}

#[tokio::test]
async fn a_dropped_call_abandons_the_work() {
    let task = Scripted::new(&[]);
    let page = Metrics::new();
    let server = server_on(&page, Some(Arc::clone(&task)));
    let mut call = Box::pin(server.infer(unary(request("oracle"))));
    assert!(futures::poll!(&mut call).is_pending());
    assert!(!task.abandoned.load(Ordering::SeqCst));
    assert!(counted(&page).is_empty());
    drop(call);
    assert!(task.abandoned.load(Ordering::SeqCst));
    assert_eq!(counted(&page), ["CANCELLED 1"]);
}

#[tokio::test]
async fn describe_gives_the_card_with_its_digest() {
    let server = server(Some(Scripted::new(&[])));
    let request = Request::new(v1::DescribeRequest { expert: String::new() });
    let described = server.describe(request).await.unwrap().into_inner();
    let told = described.card.unwrap();
    assert_eq!((told.digest, told.summary), (card().digest(), card().summary));
    assert_eq!(told.serves["audience"].values, ["patient"]);
    assert_eq!((described.instance.as_str(), described.knowledge_revision.as_str()), ("oracle-1", ""));
}
