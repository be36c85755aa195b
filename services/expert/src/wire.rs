//! Between protobuf and the expert's own types. Beside the services' own files, all that knows
//! protobuf; no I/O here.

use std::time::Duration;

use consilium_engine::{DataType, Tensor};
use consilium_mesh::message::duration;
use consilium_proto::v1;

use crate::{
    config::Reads,
    task::{Answer, Body, Head, Passage, Query, Source, Timings, Vector},
};

/// The longest text of a query, in bytes: far beyond what a model of this kind reads, far below what would hurt.
pub(crate) const MAX_TEXT_BYTES: usize = 64 << 10;

/// Why a query cannot be asked: the field and what is wrong with it, without its content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) field: String,
    pub(crate) problem: String,
}

/// A query for a task that reads `reads`, checked.
///
/// Parts that the task does not read are refused: an answer that silently passes over a part of the question is a
/// wrong one. Text beside tensors is what the gate chose the expert by, and stays unread.
pub(crate) fn query(
    query: Option<v1::Query>,
    embedding: Option<v1::Embedding>,
    reads: Reads,
) -> Result<Query, Invalid> {
    let query = query.ok_or_else(|| invalid("query", "is missing"))?;
    within_bounds(&query.text).map_err(|problem| invalid("query.text", problem))?;
    match reads {
        Reads::Text => {
            let read = text(query.text).map_err(|problem| invalid("query.text", problem))?;
            if !query.parts.is_empty() {
                return Err(invalid("query.parts[0]", "is not read by this expert, which takes text only"));
            }
            Ok(Query { vector: embedding.map(vector), ..read })
        }
        Reads::Tensors if query.parts.is_empty() => {
            Err(invalid("query.parts", "is empty; this expert reads a tensor for each of its model's inputs"))
        }
        Reads::Tensors => {
            let tensors = query.parts.into_iter().enumerate().map(|(index, part)| tensor(index, part));
            Ok(Query { text: query.text, vector: None, tensors: tensors.collect::<Result<_, _>>()? })
        }
    }
}

/// A query that is a text and nothing else; or what is wrong with the text.
pub(crate) fn text(text: String) -> Result<Query, String> {
    within_bounds(&text)?;
    if text.trim().is_empty() {
        return Err("is empty; this expert reads text".to_owned());
    }
    Ok(Query { text, ..Query::default() })
}

pub(crate) fn answer(answer: Answer) -> v1::Answer {
    v1::Answer {
        body: Some(body(answer.body)),
        sources: answer.sources.iter().map(source).collect(),
        sections: Vec::new(),
        confidence: answer.confidence.map(|confidence| confidence.value),
        calibrated: answer.confidence.is_some_and(|confidence| confidence.calibrated),
        truncated: answer.truncated,
        knowledge_revision: answer.knowledge_revision.as_deref().unwrap_or_default().to_owned(),
    }
}

pub(crate) fn timings(timings: Timings, total: Duration) -> v1::Timings {
    v1::Timings {
        tokenize: Some(duration(timings.tokenize)),
        queue: Some(duration(timings.queue)),
        inference: Some(duration(timings.inference)),
        total: Some(duration(total)),
    }
}

fn within_bounds(text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("is {} bytes long; at most {MAX_TEXT_BYTES} are taken", text.len()));
    }
    Ok(())
}

fn vector(embedding: v1::Embedding) -> Vector {
    Vector { model_digest: embedding.model_digest.into(), values: embedding.vector }
}

fn tensor(index: usize, part: v1::Part) -> Result<Tensor, Invalid> {
    let Some(v1::part::Content::Tensor(tensor)) = part.content else {
        return Err(invalid(format!("query.parts[{index}]"), "is not a tensor, which is all that this expert takes"));
    };
    let datatype: DataType = tensor.datatype.parse().map_err(|_| {
        invalid(format!("query.parts[{index}].tensor.datatype"), "is not a datatype of the Open Inference Protocol")
    })?;
    Ok(Tensor { name: tensor.name, datatype, shape: tensor.shape, data: tensor.data })
}

fn body(body: Body) -> v1::answer::Body {
    match body {
        Body::Embedding(vector) => v1::answer::Body::Embedding(v1::Embedding {
            model_digest: vector.model_digest.as_ref().to_owned(),
            vector: vector.values,
        }),
        Body::Classification(heads) => {
            v1::answer::Body::Classification(v1::Classification { heads: heads.iter().map(head).collect() })
        }
        Body::Passages(passages) => {
            v1::answer::Body::Passages(v1::Passages { passages: passages.iter().map(passage).collect() })
        }
        Body::Tensors(tensors) => {
            let tensors = tensors.into_iter().map(|tensor| v1::Tensor {
                name: tensor.name,
                datatype: tensor.datatype.to_string(),
                shape: tensor.shape,
                data: tensor.data,
            });
            v1::answer::Body::Tensors(v1::Tensors { tensors: tensors.collect() })
        }
    }
}

fn head(head: &Head) -> v1::classification::Head {
    let labels = head.labels.iter().map(|label| v1::classification::Label {
        name: label.name.as_ref().to_owned(),
        probability: label.probability,
    });
    v1::classification::Head { name: head.name.as_ref().to_owned(), labels: labels.collect() }
}

fn passage(passage: &Passage) -> v1::Passage {
    // Texts are limited to a few thousand bytes when knowledge is read, so the casts lose nothing.
    let best = passage.best.as_ref().map(|span| v1::Span { start: span.start as u32, end: span.end as u32 });
    v1::Passage {
        id: passage.id.as_ref().to_owned(),
        title: passage.title.as_ref().to_owned(),
        text: passage.text.as_ref().to_owned(),
        score: passage.score,
        best,
        source: Some(source(&passage.source)),
    }
}

fn source(source: &Source) -> v1::Source {
    v1::Source {
        title: source.title.as_ref().to_owned(),
        uri: source.uri.as_ref().to_owned(),
        as_of: source.as_of.as_ref().to_owned(),
        licence: source.licence.as_ref().to_owned(),
    }
}

fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Invalid {
    Invalid { field: field.into(), problem: problem.into() }
}

#[cfg(test)]
mod tests;
