//! What is known of a text before any head has looked at it: its spelling put right, its vector and its n-grams. Facts, no
//! judgement.

pub(crate) mod lexical;
mod spelling;

use std::sync::Arc;

pub(crate) use lexical::lexical;
pub(crate) use spelling::Spelling;

use crate::encoder::{EncodeError, Encoded};
use crate::vector::unit;

/// A text as the heads see it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    /// Unit norm, from the sentence encoder or from the token table; empty where there is neither.
    pub(crate) vector: Arc<[f32]>,
    /// What is learned from: the vector, and beside it what else the encoder says of the text.
    pub(crate) features: Arc<[f32]>,
    /// Hashed n-grams of words and characters.
    pub(crate) lexical: Arc<Sparse>,
}

impl Signals {
    /// With nothing to learn from but the vector.
    pub(crate) fn new(vector: Arc<[f32]>, lexical: Arc<Sparse>) -> Self {
        Self { features: Arc::clone(&vector), vector, lexical }
    }

    /// What the encoder says of a text, without n-grams.
    pub(crate) fn encoded(encoded: Encoded) -> Result<Self, EncodeError> {
        let vector = unit(encoded.vector)?;
        let features = if encoded.features.is_empty() {
            Arc::clone(&vector)
        } else {
            // As long as the vector, so that neither drowns the other out.
            vector
                .iter()
                .chain(&*unit(encoded.features)?)
                .map(|value| value * std::f32::consts::FRAC_1_SQRT_2)
                .collect()
        };
        Ok(Self { vector, features, lexical: Arc::default() })
    }
}

/// A sparse vector: positions, rising, and their values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sparse {
    pub(crate) at: Vec<u32>,
    pub(crate) values: Vec<f32>,
}
