//! Queries and answers over the Open Inference Protocol: what the model of a whole expert, or of the gate, takes and
//! gives.

use std::sync::LazyLock;

use consilium_proto::v1;
use consilium_tensor::{DataType, Tensor, dimension};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use super::{Invalid, Model, Port, Request, request::label};

/// Queries in one request.
pub const MAX_TEXTS: usize = 256;

const INPUT: &str = "text";

/// One query's answer.
#[derive(Debug, Clone)]
pub struct TextReply {
    pub answer: v1::Answer,
    pub expert: String,
    pub request_id: String,
}

/// The model called `name`: BYTES `text` in; BYTES `answer`, BYTES `expert`, FP32 `confidence`, BYTES `request_id` out.
pub fn text_model(name: &str, version: &str) -> Model {
    let port = |name: &str, datatype| Port { name: name.to_owned(), datatype, shape: vec![-1], optional: false };
    Model {
        name: name.to_owned(),
        version: version.to_owned(),
        platform: "consilium",
        inputs: vec![port(INPUT, DataType::Bytes)],
        outputs: vec![
            port("answer", DataType::Bytes),
            port("expert", DataType::Bytes),
            port("confidence", DataType::Fp32),
            port("request_id", DataType::Bytes),
        ],
        max_batch: 0,
        executors: 1,
    }
}

/// The queries of a request, at least one.
///
/// # Errors
/// There is another input than one BYTES `text` of shape `[n]` or `[n, 1]`, `n` is not from 1 to [`MAX_TEXTS`], or a
/// query is not UTF-8.
pub fn texts(request: &Request) -> Result<Vec<String>, Invalid> {
    let [input] = request.inputs.as_slice() else {
        return Err(Invalid::new("inputs", format!("{}, exactly one is taken: {INPUT}", request.inputs.len())));
    };
    if input.name != INPUT {
        return Err(Invalid::new(format!("inputs[{}].name", label(&input.name, 0)), format!("{INPUT} is expected")));
    }
    if input.datatype != DataType::Bytes {
        let problem = format!("{}, BYTES is expected", input.datatype);
        return Err(Invalid::new(format!("inputs[{INPUT}].datatype"), problem));
    }
    let count = match input.shape.as_slice() {
        [count] | [count, 1] => usize::try_from(*count).ok().filter(|count| (1..=MAX_TEXTS).contains(count)),
        _ => None,
    };
    let Some(count) = count else {
        let problem = format!("[n] or [n, 1] with n from 1 to {MAX_TEXTS} is expected");
        return Err(Invalid::new(format!("inputs[{INPUT}].shape"), problem));
    };
    let field = || format!("inputs[{INPUT}].data");
    let queries = input.to_strings().filter(|queries| queries.len() == count);
    let queries = queries.ok_or_else(|| Invalid::new(field(), format!("{count} elements are expected")))?;
    let utf8 = |(index, query): (usize, bytes::Bytes)| {
        String::from_utf8(query.into()).map_err(|_| Invalid::new(field(), format!("element {index} is not UTF-8")))
    };
    queries.into_iter().enumerate().map(utf8).collect()
}

/// The outputs of a text model for its queries, in their order; the answer as protobuf's own JSON.
pub fn answers(replies: &[TextReply]) -> Vec<Tensor> {
    let shape = || vec![dimension(replies.len())];
    let confidence = |reply: &TextReply| reply.answer.confidence.map_or(f32::NAN, |confidence| confidence as f32);
    let (mut answers, mut experts, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for reply in replies {
        answers.push(json(&reply.answer));
        experts.push(reply.expert.as_str());
        ids.push(reply.request_id.as_str());
    }
    vec![
        Tensor::strings("answer", shape(), &answers),
        Tensor::strings("expert", shape(), &experts),
        Tensor::fp32("confidence", shape(), &replies.iter().map(confidence).collect::<Vec<_>>()),
        Tensor::strings("request_id", shape(), &ids),
    ]
}

/// `None` only if this build's own descriptors did not hold the message, which the tests would show.
static ANSWER: LazyLock<Option<MessageDescriptor>> = LazyLock::new(|| {
    DescriptorPool::decode(consilium_proto::DESCRIPTOR_SET).ok()?.get_message_by_name("consilium.v1.Answer")
});

fn json(answer: &v1::Answer) -> Vec<u8> {
    let dynamic = ANSWER.clone().and_then(|descriptor| {
        let mut dynamic = DynamicMessage::new(descriptor);
        dynamic.transcode_from(answer).ok()?;
        serde_json::to_vec(&dynamic).ok()
    });
    dynamic.unwrap_or_default()
}

#[cfg(test)]
mod tests;
