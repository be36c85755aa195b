//! Feedback on a router that really serves: what its disk and its logs come to see.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what a test stands on failing is the test failing")]

#[path = "inference/instance.rs"]
#[expect(dead_code, reason = "the tests of the Open Inference Protocol look closer")]
mod instance;
#[path = "inference/mesh.rs"]
#[expect(dead_code, reason = "the tests of the Open Inference Protocol look closer")]
mod mesh;

use std::{
    fs, io,
    path::Path,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use consilium_mesh::errors::{self, REQUEST_ID};
use consilium_proto::{
    client::router_service_client::RouterServiceClient,
    v1::{
        self,
        send_feedback_request::{Metric, metric::Value},
    },
};
use tonic::{Code, Status};
use tracing_subscriber::fmt::MakeWriter;

use self::mesh::Mesh;

const QUESTION: &str = "is my potassium high canary-91ab";
const COMMENT: &str = "canary-77fe it was";
const TENANT: &str = "canary-03dd";
const ID: &str = "request-5b20";

fn settings(dir: &Path, journal: &str) -> String {
    let (key, journal) = (dir.join("feedback.key"), dir.join(journal));
    let metrics = "{helpful: {kind: boolean}, comment: {kind: text}}";
    format!("feedback: {{metrics: {metrics}, key_file: '{}', journal: '{}'}}", key.display(), journal.display())
}

async fn ask(mesh: &Mesh) -> String {
    let query = v1::Query { text: QUESTION.into(), ..Default::default() };
    let context = v1::CallContext { tenant: TENANT.into(), request_id: ID.into(), ..Default::default() };
    let request = v1::DispatchRequest { query: Some(query), context: Some(context), ..Default::default() };
    RouterServiceClient::new(mesh.channel.clone()).dispatch(request).await.unwrap().into_inner().feedback_token
}

async fn send(mesh: &Mesh, token: &str, name: &str) -> Result<(), Status> {
    let metrics = vec![Metric { name: name.to_owned(), value: Some(Value::Text(COMMENT.to_owned())) }];
    let request = v1::SendFeedbackRequest { token: token.to_owned(), metrics };
    RouterServiceClient::new(mesh.channel.clone()).send_feedback(request).await.map(drop)
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_told_and_worth_another_try() {
    Logs::of_all();
    let dir = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(&settings(dir.path(), "feedback.jsonl")).await;
    let _labs = mesh.labs(&[]).await;
    let token = ask(&mesh).await;
    // A directory can be written to by nobody, not even by root.
    let journal = dir.path().join("feedback.jsonl");
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    let status = send(&mesh, &token, "comment").await.unwrap_err();
    assert_eq!((status.code(), errors::reason(&status).as_deref()), (Code::Unavailable, Some("FEEDBACK_NOT_STORED")));
    assert_eq!(errors::retry_after(&status), Some(Duration::from_secs(1)));
    let counted = r#"consilium_feedback_total{expert="labs",metric="comment",value="text"} "#;
    assert_eq!(mesh.count(counted), 0);

    fs::remove_dir(&journal).unwrap();
    send(&mesh, &token, "comment").await.unwrap();
    assert_eq!((mesh.count(counted), fs::read_to_string(&journal).unwrap().lines().count()), (1, 1));
    mesh.stopped().await;
}

/// The request that an error says it belongs to.
fn request_id(status: &Status) -> Option<&str> {
    status.metadata().get(REQUEST_ID).map(|id| id.to_str().unwrap())
}

#[tokio::test]
async fn errors_name_the_request_of_a_token_that_is_ours() {
    Logs::of_all();
    let dir = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(&settings(dir.path(), "feedback.jsonl")).await;
    let _labs = mesh.labs(&[]).await;
    let token = ask(&mesh).await;
    let status = send(&mesh, &token, "stars").await.unwrap_err();
    assert_eq!(errors::reason(&status).as_deref(), Some("INVALID_REQUEST"));
    assert_eq!(request_id(&status), Some(ID));
    let status = send(&mesh, &token[1..], "comment").await.unwrap_err();
    assert_eq!(errors::reason(&status).as_deref(), Some("INVALID_TOKEN"));
    assert_eq!(request_id(&status), None, "nobody knows whose it is");
    fs::remove_file(dir.path().join("feedback.jsonl")).unwrap();
    fs::create_dir(dir.path().join("feedback.jsonl")).unwrap();
    let status = send(&mesh, &token, "comment").await.unwrap_err();
    assert_eq!((status.code(), request_id(&status)), (Code::Unavailable, Some(ID)));
    mesh.stopped().await;
}

#[tokio::test]
async fn however_much_is_wrong_clients_take_the_error() {
    Logs::of_all();
    let long = |letter: char| (10..42).map(move |n| format!("{}_{n}", letter.to_string().repeat(61)));
    let metrics: Vec<_> = long('d').map(|name| format!("{name}: {{kind: boolean}}")).collect();
    let mesh = Mesh::start(&format!("feedback: {{metrics: {{{}}}}}", metrics.join(", "))).await;
    let _labs = mesh.labs(&[]).await;
    let token = ask(&mesh).await;
    let mut client = RouterServiceClient::new(mesh.channel.clone());
    let boolean = |name: String| Metric { name, value: Some(Value::Boolean(true)) };
    let many = long('u').chain(long('u')).map(boolean).collect();
    for metrics in [long('u').map(boolean).collect(), many, Vec::new()] {
        let request = v1::SendFeedbackRequest { token: token.clone(), metrics };
        let status = client.send_feedback(request).await.unwrap_err();
        assert_eq!(errors::reason(&status).as_deref(), Some("INVALID_REQUEST"), "{status:?}");
        assert!(status.message().contains("or one of 24 more"), "{status:?}");
        // As HTTP/2 counts them, against what clients of gRPC take that are not told otherwise.
        let headers = status.into_http::<()>().into_parts().0.headers;
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(bytes < 8192, "{bytes}");
    }
    mesh.stopped().await;
}

#[tokio::test]
async fn a_new_key_is_warned_of_where_other_routers_need_it() {
    let logs = Logs::of_all();
    for (registry, level) in [("{etcd: {endpoints: ['http://127.0.0.1:1']}}", "WARN"), ("{}", "INFO")] {
        let dir = tempfile::tempdir().unwrap();
        let section = settings(dir.path(), "feedback.jsonl");
        Mesh::start(&format!("{section}\nregistry: {registry}")).await.stopped().await;
        let logged = String::from_utf8(logs.0.lock().unwrap().clone()).unwrap();
        let path = dir.path().join("feedback.key").display().to_string();
        let told = |line: &&str| line.contains("made a key for feedback tokens") && line.contains(&path);
        let lines: Vec<_> = logged.lines().filter(told).collect();
        assert!(matches!(lines[..], [line] if line.contains(level)), "{lines:?}");
    }
}

/// Logs, kept in memory.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logs {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Logs {
    /// Of the whole process. Each test begins with it: whether a line is logged is found out once, by whoever comes to it
    /// first.
    fn of_all() -> &'static Self {
        static LOGS: LazyLock<Logs> = LazyLock::new(|| {
            let logs = Logs::default();
            tracing_subscriber::fmt()
                .with_env_filter("consilium_router=trace,consilium_mesh=trace")
                .with_writer(logs.clone())
                .init();
            logs
        });
        &LOGS
    }
}

