//! What an expert refuses or fails at, as gRPC statuses. One exhaustive match: a new kind of failure does not compile
//! until it has a status.

use std::time::Duration;

use consilium_engine::Error as EngineError;
use consilium_mesh::errors::Refusal;
use tonic::{Code, Status};

use crate::{Unserved, models::control::NotDone, task::Failure, wire::Invalid};

/// Why a call got no answer.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Another expert than the one that lives here.
    UnknownExpert,
    /// The model is not loaded yet.
    Starting,
    Invalid(Invalid),
    /// The deadline passed while the answer was made.
    Late,
    Failed(Failure),
    /// One input of a request over the Open Inference Protocol failed: `field`, or what the engine calls it.
    Input {
        field: Option<String>,
        failure: Failure,
    },
    /// Nobody answers for the model that was named.
    Unserved(Unserved),
    /// Models may not be loaded and unloaded here, and why.
    ControlOff(&'static str),
    NotDone(NotDone),
    /// The task ended without an answer: a defect of ours.
    NoAnswer,
    /// The server was put together without the deadline layer: a defect of ours.
    NoDeadline,
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Status {
        refusal(refused).into_status()
    }
}

impl From<Invalid> for Refused {
    fn from(invalid: Invalid) -> Refused {
        Refused::Invalid(invalid)
    }
}

impl From<Unserved> for Refused {
    fn from(unserved: Unserved) -> Refused {
        Refused::Unserved(unserved)
    }
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::UnknownExpert => {
            Refusal::new(Code::NotFound, "UNKNOWN_EXPERT", "no expert of this name is served here")
        }
        // Elsewhere at once: another instance may be ready.
        Refused::Starting => Refusal::new(Code::Unavailable, "STARTING", "the expert is still loading its model")
            .with_retry_after(Duration::ZERO),
        Refused::Invalid(Invalid { field, problem }) => invalid(&field, &problem),
        Refused::Late => late(),
        Refused::Failed(Failure::Engine(error)) => engine(error),
        Refused::Failed(failure @ Failure::Output { .. }) => failed(failure.to_string()),
        // The caller named the expert, which is there.
        Refused::Failed(Failure::Unserved(none @ Unserved::NoDefault)) => {
            Refusal::new(Code::FailedPrecondition, "NO_DEFAULT_MODEL", none.to_string())
        }
        Refused::Failed(Failure::Unserved(why)) | Refused::Unserved(why) => unserved(&why),
        Refused::Input { field, failure } => input(field, failure),
        Refused::ControlOff(why) => Refusal::new(Code::FailedPrecondition, "MODEL_CONTROL_OFF", why),
        Refused::NotDone(not_done) => not_done_refusal(not_done),
        Refused::NoAnswer => defect("the task ended without an answer"),
        Refused::NoDeadline => defect("the call came without a deadline"),
    }
}

fn input(field: Option<String>, failure: Failure) -> Refusal {
    match failure {
        Failure::Engine(EngineError::Invalid { field: own, problem }) => {
            let field = field.unwrap_or(own);
            Refusal::new(Code::InvalidArgument, "INVALID_REQUEST", format!("{field}: {problem}"))
                .with_violation(field, problem)
        }
        Failure::Unserved(why) => unserved(&why),
        failure @ (Failure::Engine(_) | Failure::Output { .. }) => {
            let refusal = refusal(Refused::Failed(failure));
            match field {
                Some(field) => refusal.with_metadata("input", field),
                None => refusal,
            }
        }
    }
}

fn unserved(why: &Unserved) -> Refusal {
    let problem = why.to_string();
    match why {
        Unserved::Unknown | Unserved::NoDefault => {
            Refusal::new(Code::NotFound, "UNKNOWN_MODEL", problem.clone()).with_violation("model_name", problem)
        }
        Unserved::Version { .. } => {
            Refusal::new(Code::NotFound, "UNKNOWN_MODEL", problem.clone()).with_violation("model_version", problem)
        }
        // Elsewhere at once: another instance may have it.
        Unserved::Unavailable(_) => {
            Refusal::new(Code::Unavailable, "MODEL_UNAVAILABLE", problem).with_retry_after(Duration::ZERO)
        }
    }
}

fn not_done_refusal(not_done: NotDone) -> Refusal {
    match not_done {
        NotDone::Unknown => unserved(&Unserved::Unknown),
        NotDone::NotLoadable { reasons } => Refusal::new(Code::FailedPrecondition, "MODEL_NOT_LOADABLE", reasons),
        NotDone::Stopping => stopping(),
    }
}

fn engine(error: EngineError) -> Refusal {
    match error {
        EngineError::Invalid { field, problem } => invalid(&query_field(&field), &problem),
        EngineError::QueueFull { retry_after } => {
            Refusal::new(Code::ResourceExhausted, "QUEUE_FULL", "too much waits for the model already")
                .with_retry_after(retry_after)
        }
        EngineError::DeadlineExceeded => late(),
        EngineError::Closed => stopping(),
        // The first three happen at loading only; what they say is about files, not about the query.
        EngineError::Runtime { .. } | EngineError::Manifest { .. } | EngineError::Model { .. } => {
            failed("the model is not usable")
        }
        EngineError::Failed { problem } => failed(problem),
    }
}

