//! The vectors of the texts that a gate is fitted on, kept from fit to fit: a changed card costs the encoding of what is
//! new in it. Encodes and looks up; what is learned from them is in `fit`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::encoder::Encoder;
use crate::error::Error;
use crate::signals::{Signals, lexical};
use crate::vector::unit;

/// Texts in flight at once: enough to fill a batch of the engine, few enough to leave its queue to live queries.
const IN_FLIGHT: usize = 8;
/// For one text. Generous: fitting competes with live queries and nobody waits for it.
const ENCODE_TIMEOUT: Duration = Duration::from_mins(1);

type Key = [u8; 32];

/// By digest of encoder and text. Cheap to clone: the vectors are shared.
#[derive(Clone, Default)]
pub(crate) struct Vectors {
    encoder: String,
    known: HashMap<Key, Known>,
    /// Width of the static tier's vectors; 0 where there are none.
    width: usize,
}

#[derive(Clone)]
struct Known {
    encoded: Signals,
    /// `None` where the encoder's table knows none of the tokens.
    fixed: Option<Arc<[f32]>>,
}

/// Whose vectors are looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    Static,
    Encoder,
}

/// One tier's view of all texts.
pub(crate) struct Texts<'a> {
    vectors: &'a Vectors,
    tier: Tier,
    /// Stands for a text that the table has no vector of: a corpus has one width.
    nothing: Arc<[f32]>,
}

impl Vectors {
    /// Adds what is not known yet of these texts. What was encoded is kept even when a later text fails.
    pub(crate) async fn add(&mut self, encoder: &Arc<dyn Encoder>, texts: &[String]) -> Result<(), Error> {
        if self.encoder != encoder.digest() {
            *self = Self { encoder: encoder.digest().to_owned(), ..Self::default() };
        }
        let mut seen = HashSet::new();
        // Owned, because a stream of futures that borrow from its items cannot be shown to be `Send` to whoever spawns
        // a fit.
        let missing: Vec<(Key, String)> = texts
            .iter()
            .map(|text| (self.key(text), text))
            .filter(|(key, _)| !self.known.contains_key(key) && seen.insert(*key))
            .map(|(key, text)| (key, text.clone()))
            .collect();
        let mut encoded = stream::iter(missing)
            .map(|(key, text)| async move {
                let encoded = encoder.encode(&text, Instant::now() + ENCODE_TIMEOUT).await;
                (key, text, encoded)
            })
            .buffered(IN_FLIGHT);
        let mut failed = None;
        let mut fresh: Vec<(Key, String, Signals)> = Vec::new();
        while let Some((key, text, encoded)) = encoded.next().await {
            match encoded.and_then(Signals::encoded) {
                Ok(encoded) => fresh.push((key, text, encoded)),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(encoded);
        // Some ten microseconds a text, and there may be tens of thousands.
        let encoder = Arc::clone(encoder);
        let fresh = tokio::task::spawn_blocking(move || {
            let known = |(key, text, encoded): (Key, String, Signals)| {
                let fixed = encoder.static_vector(&text).and_then(|vector| unit(vector).ok());
                (key, Known { encoded: Signals { lexical: Arc::new(lexical(&text)), ..encoded }, fixed })
            };
            fresh.into_iter().map(known).collect::<Vec<_>>()
        })
        .await
        .map_err(|_| Error::Interrupted)?;
        self.width =
            fresh.iter().filter_map(|(_, known)| known.fixed.as_ref()).map(|v| v.len()).fold(self.width, usize::max);
        self.known.extend(fresh);
        failed.map_or(Ok(()), |error| Err(Error::Encode(error)))
    }

    /// Of `texts` those that are known, and of the others so many that there are no more than `fresh` of them.
    pub(crate) fn at_hand(&self, texts: &[String], fresh: usize) -> Vec<String> {
        let mut left = fresh;
        let mut is_at_hand = |text: &&String| {
            self.known.contains_key(&self.key(text)) || left.checked_sub(1).map(|rest| left = rest).is_some()
        };
        texts.iter().filter(|text| is_at_hand(text)).cloned().collect()
    }

    /// Takes over what others know.
    pub(crate) fn take_in(&mut self, other: Self) {
        if self.encoder != other.encoder {
            if self.known.is_empty() {
                *self = other;
            }
            return;
        }
        self.width = self.width.max(other.width);
        self.known.extend(other.known);
    }

    /// Forgets all but these texts.
    pub(crate) fn retain(&mut self, texts: &[String]) {
        let used: HashSet<Key> = texts.iter().map(|text| self.key(text)).collect();
        self.known.retain(|key, _| used.contains(key));
    }

    /// Whether the static tier has vectors at all.
    pub(crate) fn have_static(&self) -> bool {
        self.width > 0
    }

    pub(crate) fn of(&self, tier: Tier) -> Texts<'_> {
        let width = if tier == Tier::Static { self.width } else { 0 };
        Texts { vectors: self, tier, nothing: vec![0.0; width].into() }
    }

    fn key(&self, text: &str) -> Key {
        Sha256::new().chain_update(&self.encoder).chain_update([0]).chain_update(text).finalize().into()
    }
}

impl Texts<'_> {
    /// The signals of a text that was [added](Vectors::add).
    pub(crate) fn get(&self, text: &str) -> Signals {
        let Some(known) = self.vectors.known.get(&self.vectors.key(text)) else { return Signals::default() };
        match self.tier {
            Tier::Encoder => known.encoded.clone(),
            Tier::Static => {
                let vector = known.fixed.as_ref().unwrap_or(&self.nothing);
                Signals::new(Arc::clone(vector), Arc::clone(&known.encoded.lexical))
            }
        }
    }
}
