//! A mesh that `up` runs, asked by the other commands, and its end.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{files::Files, said};

/// `consilium up` until dropped.
struct Up {
    child: Child,
    router: String,
    printed: Vec<String>,
}

impl Up {
    /// Returns once it says that it is up.
    fn start(files: &Files) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_consilium"))
            .args(["up", &files.mesh(), "--ephemeral"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut printed = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            printed.push(line.unwrap());
            if printed.last().unwrap().starts_with("end ") {
                break;
            }
        }
        let router = printed.iter().find(|line| line.starts_with("router ")).unwrap_or_else(|| panic!("{printed:#?}"));
        let router = router.split_whitespace().nth(1).unwrap().to_owned();
        Self { child, router, printed }
    }

    fn said(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        said(&[arguments, &["--router", &self.router]].concat())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (code, out, err) = self.said(&[arguments, &["--json"]].concat());
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        serde_json::from_str(&out).unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Already gone after a test that went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_mesh_is_asked_watched_and_stopped() {
    let files = Files::new();
    let mut up = Up::start(&files);
    let printed = up.printed.join("\n");
    assert!(printed.contains("market is up"), "{printed}");
    assert!(printed.contains("fruit 1") && printed.contains("99% within 500 ms"), "{printed}");
    assert!(printed.contains(&format!("--router {}", up.router)), "{printed}");

    answers_and_refusals(&up);
    catalogue(&up);
    verified(&files, &up);
    wrong_questions(&up);
    feedback(&up);
    taken_port(&files, &up);

    let killed = Command::new("kill").args(["-TERM", &up.child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(up.child.wait().unwrap().code(), Some(0));
    assert_eq!(up.said(&["experts"]).0, Some(1));
}

fn answers_and_refusals(up: &Up) {
    let reply = up.json(&["ask", "is an apple red", "--label", "stand=fruit", "--attribute", "audience=buyer"]);
    assert_eq!(reply["decision"]["outcome"], "dispatched");
    assert_eq!(reply["decision"]["rules_matched"][0], "stand");
    assert_eq!(reply["replies"][0]["expert"], "fruit");
    assert_eq!(reply["answer"]["passages"]["passages"][0]["id"], "f-1");
    assert!(reply["round_trip_ms"].as_f64().unwrap() > 0.0);

    let (code, out, _) = up.said(&["ask", "is an apple red", "--label", "stand=fruit"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("fruit 1  ") && out.contains("1 Apples\n") && out.contains("total "), "{out}");

    let (code, out, _) = up.said(&["ask", "is an apple red", "--label", "stand=fruit", "--stream", "--json"]);
    assert_eq!(code, Some(0));
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.first().unwrap().get("decision").is_some(), "{out}");
    assert!(events.last().unwrap()["done"]["answer"].is_object(), "{out}");

    let (code, out, _) = up.said(&["ask", "is an apple red", "--label", "closed=yes"]);
    assert_eq!((code, out.lines().next()), (Some(0), Some("nobody here answers that")));

    let explained = up.json(&["explain", "is an apple red", "--label", "stand=fruit"]);
    assert_eq!(explained["plan"]["stages"][0]["legs"][0]["expert"], "fruit");
    assert_eq!(explained["plan"]["stages"][0]["legs"][0]["live_instances"], 1);
}

fn catalogue(up: &Up) {
    let catalog = up.json(&["experts"]);
    assert_eq!(catalog["mesh"], "market");
    assert_eq!(catalog["experts"][0]["name"], "fruit");
    assert_eq!(catalog["experts"][0]["instances"][0]["state"], "serving");
    let (_, out, _) = up.said(&["experts"]);
    assert!(out.contains("fruit   1        retrieve  99% within 500 ms"), "{out}");
}

fn verified(files: &Files, up: &Up) {
    let line = |expert: &str, outcome: &str| {
        format!(
            r#"{{"text": "is an apple red", "expert": {expert}, "outcome": "{outcome}", "labels": {{"stand": "fruit"}}}}"#
        )
    };
    let refused = r#"{"text": "is an apple red", "expert": null, "outcome": "refused", "labels": {"closed": "yes"}}"#;
    files.write("right.jsonl", format!("{}\n{refused}\n", line("\"fruit\"", "dispatched")));
    files.write("wrong.jsonl", format!("{refused}\n{}\n", line("null", "refused")));
    let (right, wrong) = (files.path("right.jsonl"), files.path("wrong.jsonl"));
    let (code, out, err) = up.said(&["verify", right.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(
        out.contains(" 1  is an apple red\n    stand=fruit\n    ✓ fruit") && out.contains("2 of 2 right\n"),
        "{out}"
    );
    let (code, out, _) = up.said(&["verify", wrong.to_str().unwrap(), "--json"]);
    assert_eq!(code, Some(1), "{out}");
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&document["mesh"], &document["summary"]["wrong"]), (&json!("market"), &json!(1)));
    assert_eq!((&document["questions"][0]["right"], &document["questions"][1]["right"]), (&json!(true), &json!(false)));
}

fn wrong_questions(up: &Up) {
    let (code, _, err) = up.said(&["ask", "is an apple red", "--attribute", "audience=thief", "--top-k", "99"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("query.attributes") && err.contains("top_k"), "{err}");
    let (code, _, err) = up.said(&["ask", "is an apple red", "--expert", "vegetables"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("vegetables"), "{err}");
    let (code, out, err) = up.said(&["ask", "", "--pin", "fruit=7", "--request-id", "r-1", "--top-k", "99", "--json"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    let error = serde_json::from_str::<Value>(&err).unwrap()["error"].take();
    assert_eq!((&error["code"], &error["reason"]), (&json!("INVALID_ARGUMENT"), &json!("INVALID_REQUEST")));
    assert_eq!(error["request_id"], "r-1");
    let fields: Vec<_> = error["violations"].as_array().unwrap().iter().map(|it| &it["field"]).collect();
    assert_eq!(fields, ["query.text", "options.top_k"]);
    assert_eq!(error["retry_after_ms"], Value::Null);
}

fn feedback(up: &Up) {
    // This mesh declares no metrics.
    let (code, _, err) = up.said(&["feedback", "a-token", "helpful=true"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("NO_FEEDBACK"), "{err}");
    let (code, out, err) = up.said(&["feedback", "a-token", "helpful=true", "rating=4", "--json"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let error = serde_json::from_str::<Value>(&err).unwrap()["error"].take();
    assert_eq!((&error["code"], &error["reason"]), (&json!("UNIMPLEMENTED"), &json!("NO_FEEDBACK")));
}

fn taken_port(files: &Files, up: &Up) {
    let address = up.router.trim_start_matches("http://");
    let (code, _, err) = said(&["up", &files.mesh(), "--listen", address]);
    assert_eq!(code, Some(2));
    assert!(err.contains(&format!("router: {address} is in use")), "{err}");
}
