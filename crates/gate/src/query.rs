//! What comes into the gate: the experts' profiles, the query, and what its caller wishes. Plain data, no behaviour.
//!
//! `Debug` of everything that carries a client's words is redacted here and nowhere else.

use std::collections::BTreeMap;
use std::fmt;

/// What the gate learns about one expert: the part of its card that routing reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The expert's name; one profile an expert.
    pub expert: String,
    /// The version the profile was taken from; shown in every candidate.
    pub version: String,
    /// One sentence on what the expert knows. Together with the name enough to be routed to.
    pub summary: String,
    /// Queries this expert should get; may be empty.
    pub examples: Vec<String>,
    /// The values the expert serves, by dimension. A dimension that is absent here is served whole.
    pub serves: BTreeMap<String, Vec<String>>,
    /// The digest of the whole card; part of the gate's revision.
    pub digest: String,
}

/// One query, as far as the gate reads it.
#[derive(Clone, Default)]
pub struct Query {
    pub text: String,
    /// Values of declared dimensions, given by the caller; checked by [`Gate::check_attributes`](crate::Gate::check_attributes).
    pub attributes: BTreeMap<String, Vec<String>>,
    /// Free-form; read by rules only.
    pub labels: BTreeMap<String, String>,
    pub caller: Caller,
}

/// Who asks; read by rules only. Unknown fields are empty strings.
#[derive(Clone, Default)]
pub struct Caller {
    pub tenant: String,
    pub tier: String,
    /// Who asks on the tenant's behalf. Rules cannot read it: policy follows the tier, not the person.
    pub subject: String,
    pub purpose: String,
    pub priority: String,
}

/// What the caller wishes for this query; what is unset comes from [`Options`](crate::Options).
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// At most so many experts; 0 counts as 1.
    pub top_k: Option<usize>,
    pub min_confidence: Option<f64>,
    /// Only these experts may answer; empty means all.
    pub experts: Vec<String>,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("text", &format_args!("<{} bytes>", self.text.len()))
            .field("attributes", &format_args!("<{}>", self.attributes.len()))
            .field("labels", &format_args!("<{}>", self.labels.len()))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").finish_non_exhaustive()
    }
}
