//! Whether libraries of different languages saw the same reply. Everything has to be equal but what may differ from one call
//! to the next: ids that the router makes, times, tokens, and which of several instances or tiers answered.

use serde_json::{Map, Value, json};

use super::observe::Line;

/// Differs from call to call; that it is there does not.
/// So does which tier answered: the first to ask finds no decision in the cache.
const OF_THE_CALL: [&str; 4] = ["requestId", "feedbackToken", "instance", "gateTier"];
/// May even be at its default: a step that took no time that could be measured.
const TIMES: [&str; 5] = ["elapsed", "startOffset", "duration", "timings", "budget"];
/// How a message begins that ends in how long somebody was waited for.
const TOO_LATE: &str = "no answer within ";
/// Of the same numbers on the same machine, in another batch.
const NEAR: f64 = 1e-5;

/// Where two lines differ: paths, with what either has there.
pub(crate) fn differences(one: &Line, other: &Line) -> Vec<String> {
    let mut differences = Vec::new();
    differ("", &told(one), &told(other), &mut differences);
    differences
}

/// What has to be equal of a line.
fn told(line: &Line) -> Value {
    let mut told = Map::new();
    let mut instances = Vec::new();
    line.reply.iter().chain(line.events.iter().flatten()).for_each(|it| collect_instances(it, &mut instances));
    let cleaned = |value: &Value| without_defaults(value, &instances).unwrap_or_default();
    if let Some(reply) = &line.reply {
        told.insert("reply".to_owned(), cleaned(reply));
    }
    if let Some(events) = &line.events {
        // Legs run side by side: only within one of them is there an order.
        let of = |kind: &str| events.iter().filter_map(|event| event.get(kind).map(&cleaned)).collect::<Vec<_>>();
        told.insert("decision".to_owned(), Value::Array(of("decision")));
        told.insert("done".to_owned(), Value::Array(of("done")));
        // At the deadline it is a matter of luck whose clock is faster, the router's or the client's.
        if !line.is_too_late() {
            told.insert("replies".to_owned(), Value::Array(by_expert(of("reply"))));
        }
        let mut deltas = of("delta");
        deltas.sort_by_key(|delta| delta["leg"].as_u64());
        told.insert("deltas".to_owned(), Value::Array(deltas));
    }
    if let Some(error) = &line.error {
        let mut fields: Vec<_> = error.violations.iter().flatten().map(|it| json!([it.field, it.problem])).collect();
        fields.sort_by_key(Value::to_string);
        let mut said = json!({"code": error.code, "fields": fields});
        if !line.is_too_late() {
            said["reason"] = json!(error.reason.clone().unwrap_or_default());
            said["message"] = json!(error.message);
            said["retry_after_s"] = json!(error.retry_after_s);
            said["metadata"] = json!(error.metadata);
        }
        told.insert("error".to_owned(), cleaned(&said));
    }
    Value::Object(told)
}

/// Without what is at its default and without what is of the call; `None` for a value at its default.
fn without_defaults(value: &Value, instances: &[String]) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Bool(true) => Some(Value::Bool(true)),
        Value::Number(number) => (number.as_f64() != Some(0.0)).then(|| value.clone()),
        Value::String(text) => {
            let text = instances.iter().fold(text.clone(), |text, instance| text.replace(instance, "(instance)"));
            let text = if text.starts_with(TOO_LATE) { TOO_LATE.to_owned() } else { text };
            (!text.is_empty()).then_some(Value::String(text))
        }
        Value::Array(list) => {
            let list: Vec<_> = list.iter().map(|it| without_defaults(it, instances).unwrap_or_default()).collect();
            (!list.is_empty()).then_some(Value::Array(list))
        }
        Value::Object(fields) => {
            let kept = |(name, value): (&String, &Value)| {
                let value = without_defaults(value, instances)?;
                let value = match name.as_str() {
                    "replies" => Value::Array(by_expert(value.as_array().cloned().unwrap_or_default())),
                    name if OF_THE_CALL.contains(&name) => json!("(there)"),
                    _ => value,
                };
                Some((name.clone(), value))
            };
            let fields = fields.iter().filter(|(name, _)| !TIMES.contains(&name.as_str()));
            Some(Value::Object(fields.filter_map(kept).collect()))
        }
    }
}

