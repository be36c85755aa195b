//! What the gate needs of a sentence encoder, and the engine as one. Nothing else in this crate knows the engine.

use std::error::Error as StdError;

use async_trait::async_trait;
use consilium_engine::{Call, Engine, Error};
use tokio::time::Instant;

/// Turns a text into a vector whose cosine to other vectors says how alike the texts are.
#[async_trait]
pub trait Encoder: Send + Sync {
    /// Names the encoder and its weights: vectors are comparable if and only if the digests agree.
    fn digest(&self) -> &str;

    /// One text to one vector, always of the same length; the gate scales it to unit norm.
    async fn encode(&self, text: &str, deadline: Instant) -> Result<Vec<f32>, EncodeError>;
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

/// Only a model with an [embedding](consilium_engine::Manifest::embedding) is an encoder; any other fails with every text.
#[async_trait]
impl Encoder for Engine {
    fn digest(&self) -> &str {
        Engine::digest(self)
    }

    async fn encode(&self, text: &str, deadline: Instant) -> Result<Vec<f32>, EncodeError> {
        let (embedding, _) = self.manifest().embedding().map_err(|problem| EncodeError::Invalid { problem })?;
        match self.text(text, Call { deadline }).await {
            Ok(output) => match output.outputs.into_iter().nth(embedding) {
                Some(row) => Ok(row.values),
                None => Err(EncodeError::Invalid { problem: "the output of the embedding is missing" }),
            },
            Err(Error::DeadlineExceeded) => Err(EncodeError::DeadlineExceeded),
            Err(error) => Err(EncodeError::Failed(Box::new(error))),
        }
    }
}
