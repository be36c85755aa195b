//! Feedback: the token that comes with an answer takes it back to any router of the mesh, at any later time.

use std::{fs, path::Path};

use consilium_expert::Handle;
use consilium_mesh::errors;
use consilium_proto::v1::{
    self,
    send_feedback_request::{Metric, metric::Value},
    stream_dispatch_response::Event,
};
use consilium_tests::{Behaviour, ExpertFiles, Mesh, question};
use tempfile::TempDir;
use tonic::{Code, Status};

const METRICS: &str = "metrics: {helpful: {kind: boolean}, rating: {kind: number, min: 1, max: 5}, \
                       comment: {kind: text, max_bytes: 40}}";
const QUESTION: &str = "does the pharmacy stock aspirin tablets";
const COMMENT: &str = "my aunt got it at once";

/// The section with a key file and a journal in `dir`.
fn section(dir: &Path) -> String {
    let (key, journal) = (dir.join("feedback.key"), dir.join("feedback.jsonl"));
    format!("feedback: {{{METRICS}, key_file: '{}', journal: '{}'}}", key.display(), journal.display())
}

/// A router with one expert, `pharmacy`, that takes feedback as `section` says.
async fn pharmacy(name: &str, section: &str) -> (Mesh, Handle) {
    let mesh = Mesh::named(name, section).await;
    let expert = mesh.join(&ExpertFiles::PHARMACY).await;
    (mesh, expert)
}

fn metric(name: &str, value: impl Into<Option<Value>>) -> Metric {
    Metric { name: name.to_owned(), value: value.into() }
}

fn helpful() -> Vec<Metric> {
    vec![metric("helpful", Value::Boolean(true))]
}

async fn send(mesh: &Mesh, token: &str, metrics: Vec<Metric>) -> Result<(), Status> {
    let request = v1::SendFeedbackRequest { token: token.to_owned(), metrics };
    mesh.client.clone().send_feedback(request).await.map(drop)
}

async fn token(mesh: &Mesh) -> String {
    mesh.ask(QUESTION).await.expect("the mesh answers").feedback_token
}

