//! Everything that can go wrong with a request, and the one place that says which gRPC status that is.

use std::{collections::BTreeMap, time::Duration};

use consilium_mesh::errors::Refusal;
use tonic::{Code, Status};

/// When somebody may be there again: an expert that restarts takes about so long.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Violations that a status names, and their bytes. It travels in headers, in the message and twice more in the details, and
/// clients take 8 KiB of those in all: gRPC's usual limit, beyond which they tell their callers something else instead.
const MAX_VIOLATIONS: usize = 16;
const MAX_VIOLATIONS_BYTES: usize = 1536;

/// Why a request has no answer. Never contains the query.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("{}", listed(violations))]
    Invalid { violations: Vec<Violation> },
    #[error("{}", listed(violations))]
    Unknown { violations: Vec<Violation> },
    #[error("the deadline passed before an expert was called")]
    DeadlineExceeded,
    #[error("no live instance of {}", experts.join(", "))]
    NoLiveInstance { experts: Vec<String> },
    #[error("the gate cannot decide now: {reason}")]
    GateUnavailable { reason: &'static str },
    #[error("the router has not heard of the mesh yet")]
    Starting,
    #[error("{}", unknown(name.as_deref()))]
    UnknownModel { name: Option<String> },
    #[error("no model \"{name}\" of this version; it is there as version {}", versions.join(", "))]
    UnknownVersion { name: String, versions: Vec<String> },
    #[error("no live instance of {expert} has the model \"{model}\" loaded")]
    ModelUnavailable { expert: String, model: String },
    #[error("nobody in the mesh knows the subject of {}", fields.join(", "))]
    Refused { fields: Vec<String> },
    #[error("{expert}: {}", failure.message)]
    Failed { expert: String, failure: Box<Failure> },
    #[error("the caller went away")]
    Gone,
    #[error("this mesh asks for no feedback, so there is nothing to send feedback for")]
    NoFeedback,
    #[error("{}", listed(violations))]
    InvalidToken { violations: Vec<Violation> },
    #[error("{}", listed(violations))]
    TokenExpired { violations: Vec<Violation> },
    #[error("the feedback could not be written down")]
    FeedbackNotStored,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, for example `query.attributes.audience`.
    pub field: String,
    /// What was wrong and what was expected.
    pub problem: String,
}

impl Violation {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Why a leg, or one attempt of it, has no answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub code: Code,
    /// `UPPER_SNAKE_CASE`.
    pub reason: String,
    pub message: String,
    /// Worth another try after this long.
    pub retry_after: Option<Duration>,
    pub metadata: BTreeMap<String, String>,
    /// What the expert found wrong with the query.
    pub violations: Vec<Violation>,
}

