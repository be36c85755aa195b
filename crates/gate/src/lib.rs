//! The gate: decides which experts a query concerns, how sure that is, and why.
//!
//! Signals state facts (rules, dimensions, heads on a sentence encoder) and one place, `decide`, combines them.
//! Nothing here knows gRPC, a registry or an address: cards come in as [`Profile`]s, a [`Decision`] goes out, and the
//! encoder is a trait, so a gate can be fitted and measured without a mesh.
//!
//! Reading order: [`gate`](Gate) for the walk of one query, `reading` for the tiers it goes through, `decide` for what is
//! decided when, `classifier` for the probabilities, `learn` for what happens when cards or settings
//! change, `fit` and `extend` for what is then computed.

mod background;
mod bars;
mod classifier;
mod decide;
mod decision;
mod dimensions;
mod encoder;
mod error;
pub mod evaluate;
mod extend;
mod fit;
mod gate;
mod heads;
mod knowledge;
mod learn;
mod options;
mod parts;
mod query;
mod reading;
mod recall;
mod rules;
mod settings;
mod signals;
mod vector;
mod vectors;

pub use decision::{
    Candidate, Decision, DimensionReading, DimensionValue, Outcome, Reason, SHOWN_VALUES, Source, Tier, Vector,
};
pub use encoder::{EncodeError, Encoded, Encoder};
pub use error::Error;
pub use gate::Gate;
pub use options::{Bar, Cascade, Dimension, DimensionClass, Mistake, Options, Rule, StaticTier, Tiers};
pub use query::{Caller, Profile, Query, Wishes};
pub use settings::{Labelled, Settings, Trial};
