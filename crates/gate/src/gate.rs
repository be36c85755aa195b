//! The gate itself: the walk of one query from rules to decision. What is decided is in `decide`; how the gate comes to
//! know what it decides on, in `learn`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use futures::future::join_all;
use tokio::time::Instant;

use crate::bars::NEVER;
use crate::decide::{Choice, PartTrust, Walk};
use crate::decision::{Decision, Reason, Tier, Vector};
use crate::encoder::{EncodeError, Encoder};
use crate::error::Error;
use crate::knowledge::{Classifiers, Knowledge};
use crate::learn::{Learning, check, lessons};
use crate::options::{Mistake, Options, is_identifier, listed};
use crate::parts::parts;
use crate::query::{Query, Wishes};
use crate::reading::{Read, Reader};
use crate::settings::Settings;
use crate::vectors::Vectors;

/// Decides which experts a query concerns. Share it behind an `Arc`; a decision waits for no fit.
pub struct Gate {
    pub(crate) encoder: Arc<dyn Encoder>,
    pub(crate) knowledge: ArcSwap<Knowledge>,
    pub(crate) rule_errors: Arc<AtomicU64>,
    pub(crate) learning: Learning,
}

impl Gate {
    /// A gate that knows no experts yet. `Err(Options)` lists every mistake in the options.
    pub fn new(options: Options, encoder: Arc<dyn Encoder>) -> Result<Self, Error> {
        Self::with_settings(Settings::new(options), encoder)
    }

    /// A gate with background texts of its own in place of the shipped ones: queries that belong to no expert, a few
    /// hundred of them, as different from each other as what people ask. Without any, refusal is guesswork.
    pub fn with_background(options: Options, encoder: Arc<dyn Encoder>, texts: Vec<String>) -> Result<Self, Error> {
        let settings = Settings { background: texts, without_shipped: true, ..Settings::new(options) };
        Self::with_settings(settings, encoder)
    }

    /// A gate with all that can be set. The trial is for later settings: there are no experts yet to be tried on.
    pub fn with_settings(settings: Settings, encoder: Arc<dyn Encoder>) -> Result<Self, Error> {
        check(&settings)?;
        let rule_errors = Arc::<AtomicU64>::default();
        let lessons = lessons(&settings, Vec::new())?;
        let knowledge = lessons.learn(&Vectors::default(), encoder.digest(), Arc::clone(&rule_errors))?;
        let learning = Learning::new(settings);
        Ok(Self { encoder, knowledge: ArcSwap::from_pointee(knowledge), rule_errors, learning })
    }

    /// Always a decision, at the latest when the deadline passes.
    pub async fn decide(&self, query: &Query, wishes: &Wishes, deadline: Instant) -> Decision {
        let started = Instant::now();
        let knowledge = self.knowledge.load_full();
        let mut walk = Walk::new(&knowledge, query, wishes);
        let mut tier = Tier::Rules;
        let mut read: Option<Arc<Read>> = None;
        let choice = match (walk.without_reading(), &knowledge.classifiers) {
            (Some(choice), _) => choice,
            (None, Some(classifiers)) => {
                let reader = Reader { knowledge: &knowledge, encoder: &*self.encoder, deadline };
                match reader.read(classifiers, &query.text, &walk).await {
                    Ok((by, whole)) => {
                        let parts = read_parts(&reader, classifiers, &walk, &query.text).await;
                        walk.take_in(&whole);
                        let choice = walk.with_reading(&whole, &parts);
                        (tier, read) = (by, Some(whole));
                        choice
                    }
                    Err(EncodeError::DeadlineExceeded) => walk.unread(Reason::DeadlineExceeded),
                    Err(EncodeError::Invalid { .. } | EncodeError::Failed(_)) => {
                        walk.unread(Reason::EncoderUnavailable)
                    }
                }
            }
            // Experts without classifiers do not come out of a fit.
            (None, None) => walk.unread(Reason::EncoderUnavailable),
        };
        let Choice { outcome, reason, candidates, bar, as_read } = choice;
        // Whoever searches with the vector shall search for what was typed.
        let vector = read.as_ref().filter(|read| !read.repaired).and_then(|read| read.vector.clone());
        Decision {
            outcome,
            reason,
            candidates,
            rules_matched: walk.rules_matched(),
            dimensions: walk.into_dimensions(),
            revision: Arc::clone(&knowledge.revision),
            tier,
            calibrated: as_read && read.as_ref().is_some_and(|read| read.calibrated),
            bar,
            truncated: read.as_ref().is_some_and(|read| read.truncated),
            elapsed: started.elapsed(),
            vector: vector.map(|values| Vector { model_digest: self.encoder.digest().to_owned(), values }),
        }
    }

