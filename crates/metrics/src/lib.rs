//! How metrics are named, kept and printed, for every crate that measures something. What is measured, each crate says in
//! a `metrics` module of its own, as [`Described`] constants and a [`Part`] that holds the families.
//!
//! A page is what one process shows at `/metrics`. Labels must come from small sets that the operator knows: experts,
//! models, methods, codes. Never from what a caller wrote.

mod described;
mod exemplar;
mod family;
mod page;

pub use self::{
    described::{Described, Kind, Unit},
    exemplar::{Exemplar, is_recorded},
    family::{Amounts, Counts, Gauges, set_recording},
    page::{Page, Part, Sheet},
};

/// Boundaries of a histogram of seconds, as OpenTelemetry advises them for calls.
pub const CALL_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Boundaries for steps within a call, from a tenth of a millisecond.
pub const STEP_SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Boundaries for what has an objective: close enough to each other around those that experts have.
pub const OBJECTIVE_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0,
];

/// Boundaries for probabilities and other shares.
pub const RATIOS: &[f64] = &[0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0];
