//! Our own command line as a client: a case becomes arguments, and the JSON that it prints becomes protobuf's. That differs
//! in three things: names, durations as numbers of milliseconds, and the words of enums. Its exit code has to be the one that
//! its help promises.

use std::{
    net::SocketAddr,
    process::{Command, Output, Stdio},
};

use consilium_tests::processes::built;
use serde_json::{Map, Value, json};

use super::observe::{Failure, Line};

/// What came of one case.
pub(crate) fn run(target: SocketAddr, case: &Value) -> Line {
    let name = case["name"].as_str().unwrap_or_default().to_owned();
    let deadline = format!("{}ms", (case["deadline_s"].as_f64().unwrap_or_default() * 1000.0).round());
    let call = |arguments: Vec<String>| {
        let mut command = Command::new(built("consilium"));
        command.args(arguments).args(["--router", &target.to_string(), "--deadline", &deadline, "--json"]);
        command.stdin(Stdio::null()).output().expect("our own program starts")
    };
    let line = match case["call"].as_str() {
        Some("ask") => unary(&call(question("ask", case))),
        Some("explain") => unary(&call(question("explain", case))),
        Some("stream") => {
            let mut arguments = question("ask", case);
            arguments.push("--stream".to_owned());
            stream(&call(arguments))
        }
        _ => feedback(case, &call),
    };
    Line { case: name, ..line }
}

/// With the token of the case, or that of an answer asked for first.
fn feedback(case: &Value, call: &impl Fn(Vec<String>) -> Output) -> Line {
    let given = case["token"].as_str();
    let asked = given.is_none().then(|| unary(&call(question("ask", case))));
    if let Some(Line { error: Some(_), .. } | Line { wrong: Some(_), .. }) = &asked {
        return asked.unwrap_or_default();
    }
    let token = given.map(str::to_owned).or_else(|| asked?.token()).unwrap_or_default();
    let mut arguments = vec!["feedback".to_owned(), token];
    arguments.extend(metrics(case));
    unary(&call(arguments))
}