    /// Whether every attribute is a declared dimension with declared values. For the edge: a caller that misspells a
    /// dimension should hear of it instead of being routed as if it had said nothing.
    pub fn check_attributes(&self, attributes: &BTreeMap<String, Vec<String>>) -> Result<(), Vec<Mistake>> {
        let knowledge = self.knowledge.load();
        let dimensions = &knowledge.options.dimensions;
        let mut mistakes = Vec::new();
        for (name, values) in attributes {
            let Some(dimension) = dimensions.get(name) else {
                let declared = listed(dimensions.keys().map(String::as_str));
                // A misspelt name has to be shown to be found. What is no name at all may be content: not repeated.
                let path =
                    if is_identifier(name) { format!("query.attributes.{name}") } else { "query.attributes".into() };
                mistakes.push(Mistake::new(path, "is no declared dimension", format!("one of {declared}")));
                continue;
            };
            let path = format!("query.attributes.{name}");
            let expected = format!("one of {}", listed(dimension.names()));
            if values.is_empty() {
                mistakes.push(Mistake::new(&*path, "has no value", &*expected));
            }
            for (at, _) in values.iter().enumerate().filter(|(_, value)| !dimension.declares(value)) {
                mistakes.push(Mistake::new(format!("{path}[{at}]"), "is not a declared value", &*expected));
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }

    /// Names what the gate decides by: options, cards, encoder, background and validation. Twelve hexadecimal digits.
    pub fn revision(&self) -> String {
        self.knowledge.load().revision.to_string()
    }

    /// How many experts it is fitted to.
    pub fn experts(&self) -> usize {
        self.knowledge.load().experts.len()
    }

    /// Whether it is fitted to an expert of this name.
    pub fn knows(&self, expert: &str) -> bool {
        self.knowledge.load().expert(expert).is_some()
    }

    /// The experts whose bar nothing clears, since the `max_error` that it stands for cannot be shown on what is held out.
    pub fn out_of_reach(&self) -> Vec<String> {
        let knowledge = self.knowledge.load();
        knowledge.experts.iter().filter(|expert| expert.bar >= NEVER).map(|expert| expert.name.to_string()).collect()
    }

    /// The options in force.
    pub fn options(&self) -> Options {
        self.knowledge.load().options.clone()
    }

    /// How many rule conditions could not be evaluated so far, a `forbid` that failed closed included.
    pub fn rule_errors(&self) -> u64 {
        self.rule_errors.load(Ordering::Relaxed)
    }
}

/// The readings of the query's parts; none where parts are not asked for, and none where any of them could not be read.
async fn read_parts(reader: &Reader<'_>, classifiers: &Classifiers, walk: &Walk<'_>, text: &str) -> Vec<Arc<Read>> {
    if !walk.reads_parts() {
        return Vec::new();
    }
    let trust = PartTrust(walk);
    let read = parts(text).into_iter().map(|part| reader.read(classifiers, part, &trust));
    let read: Result<Vec<_>, _> = join_all(read).await.into_iter().collect();
    read.map(|read| read.into_iter().map(|(_, read)| read).collect()).unwrap_or_default()
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let knowledge = self.knowledge.load();
        f.debug_struct("Gate")
            .field("revision", &knowledge.revision)
            .field("experts", &knowledge.experts.iter().map(|expert| &expert.name).collect::<Vec<_>>())
            .field("rules", &knowledge.rules)
            .finish_non_exhaustive()
    }
}
