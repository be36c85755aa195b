//! What a client said of a call, as facts. Clients say it in protobuf's own JSON, with or without the fields that are at
//! their default. What must hold for every reply, whatever was asked, is checked here too.

use std::collections::BTreeMap;

use consilium_mesh::metrics::code_name;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tonic::Code;

use super::{
    case::{Call, Case},
    expect::Facts,
};

/// One line of a driver: what came of one case.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Line {
    pub(crate) case: String,
    #[serde(default)]
    pub(crate) reply: Option<Value>,
    /// Of a stream, before its end or its error.
    #[serde(default)]
    pub(crate) events: Option<Vec<Value>>,
    #[serde(default)]
    pub(crate) error: Option<Failure>,
    /// What the Open Inference Protocol has of a reply.
    #[serde(default)]
    pub(crate) outputs: Option<Outputs>,
    /// What the router wrote down of it, where it is feedback; of several lines, all.
    #[serde(skip)]
    pub(crate) journal: Option<Value>,
    /// What is wrong with how the client said it.
    #[serde(skip)]
    pub(crate) wrong: Option<String>,
}

/// A call's error, as a client's library tells it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) reason: Option<String>,
    pub(crate) message: String,
    pub(crate) request_id: Option<String>,
    pub(crate) violations: Option<Vec<Violation>>,
    pub(crate) retry_after_s: Option<f64>,
    pub(crate) metadata: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Violation {
    pub(crate) field: String,
    pub(crate) problem: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Outputs {
    answer: Value,
    expert: String,
    request_id: String,
}

/// The facts of a line, or what is wrong with it whatever was asked.
pub(crate) fn facts(case: &Case, line: &Line) -> Result<Facts, Vec<String>> {
    let mut facts = Facts::new();
    let mut wrong: Vec<_> = line.wrong.iter().cloned().collect();
    match (case.call, line) {
        (_, Line { outputs: Some(outputs), .. }) => {
            facts.insert("expert", json!(outputs.expert));
            facts.insert("request_id", json!(outputs.request_id));
            answer(&outputs.answer, &mut facts);
        }
        (Call::Ask, Line { reply: Some(reply), .. }) => dispatched(reply, &mut facts),
        (Call::Explain, Line { reply: Some(reply), .. }) => explained(reply, &mut facts),
        (Call::Feedback, Line { reply: Some(Value::Object(_)), .. }) => {
            facts.insert("accepted", json!(true));
            facts.extend(line.journal.clone().map(|written| ("journal", written)));
        }
        (Call::Stream, Line { events: Some(events), .. }) => {
            let merged = merged(events);
            dispatched(&merged, &mut facts);
            streamed(events, &mut facts);
            wrong.extend(out_of_order(events, line.error.is_some()));
        }
        (_, Line { error: None, .. }) => wrong.push("neither a reply nor an error".to_owned()),
        _ => {}
    }
    if let Some(failure) = &line.error {
        failed(failure, line.outputs_only(), &mut facts);
        // An error travels through logs and dashboards, a question must not.
        let text = case.text();
        if text.trim().len() > 8 && failure.message.contains(text.trim()) {
            wrong.push("the error repeats the question".to_owned());
        }
    }
    if wrong.is_empty() { Ok(facts) } else { Err(wrong) }
}

impl Line {
    /// Whether it ended because its deadline had passed.
    pub(crate) fn is_too_late(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.code == "DEADLINE_EXCEEDED")
    }

    /// Tritonclient's errors are a code and a message.
    fn outputs_only(&self) -> bool {
        self.error.as_ref().is_some_and(|failure| failure.violations.is_none() && failure.metadata.is_none())
    }

    /// The token that came with the answer.
    pub(crate) fn token(&self) -> Option<String> {
        let last = self.events.as_ref().and_then(|events| events.last()).map(|event| &event["done"]);
        let token = self.reply.as_ref().or(last)?.get("feedbackToken")?.as_str()?;
        (!token.is_empty()).then(|| token.to_owned())
    }
}

fn dispatched(reply: &Value, facts: &mut Facts) {
    decided(reply, facts);
    let replies = list(&reply["replies"]);
    let with = |key: &str| replies.iter().filter(|it| it[key].is_object()).collect::<Vec<_>>();
    let answered: Vec<_> = with("answer").into_iter().map(|it| it["expert"].clone()).collect();
    let chosen = facts.get("chosen").and_then(Value::as_array).cloned().unwrap_or_default();
    let first = chosen.iter().find(|expert| answered.contains(expert)).or(answered.first());
    facts.insert("expert", first.cloned().unwrap_or_default());
    facts.insert("replies", replies.iter().map(|it| it["expert"].clone()).collect());
    let attempts = list(replies.first().map_or(&Value::Null, |it| &it["attempts"]));
    facts.insert("attempts", attempts.iter().map(|it| json!(code(&it["code"]))).collect());
    let failure = |it: &&Value| Some((it["expert"].as_str()?.to_owned(), it["failure"]["reason"].clone()));
    facts.insert("failures", Value::Object(with("failure").iter().filter_map(failure).collect()));
    facts.insert("partial", json!(reply["partial"].as_bool().unwrap_or_default()));
    facts.insert("token", json!(reply["feedbackToken"].as_str().is_some_and(|token| !token.is_empty())));
    answer(&reply["answer"], facts);
}