/// The engine speaks of its inputs (`text`, `inputs[a].shape`), the caller of the query's fields.
fn query_field(field: &str) -> String {
    match field.strip_prefix("inputs") {
        Some(input) => format!("query.parts{}", input.replacen("].", "].tensor.", 1)),
        None => format!("query.{field}"),
    }
}

fn invalid(field: &str, problem: &str) -> Refusal {
    Refusal::new(Code::InvalidArgument, "INVALID_QUERY", format!("{field}: {problem}")).with_violation(field, problem)
}

fn late() -> Refusal {
    Refusal::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline passed before the answer was there")
}

fn stopping() -> Refusal {
    Refusal::new(Code::Unavailable, "STOPPING", "the expert is about to stop").with_retry_after(Duration::ZERO)
}

fn failed(problem: impl Into<String>) -> Refusal {
    Refusal::new(Code::Internal, "MODEL_FAILED", problem)
}

fn defect(problem: &'static str) -> Refusal {
    Refusal::new(Code::Internal, "DEFECT", problem)
}

#[cfg(test)]
mod tests {
    use consilium_mesh::errors;

    use super::*;

    #[test]
    fn every_refusal_has_a_code_and_a_reason() {
        let engine = |error| Refused::Failed(Failure::Engine(error));
        let full = || EngineError::QueueFull { retry_after: Duration::from_millis(40) };
        let output = Failure::Output { output: "mood".to_owned(), problem: "is missing" };
        let table = [
            (Refused::UnknownExpert, Code::NotFound, "UNKNOWN_EXPERT"),
            (Refused::Starting, Code::Unavailable, "STARTING"),
            (Refused::Late, Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            (engine(EngineError::DeadlineExceeded), Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            (engine(full()), Code::ResourceExhausted, "QUEUE_FULL"),
            (engine(EngineError::Closed), Code::Unavailable, "STOPPING"),
            (engine(EngineError::Failed { problem: "out of memory".to_owned() }), Code::Internal, "MODEL_FAILED"),
            (Refused::Failed(output), Code::Internal, "MODEL_FAILED"),
            (Refused::Unserved(Unserved::Unknown), Code::NotFound, "UNKNOWN_MODEL"),
            (Refused::Unserved(Unserved::NoDefault), Code::NotFound, "UNKNOWN_MODEL"),
            (Refused::Unserved(Unserved::Version { in_use: "2".to_owned() }), Code::NotFound, "UNKNOWN_MODEL"),
            (Refused::Unserved(Unserved::Unavailable("gone".to_owned())), Code::Unavailable, "MODEL_UNAVAILABLE"),
            (Refused::Failed(Unserved::NoDefault.into()), Code::FailedPrecondition, "NO_DEFAULT_MODEL"),
            (Refused::ControlOff("no"), Code::FailedPrecondition, "MODEL_CONTROL_OFF"),
            (Refused::NotDone(NotDone::Unknown), Code::NotFound, "UNKNOWN_MODEL"),
            (Refused::NotDone(NotDone::Stopping), Code::Unavailable, "STOPPING"),
            (
                Refused::NotDone(NotDone::NotLoadable { reasons: "no ONNX".to_owned() }),
                Code::FailedPrecondition,
                "MODEL_NOT_LOADABLE",
            ),
            (Refused::Input { field: None, failure: Failure::Engine(full()) }, Code::ResourceExhausted, "QUEUE_FULL"),
            (Refused::NoAnswer, Code::Internal, "DEFECT"),
            (Refused::NoDeadline, Code::Internal, "DEFECT"),
        ];
        for (refused, code, reason) in table {
            let status = Status::from(refused);
            assert_eq!((status.code(), errors::reason(&status).as_deref()), (code, Some(reason)));
        }
        let status = Status::from(engine(full()));
        assert_eq!(errors::retry_after(&status), Some(Duration::from_millis(40)));
    }

    #[test]
    fn what_the_engine_refuses_is_named_as_the_caller_wrote_it() {
        for (field, expected) in [
            ("text", "query.text"),
            ("inputs[a]", "query.parts[a]"),
            ("inputs[a].shape", "query.parts[a].tensor.shape"),
        ] {
            let error = EngineError::Invalid { field: field.to_owned(), problem: "is wrong".to_owned() };
            let violations = errors::violations(&Refused::Failed(Failure::Engine(error)).into());
            assert_eq!(violations[0].field, expected);
        }
        for (field, expected) in [(None, "inputs[a].shape"), (Some("inputs[text][2]"), "inputs[text][2]")] {
            let error = EngineError::Invalid { field: "inputs[a].shape".to_owned(), problem: "is wrong".to_owned() };
            let refused = Refused::Input { field: field.map(str::to_owned), failure: Failure::Engine(error) };
            assert_eq!(errors::violations(&refused.into())[0].field, expected);
        }
    }
}