/// The lines of the journal.
fn journal(dir: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(dir.join("feedback.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

fn fields(status: &Status) -> Vec<String> {
    errors::violations(status).into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn what_a_caller_says_is_counted_and_written_down() {
    let dir = TempDir::new().expect("a temporary directory can be made");
    let (mesh, _expert) = pharmacy("test", &section(dir.path())).await;
    let mut request = question(QUESTION);
    request.context =
        Some(v1::CallContext { request_id: "r-17".into(), tenant: "ward-7".into(), ..Default::default() });
    let reply = mesh.client.clone().dispatch(request).await.expect("the mesh answers").into_inner();
    let said = vec![
        metric("helpful", Value::Boolean(true)),
        metric("rating", Value::Number(4.0)),
        metric("comment", Value::Text(COMMENT.into())),
    ];
    send(&mesh, &reply.feedback_token, said).await.expect("it is taken");
    send(&mesh, &reply.feedback_token, helpful()).await.expect("and so is a second word");

    let page = mesh.metrics.encode();
    for line in [
        r#"consilium_feedback_total{expert="pharmacy",metric="helpful",value="true"} 2"#,
        r#"consilium_feedback_total{expert="pharmacy",metric="comment",value="text"} 1"#,
        r#"consilium_feedback_number_sum{expert="pharmacy",metric="rating"} 4"#,
        r#"consilium_feedback_number_count{expert="pharmacy",metric="rating"} 1"#,
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }

    let lines = journal(dir.path());
    assert_eq!(lines.len(), 2);
    let (line, decision) = (&lines[0], reply.decision.expect("a response has a decision"));
    assert_eq!((line["request_id"].as_str(), line["tenant"].as_str()), (Some("r-17"), Some("ward-7")));
    assert_eq!(line["outcome"], "DISPATCHED");
    assert_eq!(line["gate_revision"], decision.gate_revision);
    assert!(line["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    assert_eq!(line["metrics"], serde_json::json!({"helpful": true, "rating": 4.0, "comment": COMMENT}));
    let [leg] = line["legs"].as_array().expect("legs are a list").as_slice() else { panic!("one expert: {line}") };
    assert_eq!((leg["expert"].as_str(), leg["version"].as_str()), (Some("pharmacy"), Some("1")));
    assert_eq!((leg["answered"].as_bool(), leg["propensity"].as_f64()), (Some(true), Some(1.0)));
    let probability = leg["probability"].as_f64().expect("a number");
    assert!((probability - decision.candidates[0].probability).abs() < 1e-6, "{line}");
    assert_eq!(lines[1]["metrics"], serde_json::json!({"helpful": true}));
}

#[tokio::test]
async fn a_token_outlives_its_router_and_is_known_by_the_others() {
    let dir = TempDir::new().expect("a temporary directory can be made");
    let section = section(dir.path());
    let (first, _expert) = pharmacy("test", &section).await;
    let (other, _one_more) = pharmacy("test", &section).await;
    let token = token(&first).await;
    send(&other, &token, helpful()).await.expect("another router of the mesh takes it");
    first.stopped().await;
    let (again, _another) = pharmacy("test", &section).await;
    send(&again, &token, helpful()).await.expect("and so does one that was started later");
    assert_eq!(journal(dir.path()).len(), 2, "they write into one journal");
}

#[tokio::test]
async fn without_a_key_file_tokens_end_with_their_router() {
    let section = format!("feedback: {{{METRICS}}}");
    let (first, _expert) = pharmacy("test", &section).await;
    let (other, _one_more) = pharmacy("test", &section).await;
    let token = token(&first).await;
    send(&first, &token, helpful()).await.expect("its own");
    let status = send(&other, &token, helpful()).await.expect_err("not its own");
    assert_eq!(errors::reason(&status).as_deref(), Some("INVALID_TOKEN"));
}

#[tokio::test]
async fn forged_foreign_and_cut_tokens_are_refused() {
    let dir = TempDir::new().expect("a temporary directory can be made");
    let (mesh, _expert) = pharmacy("test", &section(dir.path())).await;
    let (foreign, _stranger) = pharmacy("elsewhere", &section(dir.path())).await;
    let token = token(&mesh).await;
    let forged = format!("{}{}", if token.starts_with('A') { "B" } else { "A" }, &token[1..]);
    let cut = token[..token.len() - 1].to_owned();
    let theirs = self::token(&foreign).await;
    assert!(!theirs.is_empty());
    for wrong in [forged, cut, theirs, "x".repeat(100_000), String::new()] {
        let status = send(&mesh, &wrong, helpful()).await.expect_err("no token of this mesh");
        assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["token".to_owned()]));
        assert_eq!(errors::reason(&status).as_deref(), Some("INVALID_TOKEN"));
        assert_eq!(errors::retry_after(&status), None);
    }
    assert!(journal(dir.path()).is_empty() && !mesh.metrics.encode().contains("consilium_feedback_total{"));
}

#[tokio::test]
async fn an_answer_can_be_too_old_to_speak_of() {
    let (mesh, _expert) = pharmacy("test", &format!("feedback: {{{METRICS}, window: 1ms}}")).await;
    let token = token(&mesh).await;
    // Every try takes some of the window; none gives any back.
    let status = loop {
        if let Err(status) = send(&mesh, &token, helpful()).await {
            break status;
        }
    };
    assert_eq!((status.code(), fields(&status)), (Code::FailedPrecondition, vec!["token".to_owned()]));
    assert_eq!(errors::reason(&status).as_deref(), Some("TOKEN_EXPIRED"));
    assert_eq!(errors::retry_after(&status), None, "it becomes no younger");
}

#[tokio::test]
async fn every_wrong_metric_is_named_at_once_and_nothing_is_taken() {
    let dir = TempDir::new().expect("a temporary directory can be made");
    let (mesh, _expert) = pharmacy("test", &section(dir.path())).await;
    let token = token(&mesh).await;
    let wrong = vec![
        metric("helpful", Value::Boolean(true)),
        metric("rating", Value::Number(5.5)),
        metric("comment", Value::Boolean(true)),
        metric("stars", Value::Number(3.0)),
        metric(COMMENT, Value::Text(COMMENT.repeat(3))),
        metric("helpful", Value::Boolean(false)),
    ];
    let status = send(&mesh, &token, wrong).await.expect_err("nearly all of it is wrong");
    assert_eq!((status.code(), errors::reason(&status).as_deref()), (Code::InvalidArgument, Some("INVALID_REQUEST")));
    let expected = ["metrics[rating]", "metrics[comment]", "metrics[stars]", "metrics[4]", "metrics[helpful]"];
    assert_eq!(fields(&status), expected);
    let shown = format!("{status:?} {}", String::from_utf8_lossy(status.details()));
    assert!(!shown.contains(COMMENT), "{shown}");
    let status = send(&mesh, &token, vec![metric("helpful", None)]).await.expect_err("nothing is said");
    assert_eq!(fields(&status), ["metrics[helpful]"]);
    assert!(journal(dir.path()).is_empty() && !mesh.metrics.encode().contains("consilium_feedback_total{"));
}

#[tokio::test]
async fn a_stream_ends_with_a_token_and_an_explanation_has_none() {
    let dir = TempDir::new().expect("a temporary directory can be made");
    let (mesh, _expert) = pharmacy("test", &section(dir.path())).await;
    let query = v1::Query { text: QUESTION.into(), ..Default::default() };
    let request = v1::StreamDispatchRequest { query: Some(query), ..Default::default() };
    let mut events = mesh.client.clone().stream_dispatch(request).await.expect("the stream opens").into_inner();
    let mut tokens = Vec::new();
    while let Some(message) = events.message().await.expect("the stream goes on") {
        if let Some(Event::Done(done)) = message.event {
            tokens.push(done.feedback_token);
        }
    }
    let [token] = tokens.as_slice() else { panic!("one end, with a token") };
    send(&mesh, token, helpful()).await.expect("it is taken");
    assert_eq!(journal(dir.path())[0]["legs"][0]["answered"], true);

    // The type of an explanation has no place for a token; what it stands for must not be taken from it all the same.
    let explained = mesh.explain(question(QUESTION)).await.expect("it explains");
    let status = send(&mesh, &explained.request_id, helpful()).await.expect_err("not a token");
    assert_eq!(errors::reason(&status).as_deref(), Some("INVALID_TOKEN"));
}

#[tokio::test]
async fn that_a_question_should_have_been_answered_is_worth_knowing() {
    let dir = TempDir::new().expect("a temporary directory can be made");
    let settings = format!("gate: {{fallback: general}}\n{}", section(dir.path()));
    let (mesh, _expert) = pharmacy("test", &settings).await;
    let _general = mesh.join(&ExpertFiles::GENERAL).await;
    let reply = mesh.ask("write a poem about the autumn sea").await.expect("a refusal is an OK reply");
    assert!(reply.answer.is_none());
    send(&mesh, &reply.feedback_token, vec![metric("helpful", Value::Boolean(false))]).await.expect("it is taken");
    let line = &journal(dir.path())[0];
    assert_eq!((line["outcome"].as_str(), &line["legs"]), (Some("REFUSED"), &serde_json::json!([])));
    let page = mesh.metrics.encode();
    assert!(page.contains(r#"consilium_feedback_total{expert="",metric="helpful",value="false"} 1"#), "{page}");
}

#[tokio::test]
async fn only_whose_answer_was_given_is_credited_with_it() {
    let dir = TempDir::new().expect("a temporary directory can be made");
    let settings = format!("gate: {{top_k: 2, min_confidence: 0.0, floor: 0.0}}\n{}", section(dir.path()));
    let mesh = Mesh::start(&settings).await;
    let _first = mesh.script("oracle", Behaviour::Answer).await;
    let second = mesh.script("augur", Behaviour::Answer).await;
    let answered = || -> Vec<(String, bool)> {
        let lines = journal(dir.path());
        let legs = lines.last().and_then(|line| line["legs"].as_array()).cloned().unwrap_or_default();
        let leg =
            |leg: &serde_json::Value| (leg["expert"].as_str().unwrap_or_default().to_owned(), leg["answered"] == true);
        legs.iter().map(leg).collect()
    };
    let ask = async |combine: v1::Combine| {
        let mut request = question("ask oracle something");
        request.options = Some(v1::DispatchOptions {
            top_k: Some(2),
            min_confidence: Some(0.0),
            combine: Some(combine.into()),
            ..Default::default()
        });
        let reply = mesh.client.clone().dispatch(request).await.expect("the mesh answers").into_inner();
        assert_eq!(reply.replies.len(), 2, "{:?}", reply.decision);
        send(&mesh, &reply.feedback_token, helpful()).await.expect("it is taken");
    };
    let named = |oracle: bool, augur: bool| vec![("oracle".to_owned(), oracle), ("augur".to_owned(), augur)];
    ask(v1::Combine::Best).await;
    assert_eq!(answered(), named(true, false), "both ran, and one answer was given");
    ask(v1::Combine::All).await;
    assert_eq!(answered(), named(true, true));
    second.behave(Behaviour::Fail(Status::internal("broken")));
    ask(v1::Combine::All).await;
    assert_eq!(answered(), named(true, false));
}

#[tokio::test]
async fn who_answered_in_place_of_another_is_known_as_such() {
    let dir = TempDir::new().expect("a temporary directory can be made");
    let settings = format!("gate: {{min_confidence: 0.0, fallback: augur}}\n{}", section(dir.path()));
    let mesh = Mesh::start(&settings).await;
    let _oracle = mesh.script("oracle", Behaviour::Fail(Status::internal("broken"))).await;
    let _augur = mesh.script("augur", Behaviour::Answer).await;
    let reply = mesh.ask("ask oracle something").await.expect("the fallback answers");
    send(&mesh, &reply.feedback_token, helpful()).await.expect("it is taken");
    let line = &journal(dir.path())[0];
    let legs: Vec<_> = line["legs"].as_array().expect("legs are a list").iter().collect();
    let seen: Vec<_> = legs.iter().map(|leg| (&leg["expert"], &leg["stage"], &leg["answered"])).collect();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("it is JSON");
    let (oracle, augur) = (json(r#"["oracle", 0, false]"#), json(r#"["augur", 1, true]"#));
    assert_eq!(seen, [&oracle, &augur].map(|leg| (&leg[0], &leg[1], &leg[2])), "{line}");
    let counted = r#"consilium_feedback_total{expert="augur",metric="helpful",value="true"} 1"#;
    assert!(mesh.metrics.encode().contains(counted), "and has the praise for it");
}

#[tokio::test]
async fn a_mesh_that_asks_for_nothing_is_told_nothing() {
    let (mesh, _expert) = pharmacy("test", "").await;
    assert_eq!(token(&mesh).await, "");
    let status = send(&mesh, "", helpful()).await.expect_err("there is no feedback");
    assert_eq!((status.code(), errors::reason(&status).as_deref()), (Code::Unimplemented, Some("NO_FEEDBACK")));
}
