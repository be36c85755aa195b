//! What the gate needs of a sentence encoder, and the engine as one. Nothing else in this crate knows the engine.

use std::error::Error as StdError;

use async_trait::async_trait;
use consilium_engine::{Call, Engine, Error};
use tokio::time::Instant;

/// Turns a text into a vector whose cosine to other vectors says how alike the texts are.
#[async_trait]
pub trait Encoder: Send + Sync {
    /// Names the encoder, its weights and its token table: vectors are comparable if and only if the digests agree.
    fn digest(&self) -> &str;

    /// One text to one vector, always of the same length; the gate scales it to unit norm, and so the features.
    async fn encode(&self, text: &str, deadline: Instant) -> Result<Encoded, EncodeError>;

    /// A cheaper vector of the text without a forward pass, in a space of its own and always of the same length; a few
    /// microseconds, on the caller's thread. `None` where there is no table, or none of the text's tokens is in it.
    fn static_vector(&self, _text: &str) -> Option<Vec<f32>> {
        None
    }

    /// Whether the encoder's vocabulary has this word, a few letters, in lower case or as it was typed: then it is no
    /// typing error. An encoder that cannot say knows every word, and no query is put right.
    fn knows(&self, _word: &str) -> bool {
        true
    }
}

/// A text as a vector.
#[derive(Clone)]
pub struct Encoded {
    pub vector: Vec<f32>,
    /// What else the encoder says of the text, for heads that learn; always of the same length, which may be 0.
    pub features: Vec<f32>,
    /// Whether the text was too long to be read whole.
    pub truncated: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("the deadline passed before the text was encoded")]
    DeadlineExceeded,
    #[error("the encoder returned no usable vector: {problem}")]
    Invalid { problem: &'static str },
    #[error("the encoder failed")]
    Failed(#[source] Box<dyn StdError + Send + Sync>),
}

impl From<Vec<f32>> for Encoded {
    fn from(vector: Vec<f32>) -> Self {
        Self { vector, features: Vec::new(), truncated: false }
    }
}

/// A vector gives its text away to whoever has the encoder, so its numbers are not printed.
impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoded(<{} numbers>, truncated: {})", self.vector.len(), self.truncated)
    }
}

/// Only a model with an [embedding](consilium_engine::Manifest::embedding) is an encoder; any other fails with every text.
#[async_trait]
impl Encoder for Engine {
    fn digest(&self) -> &str {
        Engine::digest(self)
    }

    async fn encode(&self, text: &str, deadline: Instant) -> Result<Encoded, EncodeError> {
        let (embedding, _) = self.manifest().embedding().map_err(|problem| EncodeError::Invalid { problem })?;
        match self.whole_text(text, Call { deadline }).await {
            Ok(mut output) => {
                let mut row = |at: usize| output.outputs.get_mut(at).map(|output| std::mem::take(&mut output.values));
                let Some(vector) = row(embedding) else {
                    return Err(EncodeError::Invalid { problem: "the output of the embedding is missing" });
                };
                let features = self.manifest().features().and_then(row).unwrap_or_default();
                Ok(Encoded { vector, features, truncated: output.truncated })
            }
            Err(Error::DeadlineExceeded) => Err(EncodeError::DeadlineExceeded),
            Err(error) => Err(EncodeError::Failed(Box::new(error))),
        }
    }

    fn static_vector(&self, text: &str) -> Option<Vec<f32>> {
        Engine::static_vector(self, text)
    }

    fn knows(&self, word: &str) -> bool {
        self.has_word(word).unwrap_or(true)
    }
}