impl Failure {
    pub(crate) fn new(code: Code, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            retry_after: None,
            metadata: BTreeMap::new(),
            violations: Vec::new(),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid { violations } => {
                with_violations(Refusal::new(Code::InvalidArgument, "INVALID_REQUEST", message), violations)
                    .into_status()
            }
            Error::Unknown { violations } => {
                with_violations(Refusal::new(Code::NotFound, "UNKNOWN_EXPERT", message), violations).into_status()
            }
            Error::DeadlineExceeded => Refusal::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message).into_status(),
            Error::NoLiveInstance { experts } => Refusal::new(Code::Unavailable, "NO_LIVE_INSTANCE", message)
                .with_metadata("experts", experts.join(","))
                .with_retry_after(RETRY_AFTER)
                .into_status(),
            Error::GateUnavailable { reason } => Refusal::new(Code::Unavailable, "GATE_UNAVAILABLE", message)
                .with_metadata("cause", reason)
                .with_retry_after(RETRY_AFTER)
                .into_status(),
            Error::Starting => {
                Refusal::new(Code::Unavailable, "STARTING", message).with_retry_after(RETRY_AFTER).into_status()
            }
            Error::UnknownModel { .. } => Refusal::new(Code::NotFound, "UNKNOWN_MODEL", message.clone())
                .with_violation("model_name", message)
                .into_status(),
            Error::UnknownVersion { .. } => Refusal::new(Code::NotFound, "UNKNOWN_MODEL", message.clone())
                .with_violation("model_version", message)
                .into_status(),
            Error::ModelUnavailable { expert, model } => Refusal::new(Code::Unavailable, "MODEL_UNAVAILABLE", message)
                .with_metadata("expert", expert)
                .with_metadata("model", model)
                .with_retry_after(RETRY_AFTER)
                .into_status(),
            Error::Refused { fields } => {
                let violations = fields.into_iter().map(|field| Violation::new(field, "the gate refused it"));
                with_violations(Refusal::new(Code::NotFound, "REFUSED", message), violations.collect()).into_status()
            }
            Error::Failed { expert, failure } => {
                let refusal = Refusal::new(failure.code, failure.reason, message);
                let refusal = failure.metadata.into_iter().fold(refusal, |refusal, (k, v)| refusal.with_metadata(k, v));
                let refusal = with_violations(refusal, failure.violations).with_metadata("expert", expert);
                match failure.retry_after {
                    Some(after) => refusal.with_retry_after(after).into_status(),
                    None => refusal.into_status(),
                }
            }
            Error::Gone => Refusal::new(Code::Cancelled, "CALLER_GONE", message).into_status(),
            Error::NoFeedback => Refusal::new(Code::Unimplemented, "NO_FEEDBACK", message).into_status(),
            Error::InvalidToken { violations } => {
                with_violations(Refusal::new(Code::InvalidArgument, "INVALID_TOKEN", message), violations).into_status()
            }
            Error::TokenExpired { violations } => {
                with_violations(Refusal::new(Code::FailedPrecondition, "TOKEN_EXPIRED", message), violations)
                    .into_status()
            }
            Error::FeedbackNotStored => Refusal::new(Code::Unavailable, "FEEDBACK_NOT_STORED", message)
                .with_retry_after(RETRY_AFTER)
                .into_status(),
        }
    }
}

fn with_violations(refusal: Refusal, violations: Vec<Violation>) -> Refusal {
    let told = told(&violations);
    violations
        .into_iter()
        .take(told)
        .fold(refusal, |refusal, violation| refusal.with_violation(violation.field, violation.problem))
}

fn unknown(model: Option<&str>) -> String {
    let which = model.map_or_else(|| "model of this name".to_owned(), |name| format!("model \"{name}\""));
    format!("the mesh has no {which}; RepositoryIndex lists those that it has")
}

fn listed(violations: &[Violation]) -> String {
    let told = told(violations);
    let shown = violations.iter().take(told).map(|v| format!("{}: {}", v.field, v.problem));
    let more = violations.len().saturating_sub(told);
    let rest = (more > 0).then(|| format!("and {more} more"));
    shown.chain(rest).collect::<Vec<_>>().join("; ")
}

/// How many of them fit into a status; one always does.
fn told(violations: &[Violation]) -> usize {
    // What is not ASCII takes three bytes for each of its own in the message.
    let size = |text: &str| text.bytes().map(|byte| if byte.is_ascii() { 1 } else { 3 }).sum::<usize>();
    let sizes = violations.iter().map(|violation| size(&violation.field) + size(&violation.problem));
    let sums = sizes.scan(0, |sum, size| {
        *sum += size;
        Some(*sum)
    });
    sums.take(MAX_VIOLATIONS).take_while(|sum| *sum <= MAX_VIOLATIONS_BYTES).count().max(1)
}

#[cfg(test)]
mod tests {
    use consilium_mesh::errors;

    use super::*;

    #[test]
    fn however_much_is_wrong_a_status_fits_into_the_headers_that_clients_take() {
        for (count, length, told) in [(64, 120, 11), (64, 1, 16), (3, 40, 3), (2, 2000, 1)] {
            let violation = Violation::new("options.versions", "v".repeat(length));
            let status = Status::from(Error::Unknown { violations: vec![violation; count] });
            assert_eq!(errors::violations(&status).len(), told);
            let left = count - told;
            assert_eq!(status.message().ends_with(&format!("and {left} more")), left > 0);
            let headers = status.into_http::<()>().into_parts().0.headers;
            let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
            assert!(bytes < 8192, "{bytes}");
        }
    }
}