fn collect_instances(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|it| collect_instances(it, found)),
        Value::Object(fields) => {
            found.extend(fields.get("instance").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned));
            fields.values().for_each(|it| collect_instances(it, found));
        }
        _ => {}
    }
}

fn by_expert(mut replies: Vec<Value>) -> Vec<Value> {
    replies.sort_by_key(|reply| reply["expert"].as_str().unwrap_or_default().to_owned());
    replies
}

fn differ(path: &str, one: &Value, other: &Value, differences: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<_> = a.keys().chain(b.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let path = format!("{path}.{name}");
                match (a.get(name), b.get(name)) {
                    (Some(one), Some(other)) => differ(&path, one, other, differences),
                    (one, other) => differences.push(format!("{path}: {} and {}", shown(one), shown(other))),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (one, other)) in a.iter().zip(b).enumerate() {
                differ(&format!("{path}[{at}]"), one, other, differences);
            }
        }
        _ => {
            let near = matches!((one.as_f64(), other.as_f64()), (Some(a), Some(b)) if (a - b).abs() < NEAR);
            if one != other && !near {
                differences.push(format!("{path}: {} and {}", shown(Some(one)), shown(Some(other))));
            }
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("nothing".to_owned(), |value| value.to_string().chars().take(80).collect())
}

/// Shows that a difference is seen, and that what may differ is none.
pub(crate) mod checks {
    use serde_json::{Value, json};

    use super::{Line, differences};
    use crate::cases::observe::Failure;

    fn line(reply: Value) -> Line {
        Line { reply: Some(reply), ..Line::default() }
    }

    fn reply(expert: &str, score: f64, instance: &str) -> Value {
        json!({
            "requestId": format!("made-for-{instance}"),
            "decision": {"outcome": "OUTCOME_DISPATCHED", "elapsed": "0.001s", "candidates": [{"probability": score}]},
            "replies": [{"expert": expert, "instance": instance, "attempts": [{"instance": instance, "duration": "1s"}]}],
            "answer": {"text": {"text": format!("answer of {instance}")}},
        })
    }

    pub(crate) fn what_may_differ_is_no_difference() {
        let mut other = reply("labs", 0.910_000_1, "labs-2");
        // Some write what is at its default, others do not.
        other["partial"] = json!(false);
        other["replies"][0]["attempts"][0]["code"] = json!(0);
        assert_eq!(differences(&line(reply("labs", 0.91, "labs-1")), &line(other)), [""; 0]);
    }

    /// An instance is named in one event, and its text repeated in another.
    pub(crate) fn which_instance_streamed_is_no_difference() {
        let streamed = |instance: &str, text: &str| Line {
            events: Some(vec![
                json!({"reply": {"expert": "labs", "instance": instance}}),
                json!({"done": {"answer": {"text": {"text": format!("{text} of {instance}")}}}}),
            ]),
            ..Line::default()
        };
        assert_eq!(differences(&streamed("labs-1", "answer"), &streamed("labs-2", "answer")), [""; 0]);
        assert_eq!(differences(&streamed("labs-1", "answer"), &streamed("labs-1", "word")).len(), 1);
        assert_eq!(differences(&streamed("labs-1", "answer"), &Line::default()).len(), 4);
    }

    pub(crate) fn any_other_difference_is_one() {
        let one = || line(reply("labs", 0.91, "labs-1"));
        assert_eq!(differences(&one(), &line(reply("pharmacy", 0.91, "labs-1"))).len(), 1);
        assert_eq!(differences(&one(), &line(reply("labs", 0.92, "labs-1"))).len(), 1);
        let changed = |change: fn(&mut Value)| {
            let mut other = reply("labs", 0.91, "labs-1");
            change(&mut other);
            differences(&one(), &line(other))
        };
        assert_eq!(changed(|it| it["partial"] = json!(true)), [".reply.partial: nothing and true"]);
        assert_eq!(changed(|it| it["feedbackToken"] = json!("t")), [r#".reply.feedbackToken: nothing and "(there)""#]);
        assert_eq!(changed(|it| it["replies"][0]["version"] = json!("2")).len(), 1);
        assert!(!changed(|it| it["replies"] = json!([])).is_empty());
        assert_eq!(changed(|it| it["answer"]["text"]["text"] = json!("another")).len(), 1);
        let failed = Line { error: Some(Failure::default()), ..Line::default() };
        assert_eq!(differences(&one(), &failed).len(), 2);
    }
}
