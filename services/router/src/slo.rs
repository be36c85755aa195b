//! The service level objective of each expert, as its callers feel it: one leg, retries included, is good when it had
//! no server error and took no longer than the objective's latency. Sheds are bad. What the caller did wrong, and what
//! the caller gave up before the latency had passed, is not counted.

use std::time::Duration;

use tonic::Code;

/// How a leg ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Answered,
    Failed(Code),
    /// Whoever was asked found fault with the request, or does not have what it asks for, whatever the code says.
    Mistaken,
    /// The caller went away first.
    Abandoned,
}

/// Whether the leg was good; `None` when it does not count.
pub(crate) fn judge(ending: Ending, took: Duration, latency: Duration) -> Option<bool> {
    let in_time = took <= latency;
    match ending {
        Ending::Answered => Some(in_time),
        Ending::Mistaken => None,
        // A deadline shorter than the objective is a caller who gave up by the clock.
        Ending::Abandoned | Ending::Failed(Code::DeadlineExceeded) if in_time => None,
        Ending::Abandoned => Some(false),
        Ending::Failed(code) => match code {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unauthenticated => None,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Some(false),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_millis(150);
    const FAST: Duration = Duration::from_millis(150);
    const SLOW: Duration = Duration::from_millis(151);

    #[test]
    fn the_objective_counts_what_the_mesh_did() {
        let cases = [
            (Ending::Answered, FAST, Some(true)),
            (Ending::Answered, SLOW, Some(false)),
            (Ending::Abandoned, FAST, None),
            (Ending::Abandoned, SLOW, Some(false)),
            (Ending::Failed(Code::ResourceExhausted), FAST, Some(false)),
            (Ending::Failed(Code::DeadlineExceeded), SLOW, Some(false)),
            (Ending::Failed(Code::DeadlineExceeded), FAST, None),
            (Ending::Failed(Code::Unavailable), FAST, Some(false)),
            (Ending::Failed(Code::InvalidArgument), FAST, None),
            (Ending::Failed(Code::NotFound), SLOW, None),
            (Ending::Failed(Code::Unimplemented), FAST, Some(false)),
            (Ending::Mistaken, SLOW, None),
        ];
        for (ending, took, expected) in cases {
            assert_eq!(judge(ending, took, LATENCY), expected, "{ending:?} after {took:?}");
        }
    }
}
