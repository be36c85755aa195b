//! The gate seen from outside, on a bag-of-words encoder that needs no model.

#![expect(clippy::unwrap_used, reason = "clippy's exemption for tests does not reach the functions that they share")]

mod admission;
mod decisions;
mod dimensions;
mod evaluate;
mod settings;
mod speed;
mod spelling;
mod support;
mod tiers;
