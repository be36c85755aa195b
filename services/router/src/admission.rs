//! Step 1: may this run at all? Checks what a caller may get wrong and fixes the deadline.

use std::{collections::BTreeMap, time::Duration};

use consilium_gate::Query;
use tokio::time::Instant;

use crate::{
    call::Times,
    catalog::Catalog,
    error::{Error, Violation},
    gate::Gate,
    wire::{Combine, Payload},
};

/// The longest text that is read, bytes. Longer material belongs into parts.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;
/// The most experts that one request may ask for.
pub const MAX_TOP_K: usize = 16;
/// The longest request id, bytes.
pub(crate) const MAX_REQUEST_ID_BYTES: usize = 128;
const MAX_NAME_BYTES: usize = 128;
/// A label's value, or a fact about the caller, bytes.
const MAX_LABEL_BYTES: usize = 1024;
/// Attributes of a query, values of an attribute, experts of a wish: more of them is no question any more.
const MAX_ENTRIES: usize = 64;

/// A request as it came in.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) query: Query,
    /// Of the query's text, the gate is given a part: it is longer than what is read.
    pub(crate) is_cut: bool,
    /// The query as it travels on to the experts.
    pub(crate) payload: Payload,
    pub(crate) options: Options,
    /// From the client's `grpc-timeout`, as the deadline layer capped it.
    pub(crate) deadline: Option<Instant>,
}

/// What a caller asked to be different; unset is the mesh's own setting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) top_k: Option<usize>,
    pub(crate) min_confidence: Option<f64>,
    /// Only these experts; empty means all.
    pub(crate) experts: Vec<String>,
    /// Version by expert.
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) combine: Combine,
}

/// A request that may run. Only [`Admission::admit`] makes one, and it has a deadline: the gate and everything behind
/// it can rely on that.
#[derive(Debug)]
pub(crate) struct Admitted {
    request: Request,
    times: Times,
}

impl Admitted {
    pub(crate) fn query(&self) -> &Query {
        &self.request.query
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.request.is_cut
    }

    pub(crate) fn payload(&self) -> &Payload {
        &self.request.payload
    }

    pub(crate) fn options(&self) -> &Options {
        &self.request.options
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.times.deadline
    }

    pub(crate) fn times(&self) -> Times {
        self.times
    }
}

/// The mesh's limits.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    /// For requests that bring no deadline of their own.
    pub(crate) default_deadline: Duration,
}

impl Admission {
    /// Takes the request, or says everything that is wrong with it.
    pub(crate) fn admit(&self, request: Request, catalog: &Catalog, gate: &Gate) -> Result<Admitted, Error> {
        let mut violations = Vec::new();
        check_id(&request.id, &mut violations);
        check_text(&request, &mut violations);
        check_facts(&request.query, &mut violations);
        check_options(&request.options, &mut violations);
        check_attributes(&request, gate, &mut violations);
        if !violations.is_empty() {
            return Err(Error::Invalid { violations });
        }
        check_experts(&request.options, catalog)?;
        let times = self.times(request.deadline);
        Ok(Admitted { request, times })
    }

    /// Of a request that comes now; `deadline` is its own, if it has one.
    pub(crate) fn times(&self, deadline: Option<Instant>) -> Times {
        let received = Instant::now();
        Times { received, deadline: deadline.unwrap_or(received + self.default_deadline) }
    }
}

fn check_id(id: &str, violations: &mut Vec<Violation>) {
    let printable = id.bytes().all(|byte| byte.is_ascii_graphic());
    if id.len() > MAX_REQUEST_ID_BYTES || !printable {
        let problem = format!("expected at most {MAX_REQUEST_ID_BYTES} visible ASCII characters");
        violations.push(Violation::new("context.request_id", problem));
    }
}

