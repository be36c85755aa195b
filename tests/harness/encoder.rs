//! A sentence encoder whose vectors a reader can predict: texts are as alike as the words that they share.

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use consilium_gate::{EncodeError, Encoded, Encoder};
use tokio::time::Instant;

const SIZE: usize = 512;

/// Texts that have failed once.
static STUMBLED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Words hashed into a vector. Texts that begin with `hold` are never encoded: the gate hangs on them. Those that begin with
/// `stumble` fail the first time.
#[derive(Debug, Clone, Copy)]
pub struct Words;

#[async_trait]
impl Encoder for Words {
    fn digest(&self) -> &'static str {
        "words"
    }

    async fn encode(&self, text: &str, _: Instant) -> Result<Encoded, EncodeError> {
        if text.starts_with("hold") {
            std::future::pending::<()>().await;
        }
        let stumbles = || STUMBLED.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned());
        if text.starts_with("stumble") && stumbles() {
            return Err(EncodeError::Failed("the encoder stumbles".into()));
        }
        let mut vector = vec![0.0; SIZE];
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            let mut hasher = DefaultHasher::new();
            word.to_lowercase().hash(&mut hasher);
            vector[usize::try_from(hasher.finish() % SIZE as u64).unwrap_or(0)] += 1.0;
        }
        // A text without words has a direction too, and one that no other text has.
        vector[0] += 0.01;
        Ok(vector.into())
    }
}
