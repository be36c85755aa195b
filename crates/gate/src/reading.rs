//! Reading a text: the cheapest tier that can be trusted with it says what the classifiers see. Cache, then n-grams and token
//! table, then the encoder; the last two read it with its typing errors put right. No choice is made here.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use crate::classifier::Reading;
use crate::decision::Tier;
use crate::encoder::{EncodeError, Encoder};
use crate::knowledge::{Classifiers, Fast, Knowledge};
use crate::signals::{Signals, Sparse, lexical};
use crate::vector::unit;

/// Longer texts, in bytes, are always read by the encoder: the static tier's bars were measured on queries, not documents.
const LONGEST_STATIC: usize = 1024;

/// What was read in one text.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    /// Classes are the experts.
    pub(crate) experts: Reading,
    /// For each of the declared dimensions, in their order; `None` for those that are only given, and for those that the
    /// static tier did not need to read.
    pub(crate) axes: Vec<Option<Reading>>,
    /// The encoder's unit vector; `None` when the static tier read.
    pub(crate) vector: Option<Arc<[f32]>>,
    /// Whether typing errors were put right: then the vector is not that of the text as it was typed.
    pub(crate) repaired: bool,
    pub(crate) truncated: bool,
    pub(crate) calibrated: bool,
}

impl Read {
    /// Whether the encoder was needed for it.
    pub(crate) fn is_encoded(&self) -> bool {
        self.vector.is_some()
    }
}

/// What the static tier may be believed; the rest is the encoder's.
pub(crate) trait Trust: Sync {
    /// Whether this reading of the experts is sure enough for this query.
    fn experts(&self, reading: &Reading) -> bool;

    /// Whether this dimension, by index, has to be read at all.
    fn needs(&self, at: usize) -> bool;

    /// Whether this reading of the dimension is sure enough.
    fn axis(&self, at: usize, reading: &Reading) -> bool;
}

/// Reads texts for one query.
pub(crate) struct Reader<'a> {
    pub(crate) knowledge: &'a Knowledge,
    pub(crate) encoder: &'a dyn Encoder,
    pub(crate) deadline: Instant,
}

impl Reader<'_> {
    /// The reading of the cheapest tier that is trusted, and which one that was. `classifiers` are those of the experts.
    pub(crate) async fn read(
        &self,
        classifiers: &Classifiers,
        text: &str,
        trust: &dyn Trust,
    ) -> Result<(Tier, Arc<Read>), EncodeError> {
        if let Some(read) = self.knowledge.recall.get(text)
            && (read.is_encoded() || is_trusted(&read, trust))
        {
            return Ok((Tier::Cache, read));
        }
        let spelt = self.knowledge.spelling.repair(text, |word| self.encoder.knows(word));
        let repaired = matches!(spelt, Cow::Owned(_));
        let lexical = Arc::new(lexical(&spelt));
        if let Some(fast) = &classifiers.fast
            && let Some(read) = self.read_static(fast, &spelt, &lexical, trust)
        {
            return Ok((Tier::Static, self.remember(text, Read { repaired, ..read })));
        }
        let (encoded, truncated) = self.encode(&spelt).await?;
        let signals = Signals { lexical, ..encoded };
        let axes = self.knowledge.axes.iter().map(|axis| Some(axis.classifiers.as_ref()?.encoder.read(&signals)));
        let read = Read {
            experts: classifiers.encoder.read(&signals),
            axes: axes.collect(),
            vector: Some(signals.vector),
            repaired,
            truncated,
            calibrated: classifiers.encoder.calibrated(),
        };
        Ok((Tier::Encoder, self.remember(text, read)))
    }

    /// Stops at the first reading that is not sure enough.
    fn read_static(&self, fast: &Fast, text: &str, lexical: &Arc<Sparse>, trust: &dyn Trust) -> Option<Read> {
        if text.len() > LONGEST_STATIC {
            return None;
        }
        let vector = unit(self.encoder.static_vector(text)?).ok()?;
        let signals = Signals::new(vector, Arc::clone(lexical));
        let experts = fast.classifier.read(&signals);
        if !trust.experts(&experts) {
            return None;
        }
        let mut axes = vec![None; self.knowledge.axes.len()];
        for (at, axis) in self.knowledge.axes.iter().enumerate().filter(|&(at, _)| trust.needs(at)) {
            let reading = axis.classifiers.as_ref()?.fast.as_ref()?.classifier.read(&signals);
            if !trust.axis(at, &reading) {
                return None;
            }
            axes[at] = Some(reading);
        }
        let calibrated = fast.classifier.calibrated();
        Some(Read { experts, axes, vector: None, repaired: false, truncated: false, calibrated })
    }

    fn remember(&self, text: &str, read: Read) -> Arc<Read> {
        let read = Arc::new(read);
        self.knowledge.recall.put(text, &read);
        read
    }

    async fn encode(&self, text: &str) -> Result<(Signals, bool), EncodeError> {
        if Instant::now() >= self.deadline {
            return Err(EncodeError::DeadlineExceeded);
        }
        // The encoder keeps the deadline too; this holds when it does not.
        let encoded = timeout_at(self.deadline, self.encoder.encode(text, self.deadline)).await;
        let encoded = encoded.unwrap_or(Err(EncodeError::DeadlineExceeded))?;
        let truncated = encoded.truncated;
        Ok((Signals::encoded(encoded)?, truncated))
    }
}

fn is_trusted(read: &Read, trust: &dyn Trust) -> bool {
    let axes = read.axes.iter().enumerate().filter(|&(at, _)| trust.needs(at));
    trust.experts(&read.experts)
        && axes.into_iter().all(|(at, reading)| reading.as_ref().is_some_and(|reading| trust.axis(at, reading)))
}
