//! What a refusal looks like on the wire, written and read back in one place: `google.rpc.ErrorInfo`, `BadRequest`,
//! `RetryInfo` and `grpc-retry-pushback-ms`. Messages say what is wrong, never what was asked.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every [`reason`] that this project gives.
pub const DOMAIN: &str = "consilium.dev";

/// The header by which a server tells a retrying client when to come back (gRFC A6).
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Metadata under which every reply and every error of a query says which request it belongs to.
pub const REQUEST_ID: &str = "consilium-request-id";

/// A status in the making. `reason` is a stable UPPER_SNAKE word for programs, `message` a sentence for people.
#[derive(Debug, Clone)]
#[must_use]
pub struct Refusal {
    code: Code,
    reason: String,
    message: String,
    metadata: BTreeMap<String, String>,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
}

/// A field of the request and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub field: String,
    pub problem: String,
}

impl Refusal {
    pub fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: message.into(),
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            retry_after: None,
        }
    }

    /// Facts that programs may need: an expert's name, a limit. Never text of the request.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    pub fn with_violation(mut self, field: impl Into<String>, problem: impl Into<String>) -> Self {
        self.violations.push(Violation { field: field.into(), problem: problem.into() });
        self
    }

    /// A retry makes sense after this long; zero means elsewhere, at once.
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    pub fn into_status(self) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(self.reason, DOMAIN, self.metadata.into_iter().collect::<HashMap<_, _>>());
        for violation in self.violations {
            details.add_bad_request_violation(violation.field, violation.problem);
        }
        let mut metadata = MetadataMap::new();
        if let Some(after) = self.retry_after {
            details.set_retry_info(Some(after));
            // Rounded up, and never 0: clients on gRPC's core (1.85 at least) then neither retry nor return until their deadline.
            let millis = i32::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX).max(1);
            metadata.insert(PUSHBACK, MetadataValue::from(millis));
        }
        Status::with_error_details_and_metadata(self.code, self.message, details, metadata)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.into_status()
    }
}

/// The reason that this project gave, if the status carries one.
pub fn reason(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then_some(info.reason)
}

/// The facts beside the [`reason`]; empty where there are none.
pub fn metadata(status: &Status) -> BTreeMap<String, String> {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
    info.map(|info| info.metadata.into_iter().collect()).unwrap_or_default()
}

/// When the server wants the caller back. `None` where it said nothing, or said not to come back.
pub fn retry_after(status: &Status) -> Option<Duration> {
    let pushback = match status.metadata().get(PUSHBACK) {
        // A value that is negative or no number means: do not retry (gRFC A6).
        Some(pushback) => Some(Duration::from_millis(pushback.to_str().ok()?.parse().ok()?)),
        None => None,
    };
    // The details are exact where the header is rounded.
    status.get_details_retry_info().and_then(|info| info.retry_delay).or(pushback)
}

/// Every field that the server found wrong.
pub fn violations(status: &Status) -> Vec<Violation> {
    let found = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    found.into_iter().map(|v| Violation { field: v.field, problem: v.description }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_after_the_wire() {
        let status = Refusal::new(Code::ResourceExhausted, "OVERLOADED", "too many calls")
            .with_metadata("expert", "triage")
            .with_violation("query.text", "longer than 10 characters")
            .with_retry_after(Duration::from_micros(1500))
            .into_status();
        let response = status.into_http::<()>();
        let read = Status::from_header_map(response.headers()).unwrap();

        assert_eq!(read.code(), Code::ResourceExhausted);
        assert_eq!(reason(&read).as_deref(), Some("OVERLOADED"));
        assert_eq!(metadata(&read).get("expert").map(String::as_str), Some("triage"));
        assert_eq!(retry_after(&read), Some(Duration::from_micros(1500)));
        assert_eq!(read.metadata().get(PUSHBACK).unwrap(), "2");
        let expected = Violation { field: "query.text".into(), problem: "longer than 10 characters".into() };
        assert_eq!(violations(&read), [expected]);
    }

    #[test]
    fn at_once_is_a_millisecond_for_clients_that_hang_at_zero() {
        let status =
            Refusal::new(Code::Unavailable, "DRAINING", "leaving").with_retry_after(Duration::ZERO).into_status();
        assert_eq!(status.metadata().get(PUSHBACK).unwrap(), "1");
        assert_eq!(retry_after(&status), Some(Duration::ZERO));
    }

    #[test]
    fn a_bare_status_and_somebody_elses_reason_say_nothing() {
        let bare = Status::internal("x");
        assert_eq!((reason(&bare), retry_after(&bare)), (None, None));
        assert!(violations(&bare).is_empty());
        let details = ErrorDetails::with_error_info("THEIRS", "example.com", [("k".to_owned(), "v".to_owned())]);
        let foreign = Status::with_error_details(Code::Internal, "x", details);
        assert_eq!(reason(&foreign), None);
        assert!(metadata(&foreign).is_empty());
    }

    #[test]
    fn a_pushback_that_says_no_beats_the_details() {
        let mut status =
            Refusal::new(Code::Unavailable, "X", "x").with_retry_after(Duration::from_secs(1)).into_status();
        status.metadata_mut().insert(PUSHBACK, MetadataValue::from_static("-1"));
        assert_eq!(retry_after(&status), None);
    }
}
