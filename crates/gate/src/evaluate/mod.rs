//! Evaluation: what a gate is worth on queries of which it is known who should get them. Works without a mesh, on the
//! same code that decides live.
//!
//! `rows` reads labelled queries and `data` makes of them what a gate learns; `observe` asks the gate, and what it said
//! goes through `measures`, which stands on `ranking` and `reliability`. `probe` holds a gate to a file of expected
//! routes, and `structure` experts to what they say of themselves.

mod data;
mod measures;
mod observe;
mod probe;
mod ranking;
mod reliability;
mod rows;
mod structure;

pub use data::Data;
pub use measures::{Confusion, DimensionMeasures, DimensionObservation, Measures, Observation, Quantiles, confusions};
pub use observe::observe;
pub use probe::{ALL, Failure, Probe, Probed, Probes, Tally};
pub use ranking::{auroc, recall_at_kept};
pub use reliability::{BINS, Bin, Point, Statement, bins, ece, risk_coverage};
pub use rows::parse;
pub use structure::{Collision, Duplicate, Structure, Unreachable};
