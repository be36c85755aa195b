//! What Prometheus should watch of a mesh: recording rules in Sloth's names and burn alerts for the objective of each
//! expert, and alerts on what no objective shows. Objectives in, rules out; nothing is read or written here.
//!
//! `burn` has the rules of one expert, `mesh` those of all of them together, `promql` what both are written in, and
//! `document` the files that they can be put into.

mod burn;
mod document;
mod mesh;
mod promql;

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

pub(crate) use self::document::{operator, prometheus, sloth};
use self::promql::Scope;

/// The promises of a mesh.
#[derive(Clone, Debug)]
pub(crate) struct Promises {
    pub(crate) mesh: String,
    /// By name, each once.
    pub(crate) experts: Vec<Promise>,
}

/// What an expert promises: this share of its legs is good, that is, without a server error and within `latency`.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) expert: String,
    /// From 0 up to, not including, 1.
    pub(crate) objective: f64,
    pub(crate) latency: Duration,
}

/// What depends on who is alerted, and on what else their Prometheus has.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The page with an entry for each alert, to which `#` and the alert's name in small letters are added.
    pub(crate) runbook: String,
    /// Where Grafana is: a URL without a slash at its end. Empty for a path.
    pub(crate) dashboards: String,
    /// No alert on shares before there are so many bad ones.
    pub(crate) least_bad: u32,
    /// Labels that everything of this mesh has and other meshes' metrics do not.
    pub(crate) scope: Vec<(String, String)>,
}

/// Rules that are evaluated one after the other.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Group {
    name: String,
    /// How often. `None`: as often as Prometheus evaluates rules that do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<&'static str>,
    rules: Vec<Rule>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Rule {
    Record {
        record: String,
        expr: String,
        labels: Labels,
    },
    Alert {
        alert: &'static str,
        expr: String,
        #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<&'static str>,
        labels: Labels,
        annotations: Labels,
    },
}

/// Sorted, so that the same mesh always makes the same file.
type Labels = BTreeMap<&'static str, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// Somebody is woken.
    Page,
    /// Somebody looks the next day.
    Ticket,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Severity::Page => "page",
            Severity::Ticket => "ticket",
        }
    }
}

impl Settings {
    fn scope(&self) -> Scope<'_> {
        Scope(&self.scope)
    }

    fn runbook_url(&self, alert: &str) -> String {
        format!("{}#{}", self.runbook, alert.to_lowercase())
    }

    /// `expert` may be one, or what Prometheus is to put in its place.
    fn expert_dashboard(&self, expert: &str) -> String {
        format!("{}/d/consilium-expert?var-expert={expert}", self.dashboards)
    }

    fn mesh_dashboard(&self) -> String {
        format!("{}/d/consilium-mesh", self.dashboards)
    }

    /// More than this many, for a number that Prometheus has extrapolated: five of them may come out as 4.99.
    fn more_than(&self) -> f64 {
        f64::from(self.least_bad) - 0.5
    }
}

/// All rules of a mesh: the experts in their order, then the mesh.
fn groups(promises: &Promises, settings: &Settings) -> Vec<Group> {
    let experts = promises.experts.iter().flat_map(|promise| burn::groups(&promises.mesh, promise, settings));
    experts.chain([mesh::group(&promises.mesh, settings)]).collect()
}

fn labels<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    labels.into_iter().map(|(label, value)| (label, value.to_owned())).collect()
}
