//! `consilium verify`: who is waited for, and what counts as right. A real mesh is verified in `running`.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
};

use consilium_mesh::serve::Options;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{
    said,
    scripted::{Script, Scripted},
};

const FRUIT: &str = r#"{"text": "is an apple red", "expert": "fruit", "outcome": "dispatched"}"#;
const REFUSED: &str = r#"{"text": "who won", "expert": null, "outcome": "refused"}"#;
const WRONG: &str = r#"{"text": "who grew it", "expert": "fruit", "outcome": "dispatched"}"#;

fn questions(lines: &[&str]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), lines.join("\n")).unwrap();
    file
}

fn verified(mesh: &Scripted, lines: &[&str], flags: &[&str]) -> (Option<i32>, String, String) {
    let (file, router) = (questions(lines), format!("http://{}", mesh.address));
    said(&[&["verify", file.path().to_str().unwrap(), "--router", &router][..], flags].concat())
}

#[test]
fn a_mesh_that_answers_rightly_is_done_and_one_that_does_not_has_failed() {
    let mesh = Scripted::start(Script::default(), Options::default());
    let (code, out, err) = verified(&mesh, &[FRUIT, REFUSED], &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with(" 1  is an apple red\n    ✓ fruit  90%  "), "{out}");
    assert!(out.contains("\n2 of 2 right\nanswers in ") && !out.contains("up in"), "{out}");

    let (code, out, _) = verified(&mesh, &[FRUIT, WRONG], &[]);
    assert_eq!(code, Some(1));
    assert!(out.contains("expected fruit to answer, dispatched") && out.contains("1 of 2 right"), "{out}");
    let (code, out, _) = verified(&mesh, &[FRUIT, WRONG], &["--json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["mesh"]), (Some(1), &json!("market")));
    let right: Vec<&Value> =
        document["questions"].as_array().unwrap().iter().map(|question| &question["right"]).collect();
    assert_eq!(right, [true, false]);
    let summary = document["summary"].as_object().unwrap();
    assert!(
        ["right", "wrong", "latency_p50_ms", "latency_max_ms"].iter().all(|key| summary.contains_key(*key)),
        "{out}"
    );
    assert_eq!(summary.len(), 4, "neither start-up nor memory: they are another process's");
}

#[test]
fn a_router_that_is_not_ready_and_experts_that_are_not_there_yet_are_waited_for() {
    let mesh = Scripted::start(Script { unready: 2, unlisted: 2, nobody: 3, ..Script::default() }, Options::default());
    let (code, out, err) = verified(&mesh, &[REFUSED, FRUIT, FRUIT], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!((mesh.checks(), mesh.catalogs(), mesh.questions()), (3, 3, 3 + 3));

    let mesh = Scripted::start(Script { unready: 1, ..Script::default() }, Options::default());
    let (code, out, err) = verified(&mesh, &[FRUIT], &["--wait", "0s", "--json"]);
    assert_eq!((code, out.as_str(), mesh.questions()), (Some(1), "", 0));
    let error = serde_json::from_str::<Value>(&err).unwrap()["error"].take();
    assert_eq!((&error["code"], &error["message"]), (&json!("UNAVAILABLE"), &json!("the router is not ready")));
}

#[test]
fn once_an_expert_has_answered_nobody_is_waited_for() {
    let mesh = Scripted::start(Script { last: Some(1), ..Script::default() }, Options::default());
    let (code, out, _) = verified(&mesh, &[FRUIT, FRUIT, FRUIT], &["--wait", "1h"]);
    assert_eq!((code, mesh.questions()), (Some(1), 3), "{out}");
    assert!(out.contains("no live instance of fruit") && out.contains("1 of 3 right"), "{out}");
}

#[test]
fn whoever_says_nothing_is_not_waited_for_without_an_end() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let file = questions(&[FRUIT]);
    let router = format!("http://{address}");
    let (code, out, err) =
        said(&["verify", file.path().to_str().unwrap(), "--router", &router, "--wait", "0s", "--json"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let error = serde_json::from_str::<Value>(&err).unwrap()["error"].take();
    let message = format!("{address} says nothing");
    assert_eq!((&error["code"], &error["message"]), (&json!("DEADLINE_EXCEEDED"), &json!(message)), "{err}");

    let mesh = Scripted::start(Script { mute: true, ..Script::default() }, Options::default());
    let (code, out, _) = verified(&mesh, &[FRUIT], &["--deadline", "100ms"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("no answer within 100ms") && out.contains("0 of 1 right"), "{out}");
}

#[test]
fn a_signal_ends_it_in_good_order() {
    let file = questions(&[FRUIT]);
    for (signal, expected) in [("-TERM", 143), ("-INT", 130)] {
        // One for each: the first may leave connections behind that nobody has taken.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let router = format!("http://{}", silent.local_addr().unwrap());
        let mut verify = Command::new(env!("CARGO_BIN_EXE_consilium"))
            .args(["verify", file.path().to_str().unwrap(), "--router", &router, "--wait", "60s"])
            .spawn()
            .unwrap();
        // By then it is well under way.
        let _connection = silent.accept().unwrap();
        assert!(Command::new("kill").args([signal, &verify.id().to_string()]).status().unwrap().success());
        assert_eq!(verify.wait().unwrap().code(), Some(expected));
    }
}

#[test]
fn a_router_may_come_after_whoever_asks_it() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = questions(&[FRUIT]);
    let router = format!("http://{address}");
    let arguments =
        |wait| ["verify", file.path().to_str().unwrap(), "--router", &router, "--wait", wait].map(str::to_owned);
    let (code, out, err) = said(&arguments("0s").each_ref().map(String::as_str));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains(&format!("no router answers at {address}")), "{err}");

    let early = Command::new(env!("CARGO_BIN_EXE_consilium"))
        .args(arguments("1m"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _mesh = Scripted::start_at(address, Script::default(), Options::default());
    let output = early.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_wrong_file_is_said_line_by_line_before_anybody_is_asked() {
    let mesh = Scripted::start(Script::default(), Options::default());
    let (code, out, err) = verified(&mesh, &[FRUIT, "no json", r#"{"text": "a?", "outcome": "dispatched"}"#], &[]);
    assert_eq!((code, out.as_str(), mesh.checks()), (Some(2), "", 0));
    assert!(err.starts_with("error: there are 2 mistakes in the questions\n"), "{err}");
    assert!(err.contains("line 2") && err.contains("line 3"), "{err}");
    assert_eq!(said(&["verify", "no/such/file.jsonl"]).0, Some(2));
}
