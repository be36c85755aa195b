//! What comes out of the gate: the decision and its parts. Plain data; how it is reached is in `decide`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What the gate saw, scored and chose, and why.
#[derive(Clone, Debug)]
pub struct Decision {
    pub outcome: Outcome,
    pub reason: Reason,
    /// Every known expert, the selected first, then by falling probability (ties by name).
    pub candidates: Vec<Candidate>,
    pub dimensions: Vec<DimensionReading>,
    /// Names of the rules that matched, highest priority first.
    pub rules_matched: Vec<String>,
    /// [`Gate::revision`](crate::Gate::revision) of the fit that decided.
    pub revision: String,
    pub tier: Tier,
    pub elapsed: Duration,
    /// The query's vector, so that an expert on the same encoder need not encode again.
    pub vector: Option<Vector>,
}

/// One expert as the decision sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub expert: String,
    pub version: String,
    /// Probability that this expert is the one the query is for, in 0..=1. Over all candidates the sum is at most 1;
    /// what is missing is the probability that no expert is.
    pub probability: f64,
    pub selected: bool,
    /// May not answer: by a rule, a dimension or the caller's list. The first reason says which.
    pub excluded: bool,
    /// Readable, most important first. May quote the expert's own examples, never the query.
    pub reasons: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one expert was chosen on its merits or by a rule.
    Dispatched,
    /// The fallback expert was chosen because nobody else was.
    Fallback,
    /// Nobody should answer this.
    Refused,
    /// The gate could not decide and no fallback is configured.
    Unavailable,
}

/// The one reason behind the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The chosen experts cleared the bar.
    Confident,
    /// A `require` rule named the chosen experts.
    Required,
    /// The query is likely none of the experts' business.
    OutOfScope,
    /// In scope, but no expert cleared the bar.
    LowConfidence,
    /// Whoever could answer may not: by the caller's list, a dimension or a `forbid` rule.
    Excluded,
    /// A `require` rule named only experts that the gate does not know.
    RequiredUnknown,
    /// The gate knows no experts yet.
    NoExperts,
    /// The encoder failed.
    EncoderUnavailable,
    /// The deadline passed before the query was encoded.
    DeadlineExceeded,
}

/// What answered: the cheapest tier that was enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Rules, dimensions and lists alone.
    Rules,
    /// The sentence encoder and the heads on it.
    Encoder,
}

/// The value of one dimension for this query.
#[derive(Clone, Debug, PartialEq)]
pub struct DimensionReading {
    pub name: String,
    pub values: Vec<DimensionValue>,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DimensionValue {
    pub value: String,
    pub probability: f64,
}

/// Where a dimension's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The caller said so.
    Given,
}

/// A query's vector together with the encoder that made it.
#[derive(Clone)]
pub struct Vector {
    pub model_digest: String,
    /// Unit norm, the encoder's length.
    pub values: Arc<[f32]>,
}

impl Decision {
    /// The experts to ask, best first.
    pub fn selected(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| candidate.selected)
    }
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dispatched => "DISPATCHED",
            Self::Fallback => "FALLBACK",
            Self::Refused => "REFUSED",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confident => "CONFIDENT",
            Self::Required => "REQUIRED",
            Self::OutOfScope => "OUT_OF_SCOPE",
            Self::LowConfidence => "LOW_CONFIDENCE",
            Self::Excluded => "EXCLUDED",
            Self::RequiredUnknown => "REQUIRED_UNKNOWN",
            Self::NoExperts => "NO_EXPERTS",
            Self::EncoderUnavailable => "ENCODER_UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
        }
    }
}

impl Tier {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Encoder => "encoder",
        }
    }
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
        }
    }
}

/// A vector gives its text away to whoever has the encoder, so its numbers are not printed.
impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vector(<{} numbers>)", self.values.len())
    }
}
