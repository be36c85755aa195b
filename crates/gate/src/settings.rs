//! What a gate is configured with: the options and what they name, already read from its files. Plain data, and what a
//! new configuration has to pass before it takes over.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::gate::Gate;
use crate::options::Options;

/// Everything about a gate except the experts' profiles and the encoder.
#[derive(Clone, Default)]
pub struct Settings {
    /// With the examples of the dimensions' files poured in ([`Dimension::add_example`](crate::Dimension::add_example)).
    pub options: Options,
    /// Texts that belong to no expert, beside the shipped ones.
    pub background: Vec<String>,
    /// Leaves the shipped background texts out. Then the ones above should be a few hundred, as different from each
    /// other as what people ask: without any, refusal is guesswork.
    pub without_shipped: bool,
    /// Queries that the heads do not learn from: weights, calibration and bars are set on them. Rows of unknown experts are passed over.
    pub validation: Vec<Labelled>,
    /// What these settings have to pass on [`Gate::configure`], if anything.
    pub trial: Option<Arc<dyn Trial>>,
}

/// A query with what is right for it: one line of a file of labelled queries, of which every data set, validation file
/// and file of dimension examples consists.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Labelled {
    pub text: String,
    /// `null`: nobody should get it.
    #[serde(default)]
    pub expert: Option<String>,
    /// The value of each dimension that was labelled.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dimensions: BTreeMap<String, String>,
}

/// An examination of a gate that is configured but not yet in use.
#[async_trait]
pub trait Trial: Send + Sync {
    /// [`Error::Trial`] lists what is below its bar; any other error says why that cannot be told. The gate is then thrown
    /// away.
    async fn pass(&self, gate: &Gate) -> Result<(), Error>;
}

impl Settings {
    /// These options with nothing beside the shipped background texts.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }
}

/// Texts may be content: counts only.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("background", &format_args!("<{}>", self.background.len()))
            .field("validation", &format_args!("<{}>", self.validation.len()))
            .field("trial", &self.trial.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Labelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Labelled")
            .field("text", &format_args!("<{} bytes>", self.text.len()))
            .field("expert", &self.expert)
            .field("dimensions", &self.dimensions)
            .finish()
    }
}
