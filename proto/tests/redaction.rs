//! No content in `Debug`: every string and bytes field of every message that crosses the wire is filled with a canary,
//! and the canary may show only where the field is known to hold no content.

use std::fmt::Debug;

use consilium_proto::{DESCRIPTOR_SET, inference, v1};
use prost::Message;
use prost_reflect::{Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, Value};

const CANARY: &str = "canary-7f3a";

/// No oneof of the contract has more arms than this.
const MOST_ARMS: usize = 6;

/// What a log line may show: names, ids, codes and versions that operators chose. Everything else is content.
const OPEN: [&str; 22] = [
    "request_id",
    "expert",
    "version",
    "instance",
    "experts",
    "versions",
    "key",
    "value",
    "reason",
    "name",
    "rules_matched",
    "gate_revision",
    "gate_tier",
    "reasons",
    "unavailable_experts",
    "source",
    "feedback_token",
    "message",
    "metadata",
    "epoch",
    "id",
    "address",
];

/// The message with every field set; of each oneof the arm number `arm` (modulo its arms).
fn filled(pool: &DescriptorPool, name: &str, (depth, arm): (usize, usize)) -> DynamicMessage {
    let descriptor = pool.get_message_by_name(name).expect("message exists");
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let chosen = field.containing_oneof().is_none_or(|oneof| {
            let arms: Vec<_> = oneof.fields().collect();
            arms[arm % arms.len()] == field
        });
        if let Some(value) = chosen.then(|| value_of(pool, &field, (depth, arm))).flatten() {
            message.set_field(&field, value);
        }
    }
    message
}

fn value_of(pool: &DescriptorPool, field: &FieldDescriptor, (depth, arm): (usize, usize)) -> Option<Value> {
    let open = field.parent_message().full_name().starts_with("consilium.v1") && OPEN.contains(&field.name());
    let one = match field.kind() {
        Kind::String if open => Value::String("open".into()),
        Kind::String => Value::String(CANARY.into()),
        Kind::Bytes => Value::Bytes(CANARY.as_bytes().into()),
        Kind::Message(inner) if field.is_map() => {
            let entry = inner.map_entry_value_field();
            let value = value_of(pool, &entry, (depth, arm))?;
            let value = if field.name() == "versions" || field.name() == "metadata" {
                Value::String("open".into())
            } else {
                value
            };
            let key = if open { "open" } else { CANARY };
            return Some(Value::Map([(MapKey::String(key.into()), value)].into()));
        }
        Kind::Message(_) if depth == 0 => return None,
        Kind::Message(inner) => Value::Message(filled(pool, inner.full_name(), (depth - 1, arm))),
        _ => return None,
    };
    Some(if field.cardinality() == Cardinality::Repeated { Value::List(vec![one]) } else { one })
}

fn check<M: Message + Default + Debug>(pool: &DescriptorPool, name: &str) {
    let mut arms_with_content = 0;
    for arm in 0..MOST_ARMS {
        let bytes = filled(pool, name, (6, arm)).encode_to_vec();
        arms_with_content += usize::from(bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
        let message = M::decode(bytes.as_slice()).expect("what was filled decodes");
        let printed = format!("{message:?}");
        assert!(!printed.contains(CANARY), "{name} shows content: {printed}");
    }
    assert!(arms_with_content > 0, "{name} never carried the canary: the test would prove nothing");
}

#[test]
fn debug_of_every_message_with_content_hides_it() {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).expect("the descriptor set is whole");
    check::<v1::DispatchRequest>(&pool, "consilium.v1.DispatchRequest");
    check::<v1::StreamDispatchRequest>(&pool, "consilium.v1.StreamDispatchRequest");
    check::<v1::ExplainRequest>(&pool, "consilium.v1.ExplainRequest");
    check::<v1::DispatchResponse>(&pool, "consilium.v1.DispatchResponse");
    check::<v1::StreamDispatchResponse>(&pool, "consilium.v1.StreamDispatchResponse");
    check::<v1::SendFeedbackRequest>(&pool, "consilium.v1.SendFeedbackRequest");
    check::<v1::InferRequest>(&pool, "consilium.v1.InferRequest");
    check::<v1::InferResponse>(&pool, "consilium.v1.InferResponse");
    check::<v1::StreamInferRequest>(&pool, "consilium.v1.StreamInferRequest");
    check::<v1::StreamInferResponse>(&pool, "consilium.v1.StreamInferResponse");
    check::<v1::Reply>(&pool, "consilium.v1.Reply");
    check::<v1::Query>(&pool, "consilium.v1.Query");
    check::<v1::Part>(&pool, "consilium.v1.Part");
    check::<v1::CallContext>(&pool, "consilium.v1.CallContext");
    check::<inference::ModelInferRequest>(&pool, "inference.ModelInferRequest");
    check::<inference::ModelInferResponse>(&pool, "inference.ModelInferResponse");
    check::<inference::ModelStreamInferResponse>(&pool, "inference.ModelStreamInferResponse");
    check::<inference::RepositoryModelLoadRequest>(&pool, "inference.RepositoryModelLoadRequest");
    check::<inference::RepositoryModelUnloadRequest>(&pool, "inference.RepositoryModelUnloadRequest");
}
