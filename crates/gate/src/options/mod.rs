//! What an operator may say about the gate, as it stands in `mesh.yaml` under `gate`. Plain data and its defaults; what
//! is wrong with it is found in `check`. Files are named here and read by whoever reads the rest of the configuration.

mod check;
mod dimension;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::check::Mistake;
pub(crate) use self::check::{is_identifier, listed};
pub use self::dimension::{Dimension, DimensionClass};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Options {
    /// The name of the model that reads queries. The gate is handed the encoder itself; this is for who makes it.
    pub encoder: String,
    /// At most so many experts a query; at least 1.
    pub top_k: usize,
    /// The bar that the best expert must clear, in 0..=1, on its probability as shown in the decision: the chance that
    /// it is the right one, the chance that nobody is already taken off. 0 asks the best expert as long as it is likelier
    /// than nobody.
    pub min_confidence: f64,
    /// The share of wrong answers among the accepted that is put up with, in 0..1. The fit picks the lowest bar that
    /// keeps it on queries it has not learned from; the bar in effect is the higher one of this and `min_confidence`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_error: Option<f64>,
    /// Bars of single experts in place of the two above, by expert.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bars: BTreeMap<String, Bar>,
    /// An expert after the first is chosen when its probability is at least this, in 0..=1.
    pub floor: f64,
    /// Refuse when the probability that no expert is right is above this, in 0..=1. 1 never refuses.
    pub refuse_above: f64,
    /// The expert that gets what is in scope but clear for nobody, and everything while the encoder is out.
    pub fallback: Option<String>,
    /// Reads the sentences and clauses of a query one by one as well, and asks the experts of all of them, at most
    /// `top_k`. Costs one reading for each part.
    pub multi_intent: bool,
    /// Reads a query with its typing errors put right: words one slip away from a word of the experts' cards and examples,
    /// where they are in no text of the gate and not in the encoder's vocabulary. Rules and experts get it as it was typed.
    pub spelling: bool,
    pub rules: Vec<Rule>,
    /// The declared axes of routing besides the subject, by name.
    pub dimensions: BTreeMap<String, Dimension>,
    /// A file of texts that belong to no expert, one a line; added to the shipped ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<String>,
    /// A file of labelled queries ([`Labelled`](crate::Labelled), one a line): the heads learn
    /// nothing from them; weights, calibration and bars are set on them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<String>,
    /// A file of expected routes that a new configuration has to pass before it replaces the old one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<String>,
    pub tiers: Tiers,
    /// Which chosen experts have a better one behind them. Planning is the router's; the gate only checks it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cascade: Vec<Cascade>,
}

/// The bar of one expert; what is unset is as for all.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Bar {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_confidence: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_error: Option<f64>,
}

/// What may answer before the encoder is asked.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Tiers {
    /// How many texts are remembered with what was read in them; 0 remembers none. Large meshes keep fewer, so that
    /// what is kept stays within 64 MiB.
    pub cache: usize,
    /// Whether n-grams and the encoder's token table may answer without a forward pass.
    #[serde(rename = "static")]
    pub static_tier: StaticTier,
    /// How much of the share of right decisions the static tier may cost at most, in 0..1, estimated on queries that
    /// the heads have not learned from.
    pub static_loss: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StaticTier {
    /// Where the encoder has a token table and there is enough to show that the loss is kept.
    #[default]
    Auto,
    Off,
}

/// Experts in the order in which they are asked: the next one when an answer's confidence is below the bar.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Cascade {
    /// At least two, the cheapest first.
    pub experts: Vec<String>,
    /// In 0..=1, on the confidence that comes with an answer.
    pub escalate_below: f64,
}

/// A condition and what follows from it: exactly one of `require`, `prefer`, `forbid`.
///
/// - `forbid`: these experts may not answer. It beats everything, whatever the priorities.
/// - `require`: these experts answer, all of them, whatever the probabilities. Of several matching `require` rules,
///   those with the highest priority decide and the lower ones are only recorded.
/// - `prefer`: the odds of these experts are raised, once for each rule; scope and bar stay as they are.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Rule {
    pub name: String,
    /// A condition in CEL over `query.text`, `attributes`, `dimensions`, `labels` and `caller`. `attributes` are what
    /// the caller gave; `dimensions` are the values in effect, given or inferred, an empty list where unknown. A rule
    /// that reads an inferred value waits until the query has been read.
    pub when: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbid: Vec<String>,
    /// Higher first; rules of one priority stand in the order of the file.
    pub priority: i32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            encoder: String::new(),
            top_k: 1,
            min_confidence: 0.5,
            max_error: None,
            bars: BTreeMap::new(),
            floor: 0.1,
            refuse_above: 0.5,
            fallback: None,
            multi_intent: false,
            spelling: true,
            rules: Vec::new(),
            dimensions: BTreeMap::new(),
            background: None,
            validation: None,
            probes: None,
            tiers: Tiers::default(),
            cascade: Vec::new(),
        }
    }
}

impl Default for Tiers {
    fn default() -> Self {
        Self { cache: 4096, static_tier: StaticTier::Auto, static_loss: 0.002 }
    }
}

impl Default for Cascade {
    fn default() -> Self {
        Self { experts: Vec::new(), escalate_below: 0.5 }
    }
}
