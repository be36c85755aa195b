//! What a failed attempt means: whether another instance may be tried, and who is to blame. Decided by where the error
//! came from and by its code, never by the words in it.

use std::{error::Error as _, time::Duration};

use consilium_mesh::errors;
use tonic::{Code, Status};

use crate::{
    error::{Failure, Violation},
    plan::Leg,
};

/// What an instance says that serves another expert than the record at its address: somebody else lives there now.
const SOMEBODY_ELSE: &str = "UNKNOWN_EXPERT";
/// What an instance says that has a model, but not loaded.
const NOT_LOADED: &str = "MODEL_UNAVAILABLE";
/// What it says that has no such model.
const NO_SUCH_MODEL: &str = "UNKNOWN_MODEL";

/// A failed attempt, understood.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) failure: Failure,
    /// Another instance may do better.
    pub(crate) elsewhere: bool,
    pub(crate) blame: Blame,
}

/// Whose fault a failed attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    Instance,
    /// The instance found fault with the query: it works.
    Request,
    /// There was too little time to tell.
    Nobody,
    /// The instance does not have what it was asked for: somebody loads and unloads models, or nobody ever had it.
    Absence,
}

impl Blame {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Request => "request",
            Self::Nobody => "nobody",
            Self::Absence => "absence",
        }
    }
}

/// Reads the status of an attempt of `leg` that took `took`, on an instance whose record promised the leg's model or not.
pub(crate) fn judge(status: &Status, took: Duration, leg: &Leg, is_promised: bool) -> Verdict {
    if is_local_timeout(status) {
        return timed_out(took, leg);
    }
    if status.source().is_some() {
        // Made here, of an error of the connection. tonic reports a connection that broke or met a GOAWAY as
        // CANCELLED, INTERNAL or UNKNOWN (measured: 134 of 99,418 calls over 100 graceful shutdowns), so the code says
        // nothing. The call may have run.
        return unreachable("the connection to the instance failed", leg.idempotent);
    }
    let failure = Failure {
        code: status.code(),
        reason: errors::reason(status).unwrap_or_else(|| unexplained(status).to_owned()),
        message: status.message().to_owned(),
        retry_after: errors::retry_after(status),
        metadata: errors::metadata(status),
        violations: errors::violations(status)
            .into_iter()
            .map(|violation| Violation::new(violation.field, violation.problem))
            .collect(),
    };
    if failure.reason == SOMEBODY_ELSE {
        return unreachable("another expert answers at the instance's address", true);
    }
    if [NOT_LOADED, NO_SUCH_MODEL].contains(&failure.reason.as_str()) {
        // What a record promised was there until this moment. What none did is not looked for one by one.
        let elsewhere = is_promised || failure.reason == NOT_LOADED;
        return Verdict { failure, elsewhere, blame: Blame::Absence };
    }
    let (elsewhere, blame) = match status.code() {
        // The instance refused before it did anything.
        Code::Unavailable | Code::ResourceExhausted => (true, Blame::Instance),
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Aborted => (leg.idempotent, Blame::Instance),
        Code::DeadlineExceeded => (false, blame_for_time(took, leg)),
        // With a reason it is something of the protocol that nobody serves. Without, it is not even a server of ours.
        Code::Unimplemented if errors::reason(status).is_some() => (false, Blame::Request),
        Code::Cancelled | Code::Unimplemented => (false, Blame::Instance),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unauthenticated => (false, Blame::Request),
    };
    Verdict { failure, elsewhere, blame }
}

/// The reason of a failure that came without one. Bytes that are no message have violations and nothing else.
fn unexplained(status: &Status) -> &'static str {
    let blames_the_request = status.code() == Code::InvalidArgument && !errors::violations(status).is_empty();
    if blames_the_request { "INVALID_REQUEST" } else { "EXPERT_FAILED" }
}

/// An attempt that the router itself ended after `took`.
pub(crate) fn timed_out(took: Duration, leg: &Leg) -> Verdict {
    let message = format!("no answer within {} ms", took.as_millis());
    let failure = Failure::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message);
    Verdict { failure, elsewhere: leg.idempotent, blame: blame_for_time(took, leg) }
}

fn unreachable(message: &str, elsewhere: bool) -> Verdict {
    let failure = Failure::new(Code::Unavailable, "INSTANCE_UNREACHABLE", message);
    Verdict { failure, elsewhere, blame: Blame::Instance }
}

/// An instance that was given less than its objective has broken no promise. A caller in a hurry must not make sound
/// instances look broken.
fn blame_for_time(took: Duration, leg: &Leg) -> Blame {
    if took >= leg.slo.latency { Blame::Instance } else { Blame::Nobody }
}

