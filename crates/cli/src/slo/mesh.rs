//! Alerts on what no objective shows: an objective is about legs, and where a mesh has nobody to ask, there are none. They
//! are about states that last, hence each has to hold for a while. What is a cause only makes a ticket; what callers feel
//! makes a page.

use super::{
    Group, Labels, Rule, Settings, Severity, labels,
    promql::{
        CALLS, DECISIONS, GATE_EXPERTS, GATE_FITS, INSTANCES, OBJECTIVE, PANICS, REGISTRY_AGE, REGISTRY_EXPIRED,
        REGISTRY_UP, RULE_ERRORS, SHED, SPANS, is, number,
    },
};

/// A share for which somebody looks.
const FEW: f64 = 0.01;

pub(super) fn group(mesh: &str, settings: &Settings) -> Group {
    let alerts = Alerts { mesh, settings };
    let rules = vec![
        alerts.routers_gone(),
        alerts.nobody_decides(),
        alerts.expert_gone(),
        alerts.instance_out(),
        alerts.registry_lost(),
        alerts.instance_expired(),
        alerts.fits_failed(),
        alerts.rule_errors(),
        alerts.calls_shed(),
        alerts.panics(),
        alerts.spans_lost(),
        alerts.rules_outdated(),
    ];
    Group { name: "consilium-mesh".to_owned(), interval: None, rules }
}

struct Alerts<'a> {
    mesh: &'a str,
    settings: &'a Settings,
}

/// One alert before its labels and links.
struct Alert<'a> {
    name: &'static str,
    severity: Severity,
    lasting: &'static str,
    expr: String,
    summary: &'a str,
    description: &'a str,
}