fn explained(reply: &Value, facts: &mut Facts) {
    decided(reply, facts);
    let stages = list(&reply["plan"]["stages"]);
    let legs = |stage: &Value| list(&stage["legs"]).iter().map(|leg| leg["expert"].clone()).collect::<Value>();
    facts.insert("plan", stages.iter().map(legs).collect());
    let legs = stages.iter().flat_map(|stage| list(&stage["legs"]));
    let live =
        |leg: &Value| Some((leg["expert"].as_str()?.to_owned(), json!(leg["liveInstances"].as_u64().unwrap_or(0))));
    facts.insert("live", Value::Object(legs.filter_map(live).collect()));
}

fn decided(reply: &Value, facts: &mut Facts) {
    facts.insert("request_id", reply["requestId"].clone());
    let decision = &reply["decision"];
    let outcome = decision["outcome"].as_str().unwrap_or_default();
    facts.insert("outcome", json!(outcome.trim_start_matches("OUTCOME_").to_ascii_lowercase()));
    facts.insert("reason", decision["reason"].clone());
    facts.insert("tier", decision["gateTier"].clone());
    facts.insert("rules", json!(list(&decision["rulesMatched"])));
    facts.insert("unavailable", json!(list(&decision["unavailableExperts"])));
    let candidates = list(&decision["candidates"]);
    facts.insert("candidates", candidates.iter().map(|it| it["expert"].clone()).collect());
    let selected: Vec<_> = candidates.iter().filter(|it| it["selected"] == true).collect();
    facts.insert("chosen", selected.iter().map(|it| it["expert"].clone()).collect());
    let version = |it: &&Value| Some((it["expert"].as_str()?.to_owned(), it["version"].clone()));
    facts.insert("versions", Value::Object(selected.iter().filter_map(version).collect()));
    let values = |it: &Value| list(&it["values"]).iter().map(|value| value["value"].clone()).collect::<Value>();
    let dimension = |it: &Value| Some((it["name"].as_str()?.to_owned(), values(it)));
    let dimensions = list(&decision["dimensions"]).iter().filter_map(dimension);
    facts.insert("dimensions", Value::Object(dimensions.collect()));
}

fn answer(answer: &Value, facts: &mut Facts) {
    facts.insert("answer", json!(answer.is_object()));
    facts.insert("passage", list(&answer["passages"]["passages"]).first().map_or(Value::Null, |it| it["id"].clone()));
    let label = |head: &Value| {
        let best = list(&head["labels"]).first()?;
        Some((head["name"].as_str()?.to_owned(), best["name"].clone()))
    };
    let heads = list(&answer["classification"]["heads"]).iter().filter_map(label);
    facts.insert("labels", Value::Object(heads.collect()));
    for fact in ["text", "text_starts"] {
        facts.insert(fact, answer["text"]["text"].clone());
    }
    let sections = list(&answer["sections"]).iter().map(|it| it["expert"].clone());
    facts.insert("sections", sections.collect());
    facts.insert("truncated", json!(answer["truncated"].as_bool().unwrap_or_default()));
}

fn failed(failure: &Failure, only_code_and_message: bool, facts: &mut Facts) {
    if only_code_and_message && failure.code == "NOT_FOUND" && failure.message.starts_with("nobody in the mesh knows") {
        // The Open Inference Protocol has no place for a decision: this is its refusal.
        facts.insert("outcome", json!("refused"));
        return;
    }
    facts.insert("code", json!(failure.code));
    facts.insert("message", json!(failure.message));
    if only_code_and_message {
        return;
    }
    facts.insert("error_reason", json!(failure.reason.as_deref().unwrap_or_default()));
    facts.insert("error_request_id", json!(failure.request_id));
    facts.insert("retry", json!(failure.retry_after_s.is_some()));
    facts.insert("metadata", json!(failure.metadata.clone().unwrap_or_default()));
    let fields: Value = failure.violations.iter().flatten().map(|it| json!(it.field)).collect();
    facts.insert("fields_start", fields.clone());
    facts.insert("fields", fields);
}

/// A stream's events as the reply that a unary call would have had.
fn merged(events: &[Value]) -> Value {
    let mut reply = Map::new();
    let mut replies = Vec::new();
    for event in events {
        match kind(event) {
            "decision" => {
                reply.insert("decision".to_owned(), event["decision"].clone());
            }
            "reply" => replies.push(event["reply"].clone()),
            "done" => reply.extend(event["done"].as_object().cloned().unwrap_or_default()),
            _ => {}
        }
    }
    reply.insert("replies".to_owned(), Value::Array(replies));
    Value::Object(reply)
}

