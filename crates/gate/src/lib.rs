//! The gate: decides which experts a query concerns, how sure that is, and why.
//!
//! Signals state facts (rules, dimensions, heads on a sentence encoder) and one place, `decide`, combines them.
//! Nothing here knows gRPC, a registry or an address: cards come in as [`Profile`]s, a [`Decision`] goes out, and the
//! encoder is a trait, so a gate can be fitted and measured without a mesh.
//!
//! Reading order: [`gate`](Gate) for the walk of one query, `decide` for what is decided when, `blend` for the
//! formula behind the probabilities, `fit` for what happens when the cards change.

mod background;
mod blend;
mod decide;
mod decision;
mod encoder;
mod error;
mod fit;
mod gate;
mod heads;
mod options;
mod query;
mod rules;
mod vector;

pub use decision::{Candidate, Decision, DimensionReading, DimensionValue, Outcome, Reason, Source, Tier, Vector};
pub use encoder::{EncodeError, Encoder};
pub use error::Error;
pub use gate::Gate;
pub use options::{Dimension, Mistake, Options, Rule};
pub use query::{Caller, Profile, Query, Wishes};