impl Alerts<'_> {
    /// Every other alert is silent then: all of them read what routers say.
    fn routers_gone(&self) -> Rule {
        self.rule(Alert {
            name: "ConsiliumRoutersGone",
            severity: Severity::Page,
            lasting: "5m",
            expr: format!("absent({})", self.select(GATE_EXPERTS, &[])),
            summary: "no router is seen",
            description: "Prometheus gets metrics of no router of this mesh: none runs, or none is scraped. Until then \
                          every other alert of the mesh is silent.",
        })
    }

    fn nobody_decides(&self) -> Rule {
        let unavailable = self.select(DECISIONS, &[is("outcome", "UNAVAILABLE")]);
        let share = share(&rate(&unavailable, "5m"), &rate(&self.select(DECISIONS, &[]), "5m"), 0.05);
        // One query of ten in a quiet night is a share too.
        let enough = format!("sum(increase({unavailable}[5m])) > {}", number(self.settings.more_than()));
        self.rule(Alert {
            name: "ConsiliumDecisionsUnavailable",
            severity: Severity::Page,
            lasting: "2m",
            expr: format!("{share}\nand\n{enough}"),
            summary: "queries find nobody to answer them",
            description: "{{ $value | humanizePercentage }} of the queries were turned away because the gate could not \
                          decide or nobody chosen was live.",
        })
    }

    fn expert_gone(&self) -> Rule {
        let serving = self.select(INSTANCES, &[is("state", "serving")]);
        self.rule(Alert {
            name: "ConsiliumExpertGone",
            severity: Severity::Page,
            lasting: "3m",
            // Known to a router and live for none. One that is retired is not known any more.
            expr: format!("max by (expert) ({serving}) == 0"),
            summary: "{{ $labels.expert }} has no live instance",
            description: "No router reaches an instance of {{ $labels.expert }} that serves. Its queries go to the \
                          fallback or are turned away, so its objective shows nothing.",
        })
    }

    fn instance_out(&self) -> Rule {
        let out = self.select(INSTANCES, &[r#"state=~"not_serving|unreachable""#.to_owned()]);
        self.rule(Alert {
            name: "ConsiliumInstanceOut",
            severity: Severity::Ticket,
            lasting: "15m",
            expr: format!("max by (expert, state) ({out}) > 0"),
            summary: "an instance of {{ $labels.expert }} is out",
            description: "{{ $value }} registered instances of {{ $labels.expert }} are {{ $labels.state }} and get no \
                          queries.",
        })
    }

    fn registry_lost(&self) -> Rule {
        let (up, age) = (self.select(REGISTRY_UP, &[]), self.select(REGISTRY_AGE, &[]));
        self.rule(Alert {
            name: "ConsiliumRegistryLost",
            severity: Severity::Ticket,
            lasting: "10m",
            // Asked every 5 s by whoever follows it, who says after 15 s that it is gone. The age is there for a follower
            // that hangs and says nothing.
            expr: format!("min by (instance) ({up}) == 0\nor\nmax by (instance) ({age}) > 300"),
            summary: "{{ $labels.instance }} does not hear from etcd",
            description: "It goes on with what it knew last. Instances that come and go are not noticed.",
        })
    }

    fn instance_expired(&self) -> Rule {
        self.rule(Alert {
            name: "ConsiliumInstanceExpired",
            severity: Severity::Ticket,
            lasting: "5m",
            expr: format!("max by (instance) ({}) > 0", self.select(REGISTRY_EXPIRED, &[])),
            summary: "instances answer and are not registered any more",
            description: "The router at {{ $labels.instance }} still calls {{ $value }} instances whose registration has run \
                          out: they do not reach etcd. A router that starts now does not find them.",
        })
    }

    fn fits_failed(&self) -> Rule {
        let failed = self.select(GATE_FITS, &[is("result", "failed")]);
        self.rule(Alert {
            name: "ConsiliumGateNotFitted",
            severity: Severity::Ticket,
            lasting: "1m",
            expr: happened(&failed, "instance", "30m"),
            summary: "the gate of {{ $labels.instance }} could not be fitted to its experts",
            description: "It goes on with the fit that it had. An expert that is new or changed is not chosen as it \
                          should be.",
        })
    }

    fn rule_errors(&self) -> Rule {
        let of = |metric: &str| rate(&self.select(metric, &[]), "15m");
        self.rule(Alert {
            name: "ConsiliumRuleErrors",
            severity: Severity::Ticket,
            lasting: "15m",
            expr: share(&of(RULE_ERRORS), &of(DECISIONS), FEW),
            summary: "rules of the gate fail",
            description: "{{ $value | humanize }} rules per query could not be evaluated. A rule that fails does not \
                          match; if it forbids, it forbids.",
        })
    }

    fn calls_shed(&self) -> Rule {
        // Others count their calls under OpenTelemetry's name too, without this label.
        let ours = || r#"server=~"router|expert""#.to_owned();
        // What takes nobody's place and is never shed: probes and the streams that last.
        let calls = r#"rpc_method!~"grpc[.](health|reflection)[.].+|.+/WatchExperts""#.to_owned();
        let of = |metric, matchers: &[String]| {
            format!("sum by (server, instance) (rate({}[5m]))", self.select(metric, matchers))
        };
        self.rule(Alert {
            name: "ConsiliumCallsShed",
            severity: Severity::Ticket,
            lasting: "10m",
            expr: share(&of(SHED, &[ours()]), &of(CALLS, &[ours(), calls]), FEW),
            summary: "{{ $labels.instance }} refuses calls",
            description: "The {{ $labels.server }} at {{ $labels.instance }} refuses {{ $value | humanizePercentage }} \
                          of its calls because it works on as many as it may.",
        })
    }

    fn panics(&self) -> Rule {
        self.rule(Alert {
            name: "ConsiliumPanic",
            severity: Severity::Ticket,
            lasting: "1m",
            expr: happened(&self.select(PANICS, &[]), "server, instance", "15m"),
            summary: "a call panicked",
            description: "A call to the {{ $labels.server }} at {{ $labels.instance }} ended in a panic. The process \
                          goes on; this is a defect.",
        })
    }

    fn spans_lost(&self) -> Rule {
        let lost = self.select(SPANS, &[r#"result=~"failed|dropped""#.to_owned()]);
        self.rule(Alert {
            name: "ConsiliumSpansLost",
            severity: Severity::Ticket,
            lasting: "15m",
            expr: share(&rate(&lost, "15m"), &rate(&self.select(SPANS, &[]), "15m"), FEW),
            summary: "traces have gaps",
            description: "{{ $value | humanizePercentage }} of the spans did not reach the collector. Queries are not \
                          affected.",
        })
    }

    /// Cards say what is promised now, these rules what was promised when they were made.
    fn rules_outdated(&self) -> Rule {
        let announced = format!("max by (expert) ({})", self.select(OBJECTIVE, &[]));
        let service = super::burn::Identity::new(self.mesh, "").service;
        let ruled = super::promql::recorded("slo:objective:ratio", &[("sloth_service", &service)]);
        self.rule(Alert {
            name: "ConsiliumSloRulesOutdated",
            severity: Severity::Ticket,
            lasting: "1h",
            // A number that went through JSON and back may have another last digit.
            expr: format!(
                "{announced}\nunless on (expert)\n(abs({announced} - on (expert) max by (expert) ({ruled})) < 0.000001)"
            ),
            summary: "the rules do not know what {{ $labels.expert }} promises",
            description: "{{ $labels.expert }} promises that {{ $value | humanizePercentage }} of its legs are good. \
                          The rules in use have another objective for it, or none.",
        })
    }

    fn select(&self, metric: &str, matchers: &[String]) -> String {
        self.settings.scope().select(metric, matchers)
    }

    fn rule(&self, alert: Alert<'_>) -> Rule {
        let Alert { name, severity, lasting, expr, summary, description } = alert;
        // Prometheus fills in the expert where the alert has one.
        let dashboard = if summary.contains("$labels.expert") {
            self.settings.expert_dashboard("{{ $labels.expert }}")
        } else {
            self.settings.mesh_dashboard()
        };
        let annotations: Labels = labels([
            ("summary", summary),
            ("description", description),
            ("runbook_url", &self.settings.runbook_url(name)),
            ("dashboard_url", &dashboard),
        ]);
        let labels = labels([("mesh", self.mesh), ("severity", severity.as_str())]);
        Rule::Alert { alert: name, expr, lasting: Some(lasting), labels, annotations }
    }
}

fn rate(series: &str, window: &str) -> String {
    format!("sum(rate({series}[{window}]))")
}

/// More than that share; nothing where there is nothing to have a share of.
fn share(part: &str, whole: &str, above: f64) -> String {
    format!("({part})\n/\n({whole} > 0)\n> {}", number(above))
}

/// Counted at least once during the window. These counters begin at zero, so that `increase` sees their first event.
fn happened(series: &str, by: &str, window: &str) -> String {
    format!("sum by ({by}) (increase({series}[{window}])) > 0")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn alerts() -> Vec<(&'static str, String, Labels, Labels)> {
        let settings = Settings {
            runbook: "https://example.org/slo".to_owned(),
            dashboards: String::new(),
            least_bad: 5,
            scope: vec![("namespace".to_owned(), "clinic".to_owned())],
        };
        let rules = group("clinic", &settings).rules.into_iter();
        rules
            .map(|rule| match rule {
                Rule::Alert { alert, expr, lasting: Some(_), labels, annotations } => {
                    (alert, expr, labels, annotations)
                }
                other => panic!("{other:?} is no alert that waits"),
            })
            .collect()
    }

    #[test]
    fn every_alert_has_its_own_name_and_says_where_to_look() {
        let alerts = alerts();
        let names: BTreeSet<&str> = alerts.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names.len(), alerts.len());
        for (name, expr, labels, annotations) in &alerts {
            assert!(expr.contains(r#"namespace="clinic""#), "{name}: {expr}");
            assert!(["page", "ticket"].contains(&labels["severity"].as_str()));
            assert_eq!(annotations["runbook_url"], format!("https://example.org/slo#{}", name.to_lowercase()));
            let keys: Vec<_> = annotations.keys().copied().collect();
            assert_eq!(keys, ["dashboard_url", "description", "runbook_url", "summary"]);
        }
    }

    #[test]
    fn an_alert_about_an_expert_leads_to_that_expert() {
        let alerts = alerts();
        let dashboard = |name: &str| {
            let (.., annotations) = alerts.iter().find(|(alert, ..)| *alert == name).unwrap();
            annotations["dashboard_url"].clone()
        };
        assert_eq!(dashboard("ConsiliumExpertGone"), "/d/consilium-expert?var-expert={{ $labels.expert }}");
        assert_eq!(dashboard("ConsiliumPanic"), "/d/consilium-mesh");
    }
}