fn streamed(events: &[Value], facts: &mut Facts) {
    facts.insert("events", events.iter().map(|event| json!(kind(event))).collect());
    let mut deltas = BTreeMap::<String, String>::new();
    for delta in events.iter().filter(|event| kind(event) == "delta").map(|event| &event["delta"]) {
        let leg = delta["leg"].as_u64().unwrap_or_default().to_string();
        deltas.entry(leg).or_default().push_str(delta["text"].as_str().unwrap_or_default());
    }
    facts.insert("deltas", json!(deltas));
}

/// The order that every stream keeps: the decision first, an expert's pieces of text before its reply, `done` last and once,
/// and not before an error.
fn out_of_order(events: &[Value], failed: bool) -> Vec<String> {
    let kinds: Vec<_> = events.iter().map(kind).collect();
    let mut wrong = Vec::new();
    let mut unless = |holds: bool, otherwise: &str| {
        if !holds {
            wrong.push(format!("{otherwise}: {}", kinds.join(" ")));
        }
    };
    unless(!kinds.contains(&""), "an event of no known kind");
    unless(kinds.is_empty() || kinds.first() == Some(&"decision"), "the decision is not first");
    unless(kinds.iter().filter(|it| **it == "decision").count() <= 1, "more than one decision");
    let done = kinds.iter().filter(|it| **it == "done").count();
    unless(done == usize::from(!failed), "not one end");
    unless(failed || kinds.last() == Some(&"done"), "the end is not last");
    let candidates = list(events.first().map_or(&Value::Null, |event| &event["decision"]["candidates"]));
    let chosen: Vec<_> = candidates.iter().filter(|it| it["selected"] == true).map(|it| &it["expert"]).collect();
    for (at, event) in events.iter().enumerate().filter(|(_, event)| kind(event) == "delta") {
        // The leg's position in the plan; the first one's is at its default.
        let leg = usize::try_from(event["delta"]["leg"].as_u64().unwrap_or_default()).unwrap_or(usize::MAX);
        let expert = chosen.get(leg).copied().unwrap_or(&Value::Null);
        let replied = events.iter().take(at).any(|it| it["reply"].is_object() && it["reply"]["expert"] == *expert);
        unless(!replied, "a piece of text after its expert's reply");
    }
    wrong
}

/// The one key of an event.
fn kind(event: &Value) -> &str {
    ["decision", "delta", "reply", "done"].into_iter().find(|kind| event.get(kind).is_some()).unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A gRPC code's name.
fn code(number: &Value) -> String {
    let number = number.as_i64().and_then(|number| i32::try_from(number).ok()).unwrap_or_default();
    code_name(Code::from(number)).to_owned()
}

/// Shows that what must hold for every reply is checked.
pub(crate) mod checks {
    use serde_json::{Value, json};

    use super::{Case, Failure, Line, facts, out_of_order};

    fn decision() -> Value {
        json!({"decision": {"candidates": [{"expert": "a", "selected": true}, {"expert": "b", "selected": true}]}})
    }

    fn delta(leg: u32) -> Value {
        // A leg of 0 is at its default, and therefore left out.
        if leg == 0 { json!({"delta": {"text": "x"}}) } else { json!({"delta": {"text": "x", "leg": leg}}) }
    }

    fn reply(expert: &str) -> Value {
        json!({"reply": {"expert": expert}})
    }

    pub(crate) fn streams_out_of_order_are_seen() {
        let done = || json!({"done": {}});
        let right = [decision(), delta(0), reply("a"), delta(1), reply("b"), done()];
        assert_eq!(out_of_order(&right, false), [""; 0]);
        assert_eq!(out_of_order(&[decision(), delta(0)], true), [""; 0]);
        assert_eq!(out_of_order(&[], true), [""; 0]);
        for (wrong, failed) in [
            (vec![delta(0), decision(), done()], false),
            (vec![decision(), reply("a"), delta(0), done()], false),
            (vec![decision(), reply("b"), delta(1), done()], false),
            (vec![decision(), done(), reply("a")], false),
            (vec![decision(), done(), done()], false),
            (vec![decision(), done()], true),
            (vec![decision()], false),
            (vec![decision(), json!({}), done()], false),
            (vec![decision(), decision(), done()], false),
        ] {
            assert!(!out_of_order(&wrong, failed).is_empty(), "{wrong:?}");
        }
    }

    pub(crate) fn a_line_that_says_nothing_is_wrong() {
        let case: Case =
            serde_json::from_value(json!({"name": "n", "text": "what is a gate", "expect": {"token": true}}))
                .expect("it is a case");
        assert!(facts(&case, &Line::default()).is_err());
        let error = |message: &str| {
            let failure = Failure { code: "INTERNAL".to_owned(), message: message.to_owned(), ..Failure::default() };
            facts(&case, &Line { error: Some(failure), ..Line::default() })
        };
        assert!(error("it failed").is_ok());
        assert!(error("what is a gate? nobody knows").is_err(), "it repeats the question");
        let replied = Line { reply: Some(json!({})), ..Line::default() };
        assert!(facts(&case, &replied).is_ok());
        assert!(facts(&case, &Line { wrong: Some("exit code 3".to_owned()), ..replied }).is_err());
    }
}