#[tokio::test]
async fn neither_keys_nor_words_of_people_are_logged() {
    let logs = Logs::of_all();
    let dir = tempfile::tempdir().unwrap();
    let mesh = Mesh::start(&settings(dir.path(), "feedback.jsonl")).await;
    let _labs = mesh.labs(&[]).await;
    let token = ask(&mesh).await;
    send(&mesh, &token, "comment").await.unwrap();
    send(&mesh, COMMENT, COMMENT).await.unwrap_err();
    fs::remove_file(dir.path().join("feedback.jsonl")).unwrap();
    fs::create_dir(dir.path().join("feedback.jsonl")).unwrap();
    send(&mesh, &token, "comment").await.unwrap_err();
    mesh.stopped().await;

    let logged = String::from_utf8(logs.0.lock().unwrap().clone()).unwrap();
    let failed = format!("path: {:?}", dir.path().join("feedback.jsonl"));
    let told = |line: &str| line.contains("feedback cannot be stored") && line.contains(&failed);
    assert!(logged.lines().any(told), "what is to be logged is: {logged}");
    let key = fs::read_to_string(dir.path().join("feedback.key")).unwrap();
    for secret in [key.trim(), token.as_str(), "canary"] {
        assert!(!logged.contains(secret), "{logged}");
    }
}