fn check_text(request: &Request, violations: &mut Vec<Violation>) {
    let text = &request.query.text;
    if text.len() > MAX_TEXT_BYTES {
        let problem =
            format!("{} bytes; expected at most {MAX_TEXT_BYTES}, longer material goes into parts", text.len());
        violations.push(Violation::new("query.text", problem));
    }
    if text.trim().is_empty() && !request.payload.has_parts() {
        violations.push(Violation::new("query.text", "empty; expected a question, or parts"));
    }
}

/// What rules read runs on every request: it has to stay small.
fn check_facts(query: &Query, violations: &mut Vec<Violation>) {
    let long = |(key, value): (&String, &String)| key.len() > MAX_NAME_BYTES || value.len() > MAX_LABEL_BYTES;
    if query.labels.len() > MAX_ENTRIES || query.labels.iter().any(long) {
        let problem = format!(
            "expected at most {MAX_ENTRIES} labels, keys of at most {MAX_NAME_BYTES} bytes, values of {MAX_LABEL_BYTES}"
        );
        violations.push(Violation::new("query.labels", problem));
    }
    let caller = &query.caller;
    for (field, value) in [
        ("context.tenant", &caller.tenant),
        ("context.tier", &caller.tier),
        ("context.subject", &caller.subject),
        ("context.purpose", &caller.purpose),
    ] {
        if value.len() > MAX_LABEL_BYTES {
            violations.push(Violation::new(field, format!("expected at most {MAX_LABEL_BYTES} bytes")));
        }
    }
}

fn check_attributes(request: &Request, gate: &Gate, violations: &mut Vec<Violation>) {
    let attributes = &request.query.attributes;
    if attributes.len() > MAX_ENTRIES || attributes.values().any(|values| values.len() > MAX_ENTRIES) {
        let problem = format!("expected at most {MAX_ENTRIES} attributes of at most {MAX_ENTRIES} values each");
        violations.push(Violation::new("query.attributes", problem));
    } else {
        violations.extend(gate.check_attributes(attributes));
    }
}

fn check_options(options: &Options, violations: &mut Vec<Violation>) {
    if let Some(top_k) = options.top_k
        && !(1..=MAX_TOP_K).contains(&top_k)
    {
        violations.push(Violation::new("options.top_k", format!("{top_k}; expected 1 to {MAX_TOP_K}")));
    }
    if let Some(bar) = options.min_confidence
        && !(0.0..=1.0).contains(&bar)
    {
        violations.push(Violation::new("options.min_confidence", format!("{bar}; expected 0 to 1")));
    }
    check_names("options.experts", options.experts.iter(), violations);
    check_names("options.versions", options.versions.keys(), violations);
    check_names("options.versions", options.versions.values(), violations);
}

/// Bounds what may be repeated in an error.
fn check_names<'a>(field: &str, names: impl ExactSizeIterator<Item = &'a String>, violations: &mut Vec<Violation>) {
    if names.len() > MAX_ENTRIES {
        violations.push(Violation::new(field, format!("{}; expected at most {MAX_ENTRIES}", names.len())));
    }
    if names.into_iter().any(|name| name.len() > MAX_NAME_BYTES) {
        violations.push(Violation::new(field, format!("expected names of at most {MAX_NAME_BYTES} bytes")));
    }
}

fn check_experts(options: &Options, catalog: &Catalog) -> Result<(), Error> {
    let experts = options.experts.iter().filter(|expert| !catalog.knows(expert));
    let mut unknown: Vec<_> = experts
        .map(|expert| Violation::new("options.experts", format!("the mesh has no expert \"{expert}\"")))
        .collect();
    let versions = options.versions.iter().filter(|(expert, version)| !catalog.knows_version(expert, version));
    unknown.extend(versions.map(|(expert, version)| {
        let problem = format!("the mesh has no version \"{version}\" of expert \"{expert}\"");
        Violation::new(format!("options.versions[{expert}]"), problem)
    }));
    if unknown.is_empty() { Ok(()) } else { Err(Error::Unknown { violations: unknown }) }
}
