//! The files that rules are put into: what Prometheus loads, what its operator does, and what Sloth makes rules from.

use serde::Serialize;

use super::{Group, Labels, Promise, Promises, Settings, Severity, burn, groups, labels, promql::rounded};

/// A file for `rule_files` of Prometheus.
///
/// # Errors
/// Never with these types: text and maps of text can always be written as YAML.
pub(crate) fn prometheus(promises: &Promises, settings: &Settings) -> Result<String, serde_yaml_ng::Error> {
    serde_yaml_ng::to_string(&Groups { groups: groups(promises, settings) })
}

/// The same rules as an object for the Prometheus operator.
///
/// # Errors
/// As for [`prometheus`].
pub(crate) fn operator(promises: &Promises, settings: &Settings) -> Result<String, serde_yaml_ng::Error> {
    serde_yaml_ng::to_string(&Object {
        api_version: "monitoring.coreos.com/v1",
        kind: "PrometheusRule",
        metadata: Metadata {
            name: burn::Identity::new(&promises.mesh, "").service,
            labels: labels([("app.kubernetes.io/name", "consilium"), ("app.kubernetes.io/part-of", &promises.mesh)]),
        },
        spec: Groups { groups: groups(promises, settings) },
    })
}

/// The objectives in Sloth's own words. Alerts that are not about an objective have no place there.
///
/// # Errors
/// As for [`prometheus`].
pub(crate) fn sloth(promises: &Promises, settings: &Settings) -> Result<String, serde_yaml_ng::Error> {
    let plugin = |id: &'static str, exact: bool| Plugin { id, config: exact.then_some(Exact { exact: true }) };
    let chain = vec![
        plugin("sloth.dev/core/validate/v1", false),
        // Otherwise the period's share is the average of its moments, in which a busy day weighs as much as a quiet night.
        plugin("sloth.dev/core/sli_rules/v1", true),
        plugin("sloth.dev/core/metadata_rules/v1", false),
        plugin("sloth.dev/core/alert_rules/v1", false),
    ];
    serde_yaml_ng::to_string(&Spec {
        version: burn::SPEC,
        service: burn::Identity::new(&promises.mesh, "").service,
        slo_plugins: Plugins { override_previous: true, chain },
        slos: promises.experts.iter().map(|promise| entry(&promises.mesh, promise, settings)).collect(),
    })
}

fn entry(mesh: &str, promise: &Promise, settings: &Settings) -> Entry {
    let (error_query, total_query) = burn::events(&promise.expert, settings, "{{.window}}");
    let severity = |severity: Severity| Routed { labels: labels([("severity", severity.as_str())]) };
    Entry {
        name: burn::Identity::new(mesh, &promise.expert).slo,
        objective: rounded(promise.objective * 100.0),
        description: format!("{} of the legs of {}", burn::promised(promise), promise.expert),
        labels: labels([("expert", &promise.expert)]),
        sli: Indicator { events: Events { error_query, total_query } },
        alerting: Alerting {
            name: burn::ALERT,
            labels: labels([("expert", promise.expert.as_str()), ("mesh", mesh)]),
            annotations: burn::annotations(promise, settings),
            page_alert: severity(Severity::Page),
            ticket_alert: severity(Severity::Ticket),
        },
    }
}

#[derive(Serialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: Groups,
}

#[derive(Serialize)]
struct Metadata {
    name: String,
    labels: Labels,
}

#[derive(Serialize)]
struct Spec {
    version: &'static str,
    service: String,
    slo_plugins: Plugins,
    slos: Vec<Entry>,
}

#[derive(Serialize)]
struct Plugins {
    #[serde(rename = "overridePrevious")]
    override_previous: bool,
    chain: Vec<Plugin>,
}

#[derive(Serialize)]
struct Plugin {
    id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Exact>,
}

#[derive(Serialize)]
struct Exact {
    #[serde(rename = "disableOptimized")]
    exact: bool,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    /// In percent.
    objective: f64,
    description: String,
    labels: Labels,
    sli: Indicator,
    alerting: Alerting,
}

#[derive(Serialize)]
struct Indicator {
    events: Events,
}

#[derive(Serialize)]
struct Events {
    error_query: String,
    total_query: String,
}

#[derive(Serialize)]
struct Alerting {
    name: &'static str,
    labels: Labels,
    annotations: Labels,
    page_alert: Routed,
    ticket_alert: Routed,
}

#[derive(Serialize)]
struct Routed {
    labels: Labels,
}
