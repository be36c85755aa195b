//! Several replies become one answer. Pure.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    call::Reply,
    error::Error,
    plan::Plan,
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

/// An answer and whose it is.
type Answered<'a> = (&'a Reply, &'a Answer);

/// Merges the replies of all stages that ran; the most probable expert's leg comes first in the plan. Of a cascade counts
/// the answer of the last expert that was asked, unless it is less sure than one before it.
///
/// `Err` when nobody answered: the failure of the first leg, because that is the expert which should have.
pub(crate) fn merge(plan: &Plan, replies: &[Reply], combine: Combine, missing: bool) -> Result<Merged, Error> {
    let mut ordered: Vec<&Reply> = replies.iter().collect();
    ordered.sort_by_key(|reply| reply.leg);

    // By the leg that began it.
    let mut best_of: BTreeMap<usize, Answered<'_>> = BTreeMap::new();
    for reply in &ordered {
        let Ok(answer) = &reply.result else { continue };
        let root = plan.root(reply.leg);
        if best_of.get(&root).is_none_or(|(_, before)| !is_less_sure(answer, before)) {
            best_of.insert(root, (reply, answer));
        }
    }
    let answers: Vec<Answered<'_>> = best_of.into_values().collect();
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
    let failed = ordered.iter().any(|reply| reply.result.is_err());
    Ok(Merged { answer, expert, legs, partial: missing || failed })
}

/// Where one of them does not say how sure it is, the later one is not less so.
fn is_less_sure(later: &Answer, before: &Answer) -> bool {
    matches!((later.confidence(), before.confidence()), (Some(later), Some(before)) if later < before)
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
