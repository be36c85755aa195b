//! What experts say, in the project's own types. `Debug` never shows content.

use std::{fmt, ops::Range, sync::Arc};

/// An expert's answer to one query.
#[derive(Clone)]
pub struct Answer {
    pub body: Body,
    /// What the answer rests on, each once, most important first.
    pub sources: Vec<Source>,
    pub confidence: Option<Confidence>,
    /// The text was longer than the model reads.
    pub truncated: bool,
    /// Which state of its knowledge the expert answered from.
    pub knowledge_revision: Option<Arc<str>>,
}

/// The answer proper; one variant for each kind of task.
#[derive(Clone)]
pub enum Body {
    Embedding(Vector),
    /// In the model's order of outputs.
    Classification(Vec<Head>),
    /// Best first.
    Passages(Vec<Passage>),
    Tensors(Vec<consilium_engine::Tensor>),
}

/// How sure the expert is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// 0..1
    pub value: f64,
    /// Whether `value` was calibrated on held-out data.
    pub calibrated: bool,
}

/// A vector and the model that made it.
#[derive(Clone)]
pub struct Vector {
    /// The manifest's SHA-256, lower-case hexadecimal.
    pub model_digest: Arc<str>,
    /// Unit length.
    pub values: Vec<f32>,
}

/// One head of a classifier.
#[derive(Clone)]
pub struct Head {
    pub name: Arc<str>,
    /// Every label, most probable first.
    pub labels: Vec<Label>,
}

#[derive(Clone)]
pub struct Label {
    pub name: Arc<str>,
    /// 0..1; the labels of a head sum to 1.
    pub probability: f64,
}

/// A passage that a search found.
#[derive(Clone)]
pub struct Passage {
    pub id: Arc<str>,
    pub title: Arc<str>,
    pub text: Arc<str>,
    /// Cosine similarity with the query, -1..1.
    pub score: f64,
    /// The sentence that fits best, in bytes of `text`.
    pub best: Option<Range<usize>>,
    pub source: Source,
}

/// Where something comes from; what is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Source {
    pub title: Arc<str>,
    pub uri: Arc<str>,
    /// `YYYY-MM-DD`
    pub as_of: Arc<str>,
    pub licence: Arc<str>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({:?}, truncated: {})", self.body, self.truncated)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Embedding(vector) => vector.fmt(f),
            Body::Classification(heads) => write!(f, "Classification([redacted, {} heads])", heads.len()),
            Body::Passages(passages) => write!(f, "Passages([redacted, {} passages])", passages.len()),
            Body::Tensors(tensors) => write!(f, "Tensors([redacted, {} tensors])", tensors.len()),
        }
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vector([redacted, {} values])", self.values.len())
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({}, [redacted, {} labels])", self.name, self.labels.len())
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Label([redacted])")
    }
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passage([redacted, {} bytes])", self.text.len())
    }
}
