//! What comes out of the gate: the decision and its parts. Plain data; how it is reached is in `decide`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Most values shown of a dimension that was not given.
pub const SHOWN_VALUES: usize = 5;

/// What the gate saw, scored and chose, and why.
#[derive(Clone, Debug)]
pub struct Decision {
    pub outcome: Outcome,
    pub reason: Reason,
    /// Every known expert, the selected first, then by falling probability (ties by name).
    pub candidates: Vec<Candidate>,
    /// One reading for each dimension that was given or can be inferred, by name; only the given ones when the query
    /// was not read.
    pub dimensions: Vec<DimensionReading>,
    /// Names of the rules that matched, highest priority first.
    pub rules_matched: Vec<String>,
    /// [`Gate::revision`](crate::Gate::revision) of the fit that decided.
    pub revision: Arc<str>,
    pub tier: Tier,
    /// Whether the probabilities are calibrated: what is given 0.8 is right in 8 of 10 cases on queries that nothing
    /// was learned from. False where there was too little to show it on, where a rule moved the odds, and where the
    /// query was not read.
    pub calibrated: bool,
    /// The bar in effect for the most probable expert; `None` where no probability was held against one, as when a rule
    /// chose or nothing could be read.
    pub bar: Option<f64>,
    /// Whether the query was too long to be read whole.
    pub truncated: bool,
    pub elapsed: Duration,
    /// The query's vector, so that an expert on the same encoder need not encode again. Where no forward pass was
    /// needed there is none, unless it is remembered from an earlier one. None either where typing errors were put right:
    /// the vector is then not that of the query as the expert gets it.
    pub vector: Option<Vector>,
}

/// One expert as the decision sees it. Cheap to make: a decision lists all experts of the mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub expert: Arc<str>,
    pub version: Arc<str>,
    /// Probability that this expert is the one the query is for, in 0..=1. Over all candidates the sum is at most 1;
    /// what is missing is the probability that no expert is.
    pub probability: f64,
    pub selected: bool,
    /// Why it may not answer, if so: a rule, a dimension or the caller's list.
    pub excluded: Option<Arc<str>>,
    /// Readable, most important first; for the selected and the most probable experts, empty for the rest. May quote
    /// the expert's own examples, never the query. [`why`](Self::why) has the exclusion as well.
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
    /// What was read in the same text before.
    Cache,
    /// N-grams and the encoder's token table, without a forward pass.
    Static,
    /// The sentence encoder and the heads on it.
    Encoder,
}

/// What is known of one dimension for this query.
#[derive(Clone, Debug, PartialEq)]
pub struct DimensionReading {
    pub name: Arc<str>,
    /// Given: the values given. Inferred: the value, then the other likely ones. Unknown: the likely ones, of which none
    /// counts. By falling probability; at most [`SHOWN_VALUES`] of those that were not given.
    pub values: Vec<DimensionValue>,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DimensionValue {
    pub value: Arc<str>,
    /// The chance that no value fits is already taken off.
    pub probability: f64,
}

/// Where a dimension's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The caller said so.
    Given,
    /// Read in the text, above the dimension's bar.
    Inferred,
    /// Not given, and below the bar: nothing follows from it.
    Unknown,
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

impl Candidate {
    /// Everything that speaks against or for the expert, most important first.
    pub fn why(&self) -> impl Iterator<Item = &str> {
        self.excluded.as_deref().into_iter().chain(self.reasons.iter().map(String::as_str))
    }
}

impl DimensionReading {
    /// The values that rules and exclusions go by.
    pub fn in_effect(&self) -> &[DimensionValue] {
        match self.source {
            Source::Given => &self.values,
            Source::Inferred => self.values.get(..1).unwrap_or_default(),
            Source::Unknown => &[],
        }
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
            Self::Cache => "cache",
            Self::Static => "static",
            Self::Encoder => "encoder",
        }
    }
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Inferred => "inferred",
            Self::Unknown => "unknown",
        }
    }
}

/// A vector gives its text away to whoever has the encoder, so its numbers are not printed.
impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vector(<{} numbers>)", self.values.len())
    }
}
