//! What an expert received, as a text: for whoever has to see that nothing of a request was lost on its way.

use std::collections::BTreeMap;

use consilium_proto::v1::{self, part::Content};

/// A line for each thing that was said, in an order of its own. What is at its default has none.
pub(super) fn told(query: &v1::Query, context: &v1::CallContext) -> String {
    let mut lines = vec![format!("text: {}", query.text)];
    let attributes: BTreeMap<_, _> = query.attributes.iter().collect();
    lines.extend(attributes.into_iter().map(|(name, it)| format!("attribute {name}: {}", it.values.join(", "))));
    let labels: BTreeMap<_, _> = query.labels.iter().collect();
    lines.extend(labels.into_iter().map(|(name, value)| format!("label {name}: {value}")));
    lines.extend(query.parts.iter().map(|part| format!("part {}", content(part))));
    lines.extend(query.context.iter().map(|turn| format!("{}: {}", word(turn.role().as_str_name()), turn.text)));
    for (name, fact) in [
        ("request_id", &context.request_id),
        ("tenant", &context.tenant),
        ("tier", &context.tier),
        ("subject", &context.subject),
        ("purpose", &context.purpose),
    ] {
        lines.extend((!fact.is_empty()).then(|| format!("{name}: {fact}")));
    }
    let priority = context.priority();
    lines
        .extend((priority != v1::Priority::Unspecified).then(|| format!("priority: {}", word(priority.as_str_name()))));
    lines.join("\n")
}

fn content(part: &v1::Part) -> String {
    match &part.content {
        Some(Content::Text(text)) => format!("text: {text}"),
        Some(Content::Record(record)) => {
            let names: Vec<_> = record.fields.keys().map(String::as_str).collect();
            format!("record: {}", names.join(", "))
        }
        Some(Content::Tensor(tensor)) => format!("tensor: {}", tensor.name),
        Some(Content::Blob(blob)) => format!("blob: {}", blob.mime_type),
        None => "empty".to_owned(),
    }
}

/// `PRIORITY_BATCH` → `batch`
fn word(name: &str) -> String {
    name.rsplit('_').next().unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_said_has_a_line_and_nothing_else_has() {
        let text = |text: &str| v1::Part { content: Some(Content::Text(text.into())) };
        let turn = |role: v1::turn::Role, text: &str| v1::Turn { role: role.into(), text: text.into() };
        let values = |all: &[&str]| v1::Values { values: all.iter().map(|&it| it.into()).collect() };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let query = v1::Query {
            text: "may I?".into(),
            attributes: [("place".to_owned(), values(&["a", "b"]))].into(),
            labels: [pair("ward", "7"), pair("desk", "north")].into_iter().collect(),
            parts: vec![text("p"), v1::Part { content: None }],
            context: vec![turn(v1::turn::Role::User, "u"), turn(v1::turn::Role::Assistant, "v")],
        };
        let context = v1::CallContext {
            request_id: "r".into(),
            tenant: "t".into(),
            tier: "gold".into(),
            subject: "s".into(),
            purpose: "p".into(),
            priority: v1::Priority::Batch.into(),
        };
        let expected = "text: may I?\nattribute place: a, b\nlabel desk: north\nlabel ward: 7\npart text: p\n\
                        part empty\nuser: u\nassistant: v\nrequest_id: r\ntenant: t\ntier: gold\nsubject: s\n\
                        purpose: p\npriority: batch";
        assert_eq!(told(&query, &context), expected);
        assert_eq!(told(&v1::Query::default(), &v1::CallContext::default()), "text: ");
    }
}
