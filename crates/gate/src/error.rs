//! Why a gate cannot be made or fitted. Deciding never fails, so nothing here belongs to a request.

use crate::encoder::EncodeError;
use crate::options::Mistake;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options have mistakes; all of them are listed.
    #[error("{} mistake(s) in the gate's options, the first at {}", .0.len(), .0.first().map_or("?", |m| m.path.as_str()))]
    Options(Vec<Mistake>),
    /// The new settings are well-formed and routed some probe below its bar; the old ones stay in force.
    #[error("{} probe(s) below their bars, the first at {}", .0.len(), .0.first().map_or("?", |m| m.path.as_str()))]
    Trial(Vec<Mistake>),
    /// Two profiles name the same expert: which of them is meant is for the registry to say, not for the gate.
    #[error("expert {0:?} has more than one profile")]
    DuplicateExpert(String),
    /// A text of the cards, of the background or of the trial could not be encoded. What was encoded is kept for the next
    /// fit.
    #[error("cannot encode the texts the gate is fitted on and tried with")]
    Encode(#[source] EncodeError),
    /// The computation was stopped, which happens when the runtime shuts down.
    #[error("fitting was interrupted")]
    Interrupted,
}
