//! An expert's answer.

use consilium_proto::v1;
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Answer {
    #[serde(flatten)]
    pub(crate) body: Option<Body>,
    pub(crate) sources: Vec<Source>,
    pub(crate) sections: Vec<Section>,
    pub(crate) confidence: Option<f64>,
    pub(crate) calibrated: bool,
    pub(crate) truncated: bool,
    pub(crate) knowledge_revision: String,
}

/// One key of the answer, as in the proto's `oneof body`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Body {
    Classification(Classification),
    Passages(Passages),
    Embedding(Embedding),
    Text(Text),
    Tensors(Tensors),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Classification {
    pub(crate) heads: Vec<Head>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) labels: Vec<Label>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Label {
    pub(crate) name: String,
    pub(crate) probability: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Passages {
    pub(crate) passages: Vec<Passage>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Passage {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) score: f64,
    pub(crate) best: Option<Span>,
    pub(crate) source: Option<Source>,
}

/// Byte offsets into the passage's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Embedding {
    pub(crate) model_digest: String,
    pub(crate) vector: Vec<f32>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) finish_reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Tensors {
    pub(crate) tensors: Vec<Tensor>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) data_bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Source {
    pub(crate) title: String,
    pub(crate) uri: String,
    pub(crate) as_of: String,
    pub(crate) licence: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Section {
    pub(crate) expert: String,
    pub(crate) version: String,
    pub(crate) answer: Option<Answer>,
}

impl Passage {
    /// The text before, in and after the sentence that answers best. A span that does not fit the text is ignored.
    pub(crate) fn around_best(&self) -> (&str, &str, &str) {
        let found = self.best.and_then(|Span { start, end }| {
            let best = self.text.get(start..end)?;
            Some((self.text.get(..start)?, best, self.text.get(end..)?))
        });
        found.unwrap_or((&self.text, "", ""))
    }

    /// The sentence that answers best, else the whole text.
    pub(crate) fn gist(&self) -> &str {
        match self.around_best() {
            (_, "", _) => &self.text,
            (_, best, _) => best.trim(),
        }
    }
}

impl From<v1::Answer> for Answer {
    fn from(answer: v1::Answer) -> Self {
        Self {
            body: answer.body.map(Body::from),
            sources: answer.sources.into_iter().map(Source::from).collect(),
            sections: answer.sections.into_iter().map(Section::from).collect(),
            confidence: answer.confidence,
            calibrated: answer.calibrated,
            truncated: answer.truncated,
            knowledge_revision: answer.knowledge_revision,
        }
    }
}

impl From<v1::answer::Body> for Body {
    fn from(body: v1::answer::Body) -> Self {
        use v1::answer::Body as Message;
        match body {
            Message::Classification(it) => {
                Body::Classification(Classification { heads: it.heads.into_iter().map(Head::from).collect() })
            }
            Message::Passages(it) => {
                Body::Passages(Passages { passages: it.passages.into_iter().map(Passage::from).collect() })
            }
            Message::Embedding(it) => Body::Embedding(Embedding { model_digest: it.model_digest, vector: it.vector }),
            Message::Text(it) => Body::Text(Text { text: it.text, finish_reason: it.finish_reason }),
            Message::Tensors(it) => {
                Body::Tensors(Tensors { tensors: it.tensors.into_iter().map(Tensor::from).collect() })
            }
        }
    }
}

impl From<v1::classification::Head> for Head {
    fn from(head: v1::classification::Head) -> Self {
        let labels = head.labels.into_iter().map(|it| Label { name: it.name, probability: it.probability });
        Self { name: head.name, labels: labels.collect() }
    }
}

impl From<v1::Passage> for Passage {
    fn from(passage: v1::Passage) -> Self {
        let best = passage.best.map(|span| Span { start: span.start as usize, end: span.end as usize });
        Self {
            id: passage.id,
            title: passage.title,
            text: passage.text,
            score: passage.score,
            best,
            source: passage.source.map(Source::from),
        }
    }
}

impl From<v1::Tensor> for Tensor {
    fn from(tensor: v1::Tensor) -> Self {
        Self { name: tensor.name, datatype: tensor.datatype, shape: tensor.shape, data_bytes: tensor.data.len() }
    }
}

impl From<v1::Source> for Source {
    fn from(source: v1::Source) -> Self {
        Self { title: source.title, uri: source.uri, as_of: source.as_of, licence: source.licence }
    }
}

impl From<v1::Section> for Section {
    fn from(section: v1::Section) -> Self {
        Self { expert: section.expert, version: section.version, answer: section.answer.map(Answer::from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples;

    #[test]
    fn the_best_sentence_is_cut_out_of_the_text() {
        let mut passage = Passage::from(samples::passage());
        assert_eq!(passage.gist(), "Avoid the combination.");
        let (before, best, after) = passage.around_best();
        assert_eq!(format!("{before}{best}{after}"), passage.text);

        // Past the end, and inside of `é`: whatever an expert says must not be able to end the program.
        passage.text = "Né pas.".to_owned();
        for (start, end) in [(3, 9_999), (2, 4), (4, 3)] {
            passage.best = Some(Span { start, end });
            assert_eq!(passage.gist(), "Né pas.");
        }
    }

    #[test]
    fn the_body_is_one_key_named_as_in_the_proto() {
        let json = serde_json::to_value(Answer::from(samples::passages())).unwrap();
        assert_eq!(json["passages"]["passages"][0]["id"], "di-001");
        assert_eq!(json["passages"]["passages"][0]["best"]["start"], 21);
        assert_eq!(json["passages"]["passages"][0]["source"]["as_of"], "2024-05-01");
        let json = serde_json::to_value(Answer::from(samples::classification())).unwrap();
        assert_eq!(json["classification"]["heads"][0]["labels"][0]["name"], "cardiology");
        let json = serde_json::to_value(Answer::from(v1::Answer::default())).unwrap();
        assert_eq!(json["confidence"], serde_json::Value::Null);
    }
}
