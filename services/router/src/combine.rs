//! Several replies become one answer. Pure.

use std::sync::Arc;

use crate::{
    call::Reply,
    error::Error,
    wire::{Answer, Combine},
};

/// What the caller gets in the end.
#[derive(Debug, Clone)]
pub(crate) struct Merged {
    pub(crate) answer: Answer,
    /// Whose it is, or the first of those whose it is.
    pub(crate) expert: Arc<str>,
    /// Which legs of the plan it is made of.
    pub(crate) legs: Vec<usize>,
    /// Somebody who should have contributed did not.
    pub(crate) partial: bool,
}

/// Merges the replies of all stages that ran; the most probable expert's leg comes first in the plan.
///
/// `Err` when nobody answered: the failure of the first leg, because that is the expert which should have.
pub(crate) fn merge(replies: &[Reply], combine: Combine, missing: bool) -> Result<Merged, Error> {
    let mut ordered: Vec<&Reply> = replies.iter().collect();
    ordered.sort_by_key(|reply| reply.leg);

    let answers: Vec<(&Reply, &Answer)> =
        ordered.iter().filter_map(|reply| Some((*reply, reply.result.as_ref().ok()?))).collect();
    let Some((first, best)) = answers.first() else {
        return Err(first_failure(&ordered));
    };
    let (answer, legs) = match combine {
        Combine::Best => ((*best).clone(), vec![first.leg]),
        Combine::All => {
            let sections = answers.iter().map(|(reply, answer)| (&*reply.expert, &*reply.version, *answer));
            (Answer::of_sections(best, sections), answers.iter().map(|(reply, _)| reply.leg).collect())
        }
    };
    let expert = Arc::clone(&first.expert);
    Ok(Merged { answer, expert, legs, partial: missing || answers.len() < ordered.len() })
}

fn first_failure(ordered: &[&Reply]) -> Error {
    let failed = ordered.iter().find_map(|reply| Some((reply, reply.result.as_ref().err()?)));
    match failed {
        Some((reply, failure)) => {
            Error::Failed { expert: reply.expert.to_string(), failure: Box::new(failure.clone()) }
        }
        None => Error::DeadlineExceeded,
    }
}
