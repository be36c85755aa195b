//! What is known of a text before any head has looked at it: its spelling put right, its vector and its n-grams. Facts, no
//! judgement.

pub(crate) mod lexical;
mod spelling;

use std::sync::Arc;

pub(crate) use lexical::lexical;
pub(crate) use spelling::Spelling;

/// A text as the heads see it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    /// Unit norm, from the sentence encoder or from the token table; empty where there is neither.
    pub(crate) vector: Arc<[f32]>,
    /// Hashed n-grams of words and characters.
    pub(crate) lexical: Arc<Sparse>,
}

/// A sparse vector: positions, rising, and their values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sparse {
    pub(crate) at: Vec<u32>,
    pub(crate) values: Vec<f32>,
}
