use std::path::Path;

use consilium_mesh::metrics::Metrics as Page;
use tonic::{Code, Status};

use super::{declared::Kind, token::Leg, *};

const SECRET: &str = "words of a patient";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn leg(expert: &str, answered: bool) -> Leg {
    Leg {
        expert: expert.into(),
        version: "2".into(),
        stage: usize::from(!answered),
        probability: 0.75,
        propensity: 1.0,
        answered,
    }
}

/// On an answer of `labs`, given a thousand seconds after 1970.
fn claims() -> Claims {
    Claims {
        request_id: "r-1".into(),
        issued: 1_000_000,
        tenant: "ward-7".into(),
        outcome: "DISPATCHED".into(),
        gate_revision: "a1".into(),
        legs: vec![leg("labs", true), leg("pharmacy", false)],
    }
}

async fn feedback(journal: Option<&Path>) -> (Feedback, Page) {
    let page = Page::new();
    let metrics = Metrics::on(&page);
    let declared = [
        ("comment", Kind::Text { max_bytes: 100 }),
        ("helpful", Kind::Boolean),
        ("rating", Kind::Number { min: -5.0, max: 5.0 }),
    ];
    let declared = Declared(declared.map(|(name, kind)| (name.to_owned(), kind)).into());
    let seal = Seal::new(Keys::random().unwrap(), "clinic");
    let terms = Terms { seal, declared, window: Duration::from_mins(1) };
    let journal = match journal {
        Some(path) => Some(Journal::open(path.to_owned(), TaskTracker::new()).await.unwrap()),
        None => None,
    };
    (Feedback { terms, journal, metrics }, page)
}

fn message(feedback: &Feedback, claims: &Claims, metrics: Vec<(&str, Value)>) -> Message {
    let said = |(name, value): (&str, Value)| Said { name: name.to_owned(), value: Some(value) };
    Message { token: feedback.terms.seal.close(claims), metrics: metrics.into_iter().map(said).collect() }
}

fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("helpful", Value::Boolean(true)),
        ("rating", Value::Number(-1.5)),
        ("comment", Value::Text(SECRET.to_owned())),
    ]
}

#[tokio::test]
async fn what_is_taken_is_written_and_counted_for_who_answered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feedback.jsonl");
    let (feedback, page) = feedback(Some(&path)).await;
    feedback.take(message(&feedback, &claims(), all()), at(1060)).await.unwrap();
    let line = concat!(
        r#"{"time":"1970-01-01T00:17:40.000Z","request_id":"r-1","tenant":"ward-7","outcome":"DISPATCHED","gate_revision":"a1","#,
        r#""legs":[{"expert":"labs","version":"2","stage":0,"probability":0.75,"propensity":1.0,"answered":true},"#,
        r#"{"expert":"pharmacy","version":"2","stage":1,"probability":0.75,"propensity":1.0,"answered":false}],"#,
        r#""metrics":{"comment":"words of a patient","helpful":true,"rating":-1.5}}"#,
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{line}\n"));
    let page = page.encode();
    for line in [
        r#"consilium_feedback_total{expert="labs",metric="helpful",value="true"} 1"#,
        r#"consilium_feedback_total{expert="labs",metric="comment",value="text"} 1"#,
        r#"consilium_feedback_number_sum{expert="labs",metric="rating"} -1.5"#,
        r#"consilium_feedback_number_count{expert="labs",metric="rating"} 1"#,
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    assert!(!page.contains("pharmacy") && !page.contains(SECRET), "{page}");
}

#[tokio::test]
async fn a_refusal_can_be_spoken_of_too() {
    let (feedback, page) = feedback(None).await;
    let refused = Claims { outcome: "REFUSED".into(), legs: Vec::new(), ..claims() };
    feedback.take(message(&feedback, &refused, vec![("helpful", Value::Boolean(false))]), at(1000)).await.unwrap();
    let page = page.encode();
    assert!(page.contains(r#"consilium_feedback_total{expert="",metric="helpful",value="false"} 1"#), "{page}");
}

#[tokio::test]
async fn what_cannot_be_written_is_not_counted_and_worth_another_try() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feedback.jsonl");
    let (feedback, page) = feedback(Some(&path)).await;
    // A directory can be written to by nobody, not even by root.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let refused = feedback.take(message(&feedback, &claims(), all()), at(1000)).await.unwrap_err();
    assert_eq!(refused.request_id, "r-1");
    let status = Status::from(refused.error);
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(consilium_mesh::errors::reason(&status).as_deref(), Some("FEEDBACK_NOT_STORED"));
    assert_eq!(consilium_mesh::errors::retry_after(&status), Some(Duration::from_secs(1)));
    assert!(!page.encode().contains("labs"));
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once_and_nothing_that_was_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feedback.jsonl");
    let (feedback, page) = feedback(Some(&path)).await;
    let wrong = || vec![("rating", Value::Number(9.0)), (SECRET, Value::Text(SECRET.into()))];
    let forged = |metrics| Message { token: SECRET.to_owned(), ..message(&feedback, &claims(), metrics) };
    let missing = Message { token: String::new(), ..message(&feedback, &claims(), all()) };
    let invalid = |reason, fields| (Code::InvalidArgument, reason, fields);
    let cases = [
        (
            message(&feedback, &claims(), wrong()),
            1000,
            invalid("INVALID_REQUEST", &["metrics[rating]", "metrics[1]"][..]),
        ),
        (forged(wrong()), 1000, invalid("INVALID_TOKEN", &["token", "metrics[rating]", "metrics[1]"])),
        (forged(all()), 1000, invalid("INVALID_TOKEN", &["token"])),
        (missing, 1000, invalid("INVALID_TOKEN", &["token"])),
        (message(&feedback, &claims(), Vec::new()), 1000, invalid("INVALID_REQUEST", &["metrics"])),
        (
            message(&feedback, &claims(), wrong()),
            1061,
            invalid("INVALID_REQUEST", &["token", "metrics[rating]", "metrics[1]"]),
        ),
        (message(&feedback, &claims(), all()), 1061, (Code::FailedPrecondition, "TOKEN_EXPIRED", &["token"])),
    ];
    for (message, now, (code, reason, fields)) in cases {
        let NotTaken { request_id, error } = feedback.take(message, at(now)).await.unwrap_err();
        assert_eq!(request_id, if reason == "INVALID_TOKEN" { "" } else { "r-1" }, "only a token of ours tells");
        let status = Status::from(error);
        let violations = consilium_mesh::errors::violations(&status);
        let found: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!((status.code(), found.as_slice()), (code, fields));
        assert_eq!(consilium_mesh::errors::reason(&status).as_deref(), Some(reason));
        assert!(!format!("{status:?}").contains(SECRET), "{status:?}");
        assert_eq!(consilium_mesh::errors::retry_after(&status), None);
    }
    assert!(std::fs::read(&path).unwrap().is_empty() && !page.encode().contains("labs"), "and nothing came of it");
}
