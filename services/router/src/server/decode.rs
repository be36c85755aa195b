//! Protobuf requests as the router's own types. What a message can say wrong by its shape alone is refused here; what
//! it can say wrong about the mesh is admission's business.

use std::collections::BTreeMap;

use consilium_gate::{Caller, Query};
use consilium_proto::v1::{self, send_feedback_request};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    admission::{MAX_TEXT_BYTES, Options, Request},
    error::{Error, Violation},
    feedback::{Message, Said, Value},
    wire::{Combine, Payload},
};

/// The three parts that every request of the RouterService has, as one request.
pub(super) fn request(
    query: Option<v1::Query>,
    context: Option<v1::CallContext>,
    options: Option<v1::DispatchOptions>,
    deadline: Option<Instant>,
) -> Result<Request, Error> {
    let query = query.ok_or_else(|| invalid("query", "missing; expected a query with a text"))?;
    let mut context = context.unwrap_or_default();
    if context.request_id.is_empty() {
        context.request_id = Uuid::now_v7().to_string();
    }
    let mut options = options.unwrap_or_default();
    if let Some(priority) = options.priority.take() {
        context.priority = priority;
    }
    let (text, is_cut) = text(&query);
    let seen = Query {
        text,
        attributes: attributes(&query),
        labels: query.labels.clone().into_iter().collect(),
        caller: caller(&context)?,
    };
    let id = context.request_id.clone();
    let (payload, options) = (Payload::new(query, context), self::options(options)?);
    Ok(Request { id, query: seen, is_cut, payload, options, deadline })
}

/// The text that the gate reads, and whether it is a part of what was sent: where a query has no text of its own, its text
/// parts one after the other. Of those that are too long together, the beginning and the end say the most.
fn text(query: &v1::Query) -> (String, bool) {
    if !query.text.trim().is_empty() {
        return (query.text.clone(), false);
    }
    let parts = query.parts.iter().filter_map(|part| match &part.content {
        Some(v1::part::Content::Text(text)) => Some(text.as_str()),
        _ => None,
    });
    let text = parts.collect::<Vec<_>>().join("\n");
    if text.len() <= MAX_TEXT_BYTES {
        return (text, false);
    }
    let half = MAX_TEXT_BYTES / 2 - 1;
    let head = text.get(..text.floor_char_boundary(half)).unwrap_or_default();
    let tail = text.get(text.ceil_char_boundary(text.len() - half)..).unwrap_or_default();
    (format!("{head}\n{tail}"), true)
}

/// Nothing can be wrong with its shape.
pub(super) fn feedback(request: v1::SendFeedbackRequest) -> Message {
    let v1::SendFeedbackRequest { token, metrics } = request;
    let value = |value| match value {
        send_feedback_request::metric::Value::Boolean(boolean) => Value::Boolean(boolean),
        send_feedback_request::metric::Value::Number(number) => Value::Number(number),
        send_feedback_request::metric::Value::Text(text) => Value::Text(text),
    };
    let said = |send_feedback_request::Metric { name, value: given }| Said { name, value: given.map(value) };
    Message { token, metrics: metrics.into_iter().map(said).collect() }
}

fn options(options: v1::DispatchOptions) -> Result<Options, Error> {
    let combine = match options.combine.map(v1::Combine::try_from) {
        None | Some(Ok(v1::Combine::Unspecified | v1::Combine::Best)) => Combine::Best,
        Some(Ok(v1::Combine::All)) => Combine::All,
        Some(Err(_)) => return Err(unknown("options.combine", "consilium.v1.Combine")),
    };
    Ok(Options {
        top_k: options.top_k.map(|k| usize::try_from(k).unwrap_or(usize::MAX)),
        min_confidence: options.min_confidence,
        experts: options.experts,
        versions: options.versions.into_iter().collect(),
        combine,
    })
}

fn attributes(query: &v1::Query) -> BTreeMap<String, Vec<String>> {
    query.attributes.iter().map(|(name, values)| (name.clone(), values.values.clone())).collect()
}

/// The caller as rules see it; priorities by the last word of their name, in lower case.
fn caller(context: &v1::CallContext) -> Result<Caller, Error> {
    let priority = match v1::Priority::try_from(context.priority) {
        Ok(v1::Priority::Unspecified | v1::Priority::Interactive) => "interactive",
        Ok(v1::Priority::Critical) => "critical",
        Ok(v1::Priority::Batch) => "batch",
        Ok(v1::Priority::Background) => "background",
        Err(_) => return Err(unknown("context.priority", "consilium.v1.Priority")),
    };
    Ok(Caller {
        tenant: context.tenant.clone(),
        tier: context.tier.clone(),
        subject: context.subject.clone(),
        purpose: context.purpose.clone(),
        priority: priority.to_owned(),
    })
}

fn unknown(field: &str, values: &str) -> Error {
    invalid(field, &format!("unknown value; expected one of {values}"))
}

fn invalid(field: &str, problem: &str) -> Error {
    Error::Invalid { violations: vec![Violation::new(field, problem)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, parts: &[&str]) -> (String, bool) {
        let part = |text: &&str| v1::Part { content: Some(v1::part::Content::Text((*text).to_owned())) };
        let mut query =
            v1::Query { text: text.to_owned(), parts: parts.iter().map(part).collect(), ..Default::default() };
        query.parts.push(v1::Part::default());
        let request = request(Some(query), None, None, None).expect("its shape is right");
        (request.query.text, request.is_cut)
    }

    #[test]
    fn a_query_of_parts_only_is_read_by_its_text_parts() {
        assert_eq!(read("a question", &["a document"]), ("a question".to_owned(), false), "its own text is enough");
        assert_eq!(read(" ", &["one", "two"]), ("one\ntwo".to_owned(), false));
        assert_eq!(read("", &[]), (String::new(), false));
    }

    #[test]
    fn of_parts_that_are_too_long_beginning_and_end_are_read_and_that_is_said() {
        let (head, tail) = ("ä".repeat(MAX_TEXT_BYTES / 2), "ö".repeat(MAX_TEXT_BYTES / 2));
        let (text, is_cut) = read("", &[&head, &tail]);
        assert!(is_cut && text.len() <= MAX_TEXT_BYTES && text.len() > MAX_TEXT_BYTES - 8, "{}", text.len());
        assert!(text.starts_with('ä') && text.ends_with('ö'));
        assert!(!read("", &["x".repeat(MAX_TEXT_BYTES).as_str()]).1, "exactly so much is read");
    }
}