fn question(command: &str, case: &Value) -> Vec<String> {
    let request = &case["request"];
    let mut arguments = vec![command.to_owned(), request["query"]["text"].as_str().unwrap_or_default().to_owned()];
    let mut flag = |name: &str, value: &Value| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        arguments.push(format!("--{name}={value}"));
    };
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for (dimension, values) in object(&request["query"]["attributes"]) {
        for value in list(&values["values"]) {
            flag("attribute", &json!(format!("{dimension}={}", value.as_str().unwrap_or_default())));
        }
    }
    for (key, value) in object(&request["query"]["labels"]) {
        flag("label", &json!(format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for (name, value) in object(&request["context"]) {
        flag(&kebab(&name), &value);
    }
    for (name, value) in object(&request["options"]) {
        match name.as_str() {
            "experts" => list(&value).iter().for_each(|expert| flag("expert", expert)),
            "versions" => {
                for (expert, version) in object(&value) {
                    flag("pin", &json!(format!("{expert}={}", version.as_str().unwrap_or_default())));
                }
            }
            "combine" | "priority" => flag(&name, &json!(word(&value))),
            _ => flag(&kebab(&name), &value),
        }
    }
    arguments
}

fn metrics(case: &Value) -> Vec<String> {
    let metrics = case["metrics"].as_object().cloned().unwrap_or_default();
    let said = |(name, value): (&String, &Value)| match value.as_str() {
        // Without the flag it would be what it looks like.
        Some(text) => format!("--text={name}={text}"),
        None => format!("{name}={value}"),
    };
    metrics.iter().map(said).collect()
}

fn unary(output: &Output) -> Line {
    let line = match failure(output) {
        Some(error) => Line { error: Some(error), ..Line::default() },
        None => Line { reply: serde_json::from_slice(&output.stdout).ok().map(protobuf), ..Line::default() },
    };
    Line { wrong: wrong_end(output, line.error.as_ref()), ..line }
}

fn stream(output: &Output) -> Line {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let events = stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).map(protobuf).collect();
    let error = failure(output);
    Line { events: Some(events), wrong: wrong_end(output, error.as_ref()), error, ..Line::default() }
}

/// How it ended, where that is not as the help says: 0 done; 1 what was asked for failed; 2 asked wrongly. Whoever reads the
/// exit code has to learn the same as whoever reads the documents.
fn wrong_end(output: &Output, error: Option<&Failure>) -> Option<String> {
    let expected = match error.map(|error| error.code.as_str()) {
        None => 0,
        Some("INVALID_ARGUMENT" | "NOT_FOUND") => 2,
        Some(_) => 1,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let complains = error.is_none() && !said.is_empty();
    let is_wrong = output.status.code() != Some(expected) || complains;
    is_wrong.then(|| format!("{}; expected {expected}; on standard error: {said:?}", output.status))
}

fn failure(output: &Output) -> Option<Failure> {
    let error = serde_json::from_slice::<Value>(&output.stderr).ok()?.get("error")?.clone();
    let mut failure = error.as_object()?.clone();
    let retry_after = failure.remove("retry_after_ms").and_then(|ms| Some(ms.as_f64()? / 1000.0));
    failure.insert("retry_after_s".to_owned(), json!(retry_after));
    serde_json::from_value(Value::Object(failure)).ok()
}

/// What our program prints, as protobuf's JSON.
fn protobuf(value: Value) -> Value {
    match value {
        Value::Array(list) => list.into_iter().map(protobuf).collect(),
        Value::Object(fields) => {
            let mut message = Map::new();
            for (name, value) in fields {
                match (name.strip_suffix("_ms"), value) {
                    (_, Value::Null) | (Some("round_trip"), _) => {}
                    (Some(name), value) => {
                        let seconds = value.as_f64().unwrap_or_default() / 1000.0;
                        message.insert(camel(name), json!(format!("{seconds}s")));
                    }
                    (None, value) if name == "outcome" => {
                        let word = value.as_str().unwrap_or_default().to_ascii_uppercase();
                        message.insert(name, json!(format!("OUTCOME_{word}")));
                    }
                    // Keys of its own, which are no names of fields.
                    (None, value) if name == "metadata" => {
                        message.insert(name, value);
                    }
                    (None, value) => {
                        message.insert(camel(&name), protobuf(value));
                    }
                }
            }
            Value::Object(message)
        }
        other => other,
    }
}

/// `feedback_token` → `feedbackToken`
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| {
        let (head, tail) = part.split_at(part.len().min(1));
        name + &head.to_ascii_uppercase() + tail
    })
}

/// `requestId` → `request-id`
fn kebab(name: &str) -> String {
    name.chars().fold(String::new(), |kebab, c| {
        if c.is_ascii_uppercase() { format!("{kebab}-{}", c.to_ascii_lowercase()) } else { format!("{kebab}{c}") }
    })
}

/// `PRIORITY_BATCH` → `batch`
fn word(value: &Value) -> String {
    let value = value.as_str().unwrap_or_default();
    value.split_once('_').map_or(value, |(_, word)| word).to_ascii_lowercase()
}

/// Shows that an exit code that does not fit is seen.
pub(crate) mod checks {
    use std::{
        os::unix::process::ExitStatusExt as _,
        process::{ExitStatus, Output},
    };

    use super::unary;

    pub(crate) fn exit_codes_have_to_fit() {
        let ended = |code: i32, stdout: &str, stderr: &str| {
            let status = ExitStatus::from_raw(code << 8);
            unary(&Output { status, stdout: stdout.into(), stderr: stderr.into() })
        };
        let error = |code: &str| format!(r#"{{"error": {{"code": "{code}", "message": "m"}}}}"#);
        for (right, stdout, stderr) in [
            (0, "{}", String::new()),
            (1, "", error("UNAVAILABLE")),
            (2, "", error("INVALID_ARGUMENT")),
            (2, "", error("NOT_FOUND")),
        ] {
            for code in 0..4 {
                assert_eq!(ended(code, stdout, &stderr).wrong.is_none(), code == right, "{code} with {stderr}");
            }
        }
        assert!(ended(0, "{}", "something else").wrong.is_some());
        assert!(ended(101, "", "it panicked").wrong.is_some());
    }
}