/// Whether tonic's client gave up by its own timer, which it sets from the `grpc-timeout` that it sends: it races with
/// ours and calls the result CANCELLED.
fn is_local_timeout(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::TimeoutExpired>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use consilium_mesh::{errors::Refusal, registry::Slo};
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;
    use crate::plan::Turn;

    const OBJECTIVE: Duration = Duration::from_millis(100);

    fn leg(idempotent: bool) -> Leg {
        Leg {
            index: 0,
            stage: 1,
            expert: "labs".into(),
            version: "1".into(),
            model: None,
            model_version: "".into(),
            is_unlisted: false,
            budget: Duration::from_secs(1),
            slo: Slo { latency: OBJECTIVE, objective: 0.99, first_token: None },
            idempotent,
            live: 2,
            turn: Turn::First,
        }
    }

    fn row(status: &Status, idempotent: bool) -> (bool, Blame) {
        let verdict = judge(status, OBJECTIVE, &leg(idempotent), false);
        (verdict.elsewhere, verdict.blame)
    }

    #[test]
    fn refusals_go_elsewhere_and_mistakes_of_the_caller_do_not() {
        assert_eq!(row(&Status::unavailable("draining"), false), (true, Blame::Instance));
        assert_eq!(row(&Status::resource_exhausted("queue full"), false), (true, Blame::Instance));
        assert_eq!(row(&Status::internal("run failed"), false), (false, Blame::Instance));
        assert_eq!(row(&Status::internal("run failed"), true), (true, Blame::Instance));
        assert_eq!(row(&Status::invalid_argument("no text"), true), (false, Blame::Request));
        assert_eq!(row(&Status::deadline_exceeded("late"), true), (false, Blame::Instance));
        assert_eq!(row(&Status::unimplemented("no such method"), true), (false, Blame::Instance));
        let unsupported = Refusal::new(Code::Unimplemented, "UNSUPPORTED", "no shared memory").into_status();
        assert_eq!(row(&unsupported, true), (false, Blame::Request));
    }

    #[test]
    fn a_broken_connection_is_told_by_its_source_whatever_the_code_says() {
        let broken = || std::io::Error::new(std::io::ErrorKind::BrokenPipe, "broken");
        for code in [Code::Cancelled, Code::Internal, Code::Unknown] {
            let mut status = Status::new(code, "operation was canceled");
            status.set_source(std::sync::Arc::new(broken()));
            let verdict = judge(&status, OBJECTIVE, &leg(true), false);
            assert_eq!((verdict.failure.code, verdict.elsewhere), (Code::Unavailable, true));
            assert!(!judge(&status, OBJECTIVE, &leg(false), false).elsewhere, "it may have run");
        }
    }

    #[test]
    fn a_caller_in_a_hurry_blames_nobody() {
        let short = OBJECTIVE / 2;
        assert_eq!(timed_out(short, &leg(true)).blame, Blame::Nobody);
        assert_eq!(judge(&Status::deadline_exceeded("late"), short, &leg(true), false).blame, Blame::Nobody);
        assert_eq!(timed_out(OBJECTIVE, &leg(true)).blame, Blame::Instance);
    }

    #[test]
    fn somebody_else_at_the_address_is_not_the_callers_mistake() {
        let status = Refusal::new(Code::NotFound, SOMEBODY_ELSE, "no such expert here").into_status();
        let verdict = judge(&status, OBJECTIVE, &leg(false), false);
        assert_eq!((verdict.failure.code, verdict.elsewhere), (Code::Unavailable, true));
        assert_eq!(verdict.blame, Blame::Instance);
    }

    #[test]
    fn a_model_that_was_unloaded_this_moment_is_asked_elsewhere_and_nobodys_fault() {
        for (code, reason) in [(Code::NotFound, "UNKNOWN_MODEL"), (Code::Unavailable, "MODEL_UNAVAILABLE")] {
            let status = Refusal::new(code, reason, "no such model here").into_status();
            let verdict = judge(&status, OBJECTIVE, &leg(false), true);
            assert_eq!((verdict.failure.code, verdict.elsewhere, verdict.blame), (code, true, Blame::Absence));
        }
        let status = Refusal::new(Code::NotFound, "UNKNOWN_MODEL", "no such version").into_status();
        assert_eq!(row(&status, true), (false, Blame::Absence), "nobody said that there was one");
        let status = Refusal::new(Code::Unavailable, "MODEL_UNAVAILABLE", "the default model is loading").into_status();
        assert_eq!(row(&status, false), (true, Blame::Absence));
    }

    #[test]
    fn bytes_that_are_no_message_are_the_requests_fault_by_name() {
        let details = ErrorDetails::with_bad_request_violation("inputs.name", "not UTF-8");
        let status = Status::with_error_details(Code::InvalidArgument, "not UTF-8", details);
        assert_eq!(judge(&status, OBJECTIVE, &leg(true), false).failure.reason, "INVALID_REQUEST");
        assert_eq!(
            judge(&Status::invalid_argument("no"), OBJECTIVE, &leg(true), false).failure.reason,
            "EXPERT_FAILED"
        );
    }

    #[test]
    fn what_an_expert_finds_wrong_with_a_query_is_kept() {
        let status = Refusal::new(Code::InvalidArgument, "INVALID_QUERY", "no text")
            .with_violation("query.text", "empty")
            .into_status();
        let verdict = judge(&status, OBJECTIVE, &leg(true), false);
        assert_eq!(verdict.failure.violations, [Violation::new("query.text", "empty")]);
    }
}
