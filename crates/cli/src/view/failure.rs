//! Why a call has no reply: the status of a router, with all that it says.

use std::collections::BTreeMap;

use consilium_mesh::{
    errors::{self, REQUEST_ID},
    metrics::code_name,
};
use serde::Serialize;
use tonic::{Code, Status};

use super::milliseconds;
use crate::error::Trouble;

/// The document that `--json` prints on standard error, below `error`. What nobody said is `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CallFailure {
    /// The gRPC code's name, `INVALID_ARGUMENT`; `null` where no router was asked.
    pub(crate) code: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) message: String,
    pub(crate) request_id: Option<String>,
    pub(crate) violations: Vec<Violation>,
    /// Worth another try after this long.
    pub(crate) retry_after_ms: Option<f64>,
    pub(crate) metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    pub(crate) field: String,
    pub(crate) problem: String,
}

impl CallFailure {
    /// `code` may differ from the status's own, which this end may have made; `trouble` is the same in words.
    pub(crate) fn new(status: &Status, code: Code, trouble: &Trouble) -> Self {
        let violation = |it: errors::Violation| Violation { field: it.field, problem: it.problem };
        let reason = errors::reason(status);
        // What the router said, where it was the router; the words of this end are for people.
        let message = if reason.is_some() { status.message() } else { &trouble.headline };
        Self {
            code: Some(code_name(code).to_owned()),
            message: message.to_owned(),
            reason,
            request_id: status.metadata().get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned),
            violations: errors::violations(status).into_iter().map(violation).collect(),
            retry_after_ms: errors::retry_after(status).map(milliseconds),
            metadata: errors::metadata(status),
        }
    }

    /// What went wrong before a router was asked, or after it had answered.
    pub(crate) fn here(trouble: &Trouble) -> Self {
        let details = trouble.details.iter().map(String::as_str);
        let said: Vec<_> = std::iter::once(trouble.headline.as_str()).chain(details).collect();
        Self {
            code: None,
            reason: None,
            message: said.join(": "),
            request_id: None,
            violations: Vec::new(),
            retry_after_ms: None,
            metadata: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use consilium_mesh::errors::Refusal;
    use serde_json::json;
    use tonic::metadata::MetadataValue;

    use super::*;

    #[test]
    fn a_status_is_told_whole() {
        let mut status = Refusal::new(Code::Unavailable, "NO_LIVE_INSTANCE", "no live instance of general")
            .with_metadata("experts", "general")
            .with_violation("options.experts", "nobody lives there")
            .with_retry_after(Duration::from_millis(1500))
            .into_status();
        status.metadata_mut().insert(REQUEST_ID, MetadataValue::from_static("r-7"));
        let failure = CallFailure::new(&status, status.code(), &Trouble::new("for people"));
        let expected = json!({
            "code": "UNAVAILABLE",
            "reason": "NO_LIVE_INSTANCE",
            "message": "no live instance of general",
            "request_id": "r-7",
            "violations": [{"field": "options.experts", "problem": "nobody lives there"}],
            "retry_after_ms": 1500.0,
            "metadata": {"experts": "general"},
        });
        assert_eq!(serde_json::to_value(failure).unwrap(), expected);
    }

    #[test]
    fn what_goes_wrong_at_this_end_has_a_message_and_no_code() {
        let failure = CallFailure::here(&Trouble::new("the address cannot be used").with_detail("no port"));
        assert_eq!(serde_json::to_value(failure).unwrap()["message"], "the address cannot be used: no port");
        let failure =
            CallFailure::new(&Status::cancelled("timeout"), Code::DeadlineExceeded, &Trouble::new("too late"));
        assert_eq!(
            (failure.code.as_deref(), failure.reason, failure.message.as_str()),
            (Some("DEADLINE_EXCEEDED"), None, "too late")
        );
    }
}
