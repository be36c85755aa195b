//! The gate itself: the walk of one query from rules to decision, and the swap when the cards change.
//! What is decided is in `decide`; what it is decided on comes from `fit`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::background;
use crate::decide::{Choice, Walk};
use crate::decision::{Decision, DimensionReading, DimensionValue, Reason, Source, Tier, Vector};
use crate::encoder::{EncodeError, Encoder};
use crate::error::Error;
use crate::fit::{self, Cache, Fitted};
use crate::options::{Mistake, Options, is_identifier, listed};
use crate::query::{Profile, Query, Wishes};
use crate::rules::RuleSet;
use crate::vector::unit;

/// Decides which experts a query concerns. Share it behind an `Arc`; a decision takes no lock.
pub struct Gate {
    options: Options,
    rules: RuleSet,
    encoder: Arc<dyn Encoder>,
    background: Arc<[String]>,
    fitted: ArcSwap<Fitted>,
    /// Held while fitting. Its queue is fair, so of several fits the one called last is installed last.
    cache: Mutex<Cache>,
}

impl Gate {
    /// A gate that knows no experts yet. `Err(Options)` lists every mistake in the options.
    pub fn new(options: Options, encoder: Arc<dyn Encoder>) -> Result<Self, Error> {
        Self::with_background(options, encoder, background::shipped())
    }

    /// A gate with background texts of its own in place of the shipped ones: queries that belong to no expert, a few
    /// hundred of them, as different from each other as what people ask. Without any, refusal is guesswork.
    pub fn with_background(options: Options, encoder: Arc<dyn Encoder>, texts: Vec<String>) -> Result<Self, Error> {
        let mistakes = options.check_alone();
        if !mistakes.is_empty() {
            return Err(Error::Options(mistakes));
        }
        let rules = RuleSet::compile(&options).map_err(Error::Options)?;
        let background: Arc<[String]> = texts.into();
        let revision = fit::revision(&options, encoder.digest(), &background, &[]);
        let fitted = ArcSwap::from_pointee(Fitted::empty(revision));
        Ok(Self { options, rules, encoder, background, fitted, cache: Mutex::default() })
    }

    /// Learns the experts; decisions made meanwhile use what was known before, and so do all if this fails.
    /// Only texts that no earlier fit has seen are encoded. `profiles` replaces what was known; one an expert.
    pub async fn fit(&self, profiles: Vec<Profile>) -> Result<(), Error> {
        let mut cache = self.cache.lock().await;
        let fitted = fit::fit(&self.options, &*self.encoder, &self.background, profiles, &mut cache).await?;
        self.fitted.store(Arc::new(fitted));
        Ok(())
    }

    /// Always a decision, at the latest when the deadline passes.
    pub async fn decide(&self, query: &Query, wishes: &Wishes, deadline: Instant) -> Decision {
        let started = Instant::now();
        let fitted = self.fitted.load_full();
        let verdict = self.rules.evaluate(query);
        let walk = Walk::new(&self.options, &fitted, &verdict, query, wishes);
        let mut vector = None;
        let choice = match walk.without_encoder() {
            Some(choice) => choice,
            None => match self.encode(&query.text, deadline).await {
                Ok(values) => {
                    let choice = walk.with_reading(&fitted.read(&values));
                    vector = Some(Vector { model_digest: self.encoder.digest().to_owned(), values });
                    choice
                }
                Err(EncodeError::DeadlineExceeded) => walk.unread(Reason::DeadlineExceeded),
                Err(EncodeError::Invalid { .. } | EncodeError::Failed(_)) => walk.unread(Reason::EncoderUnavailable),
            },
        };
        let Choice { outcome, reason, candidates } = choice;
        Decision {
            outcome,
            reason,
            candidates,
            dimensions: self.given(query),
            rules_matched: verdict.matched,
            revision: fitted.revision.clone(),
            tier: if vector.is_some() { Tier::Encoder } else { Tier::Rules },
            elapsed: started.elapsed(),
            vector,
        }
    }

    /// Whether every attribute is a declared dimension with declared values. For the edge: a caller that misspells a
    /// dimension should hear of it instead of being routed as if it had said nothing.
    pub fn check_attributes(&self, attributes: &BTreeMap<String, Vec<String>>) -> Result<(), Vec<Mistake>> {
        let mut mistakes = Vec::new();
        for (name, values) in attributes {
            let Some(dimension) = self.options.dimensions.get(name) else {
                let declared = listed(self.options.dimensions.keys().map(String::as_str));
                // A misspelt name has to be shown to be found. What is no name at all may be content: not repeated.
                let path =
                    if is_identifier(name) { format!("query.attributes.{name}") } else { "query.attributes".into() };
                mistakes.push(Mistake::new(path, "is no declared dimension", format!("one of {declared}")));
                continue;
            };
            let path = format!("query.attributes.{name}");
            let expected = format!("one of {}", listed(dimension.values.iter().map(String::as_str)));
            if values.is_empty() {
                mistakes.push(Mistake::new(&*path, "has no value", &*expected));
            }
            for (at, _) in values.iter().enumerate().filter(|(_, value)| !dimension.values.contains(value)) {
                mistakes.push(Mistake::new(format!("{path}[{at}]"), "is not a declared value", &*expected));
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }

    /// Names what the gate decides by: options, cards, encoder and background. Twelve hexadecimal digits.
    pub fn revision(&self) -> String {
        self.fitted.load().revision.clone()
    }

    /// How many experts it is fitted to.
    pub fn experts(&self) -> usize {
        self.fitted.load().experts.len()
    }

    /// How many rule conditions could not be evaluated so far, a `forbid` that failed closed included.
    pub fn rule_errors(&self) -> u64 {
        self.rules.errors()
    }

    async fn encode(&self, text: &str, deadline: Instant) -> Result<Arc<[f32]>, EncodeError> {
        if Instant::now() >= deadline {
            return Err(EncodeError::DeadlineExceeded);
        }
        // The encoder keeps the deadline too; this holds when it does not.
        match timeout_at(deadline, self.encoder.encode(text, deadline)).await {
            Ok(values) => unit(values?),
            Err(_) => Err(EncodeError::DeadlineExceeded),
        }
    }

    fn given(&self, query: &Query) -> Vec<DimensionReading> {
        query
            .attributes
            .iter()
            .filter(|(name, _)| self.options.dimensions.contains_key(*name))
            .map(|(name, values)| DimensionReading {
                name: name.clone(),
                values: values.iter().map(|value| DimensionValue { value: value.clone(), probability: 1.0 }).collect(),
                source: Source::Given,
            })
            .collect()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitted = self.fitted.load();
        f.debug_struct("Gate")
            .field("revision", &fitted.revision)
            .field("experts", &fitted.experts.iter().map(|expert| &expert.profile.expert).collect::<Vec<_>>())
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}
