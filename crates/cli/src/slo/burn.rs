//! The rules of one expert's objective: how much of its error budget is used, and how fast. Records have the names and
//! labels of [Sloth](https://sloth.dev), which dashboards know. Windows and factors of the alerts are those of Google's
//! SRE workbook, chapter 5: a budget of 30 days, two windows each, so that an alert comes early and goes soon.

use super::{
    Group, Labels, Promise, Rule, Settings, Severity, labels,
    promql::{ALL, GOOD, is, number, recorded},
};
use crate::render;

/// Days that a budget is for.
pub(super) const PERIOD_DAYS: u32 = 30;
pub(super) const ALERT: &str = "ConsiliumSloBurn";
/// The version of Sloth's own specification that these rules, and `document::sloth`, are of.
pub(super) const SPEC: &str = "prometheus/v1";

/// Every window that an alert or a dashboard reads; the last one is the period.
const WINDOWS: [&str; 8] = ["5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d"];

/// How often the windows of days are looked at. A rate over 30 days reads 172,800 samples of each router at four scrapes a
/// minute, and hardly moves within two minutes. Not rarer: Prometheus takes nothing older than five minutes for current, and
/// one evaluation that is missed should leave no gap.
const SLOWLY: &str = "2m";

/// The budget goes `factor` times as fast as it may, during the long window and still during the short one.
#[derive(Clone, Copy, Debug)]
struct Burn {
    factor: f64,
    short: &'static str,
    long: &'static str,
}

/// 2 % of the budget within an hour, or 5 % within six.
const PAGE: [Burn; 2] =
    [Burn { factor: 14.4, short: "5m", long: "1h" }, Burn { factor: 6.0, short: "30m", long: "6h" }];

/// A tenth of the budget within a day, or within three.
const TICKET: [Burn; 2] =
    [Burn { factor: 3.0, short: "2h", long: "1d" }, Burn { factor: 1.0, short: "6h", long: "3d" }];

/// The four groups of an expert.
pub(super) fn groups(mesh: &str, promise: &Promise, settings: &Settings) -> Vec<Group> {
    let slo = Slo { id: Identity::new(mesh, &promise.expert), mesh, promise, settings };
    let group = |kind: &str, interval: Option<&'static str>, rules: Vec<Rule>| Group {
        name: format!("sloth-slo-{kind}-{}", slo.id.id),
        interval,
        rules,
    };
    let alerts = [Severity::Page, Severity::Ticket].into_iter().filter_map(|it| slo.alert(it)).collect();
    let groups = [
        group("sli-recordings", None, slo.indicators(|window| !is_of_days(window))),
        group("sli-recordings-of-days", Some(SLOWLY), slo.indicators(is_of_days)),
        group("meta-recordings", None, slo.facts()),
        group("alerts", None, alerts),
    ];
    groups.into_iter().filter(|group| !group.rules.is_empty()).collect()
}

/// What Sloth calls an objective.
#[derive(Debug)]
pub(super) struct Identity {
    /// `<service>-<slo>`
    id: String,
    pub(super) service: String,
    pub(super) slo: String,
}

impl Identity {
    pub(super) fn new(mesh: &str, expert: &str) -> Self {
        let (service, slo) = (format!("consilium-{mesh}"), format!("{expert}-latency"));
        Self { id: format!("{service}-{slo}"), service, slo }
    }

    fn labels(&self) -> [(&'static str, &str); 3] {
        [("sloth_id", &self.id), ("sloth_service", &self.service), ("sloth_slo", &self.slo)]
    }
}

/// The legs of an expert per second during a window, over all routers: the bad ones, and all that count. Each router
/// counts for itself and starts again at zero, so the rates are taken before the sum.
///
/// Without traffic there is no second number. A share of nothing would be NaN, and one NaN is enough to make NaN of every
/// sum that it is in.
pub(super) fn events(expert: &str, settings: &Settings, window: &str) -> (String, String) {
    let rate = |metric: &str| {
        let series = settings.scope().select(metric, &[is("expert", expert)]);
        format!("sum(rate({series}[{window}]))")
    };
    (format!("{} - {}", rate(ALL), rate(GOOD)), format!("{} > 0", rate(ALL)))
}

/// The same for every severity.
pub(super) fn annotations(promise: &Promise, settings: &Settings) -> Labels {
    let Promise { expert, objective, .. } = promise;
    let promised = promised(promise);
    let budget = number((1.0 - objective) * 100.0);
    labels([
        ("summary", &format!("{expert} uses up its error budget too fast")),
        (
            "description",
            &format!(
                "{{{{ $value | humanizePercentage }}}} of the legs of {expert} were bad of late. It promises {promised}: \
                 {budget}% may be bad over {PERIOD_DAYS} days."
            ),
        ),
        ("runbook_url", &settings.runbook_url(ALERT)),
        ("dashboard_url", &settings.expert_dashboard(expert)),
    ])
}

/// `99% within 150 ms`
pub(super) fn promised(promise: &Promise) -> String {
    let latency_ms = Some(promise.latency.as_secs_f64() * 1_000.0);
    let slo = crate::view::Slo { latency_ms, objective: promise.objective, first_token_ms: None };
    render::objective(&slo).unwrap_or_default()
}

struct Slo<'a> {
    id: Identity,
    mesh: &'a str,
    promise: &'a Promise,
    settings: &'a Settings,
}

impl Slo<'_> {
    /// The share of bad legs in each of these windows, and how many there were in those that alerts look back on.
    fn indicators(&self, wanted: fn(&str) -> bool) -> Vec<Rule> {
        let shares = WINDOWS.into_iter().filter(|window| wanted(window)).map(|window| {
            let (bad, all) = events(&self.promise.expert, self.settings, window);
            self.record(&share(window), format!("({bad})\n/\n({all})"), &[("sloth_window", window)])
        });
        let numbers = PAGE.iter().chain(&TICKET).filter(|burn| wanted(burn.long)).map(|burn| {
            let increase = |metric: &str| {
                let series = self.settings.scope().select(metric, &[is("expert", &self.promise.expert)]);
                format!("sum(increase({series}[{}]))", burn.long)
            };
            let bad = format!("{} - {}", increase(ALL), increase(GOOD));
            self.record(&number_of_bad(burn.long), bad, &[("sloth_window", burn.long)])
        });
        shares.chain(numbers).collect()
    }

    /// What is promised, and how far along the budget is.
    fn facts(&self) -> Vec<Rule> {
        let objective = number(self.promise.objective);
        let of_budget = |window: &str| {
            let (share, budget) = (self.recorded(&share(window)), self.recorded("slo:error_budget:ratio"));
            format!("{share}\n/ on(sloth_id, sloth_slo, sloth_service) group_left\n{budget}")
        };
        let period = WINDOWS[WINDOWS.len() - 1];
        let remaining = format!("1 - {}", self.recorded("slo:period_burn_rate:ratio"));
        let percent = number(self.promise.objective * 100.0);
        let sloth = [("sloth_mode", "consilium"), ("sloth_objective", percent.as_str()), ("sloth_spec", SPEC)];
        vec![
            self.record("slo:objective:ratio", format!("vector({objective})"), &[]),
            self.record("slo:error_budget:ratio", format!("vector(1-{objective})"), &[]),
            self.record("slo:time_period:days", format!("vector({PERIOD_DAYS})"), &[]),
            self.record("slo:current_burn_rate:ratio", of_budget(WINDOWS[0]), &[]),
            self.record("slo:period_burn_rate:ratio", of_budget(period), &[]),
            self.record("slo:period_error_budget_remaining:ratio", remaining, &[]),
            self.record("sloth_slo_info", "vector(1)".to_owned(), &sloth),
        ]
    }

    /// `None` where the promise is so low that even an expert that is down keeps within it for longer than this severity
    /// looks back.
    fn alert(&self, severity: Severity) -> Option<Rule> {
        let burns = match severity {
            Severity::Page => PAGE,
            Severity::Ticket => TICKET,
        };
        let budget = 1.0 - self.promise.objective;
        let burns: Vec<String> =
            burns.iter().filter(|burn| burn.factor * budget < 1.0).map(|burn| self.burning(*burn, budget)).collect();
        // The window of what fires first would otherwise be a label of the alert: another one, when the other fires.
        let expr = match burns.as_slice() {
            [] => return None,
            [one] => format!("max without (sloth_window) (\n{one}\n)"),
            more => format!("max without (sloth_window) (\n{}\n)", more.join("\n  or ignoring (sloth_window)\n")),
        };
        let (expert, mesh) = (self.promise.expert.as_str(), self.mesh);
        Some(Rule::Alert {
            alert: ALERT,
            expr,
            // The windows are long enough, and whoever is woken wants to know at once.
            lasting: None,
            labels: labels([
                ("expert", expert),
                ("mesh", mesh),
                ("severity", severity.as_str()),
                ("sloth_severity", severity.as_str()),
            ]),
            annotations: annotations(self.promise, self.settings),
        })
    }

    fn burning(&self, burn: Burn, budget: f64) -> String {
        let threshold = format!("({} * {})", number(burn.factor), number(budget));
        let above = |window: &str| format!("    {} > {threshold}", self.recorded(&share(window)));
        let enough =
            format!("    {} > {}", self.recorded(&number_of_bad(burn.long)), number(self.settings.more_than()));
        let all = [above(burn.short), above(burn.long), enough].join("\n    and ignoring (sloth_window)\n");
        format!("  (\n{all}\n  )")
    }

    fn record(&self, name: &str, expr: String, more: &[(&'static str, &str)]) -> Rule {
        let labels = self.id.labels().into_iter().chain([("expert", self.promise.expert.as_str())]);
        let labels = labels.chain(more.iter().copied()).map(|(label, value)| (label, value.to_owned())).collect();
        Rule::Record { record: name.to_owned(), expr, labels }
    }

    fn recorded(&self, name: &str) -> String {
        recorded(name, &self.id.labels())
    }
}

fn is_of_days(window: &str) -> bool {
    window.ends_with('d')
}

fn share(window: &str) -> String {
    format!("slo:sli_error:ratio_rate{window}")
}

/// Not in Sloth's rules, hence not in its names.
fn number_of_bad(window: &str) -> String {
    format!("consilium_slo:bad_legs:increase{window}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(objective: f64) -> Vec<Group> {
        let promise = Promise { expert: "labs".to_owned(), objective, latency: Duration::from_millis(150) };
        let settings = Settings {
            runbook: "docs/slo.md".to_owned(),
            dashboards: "https://grafana.example".to_owned(),
            least_bad: 5,
            scope: vec![("namespace".to_owned(), "clinic".to_owned())],
        };
        groups("clinic", &promise, &settings)
    }

    fn expression(groups: &[Group], name: &str) -> String {
        let rules = groups.iter().flat_map(|group| &group.rules);
        let found = rules.filter_map(|rule| match rule {
            Rule::Record { record, expr, .. } => (record == name).then_some(expr),
            Rule::Alert { expr, labels, .. } => (labels["severity"] == name).then_some(expr),
        });
        let found: Vec<_> = found.collect();
        assert_eq!(found.len(), 1, "{name} in {groups:#?}");
        found[0].clone()
    }

    #[test]
    fn an_expert_has_the_four_groups_and_the_records_that_dashboards_know() {
        let groups = of(0.99);
        let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(
            names,
            ["sli-recordings", "sli-recordings-of-days", "meta-recordings", "alerts"]
                .map(|it| format!("sloth-slo-{it}-consilium-clinic-labs-latency"))
        );
        for group in &groups[..3] {
            for rule in &group.rules {
                let Rule::Record { labels, .. } = rule else { panic!("{rule:?}") };
                assert_eq!(labels["sloth_id"], format!("{}-{}", labels["sloth_service"], labels["sloth_slo"]));
                assert_eq!(labels["expert"], "labs");
            }
        }
        assert_eq!(expression(&groups, "slo:time_period:days"), "vector(30)");
        assert_eq!(expression(&groups, "slo:error_budget:ratio"), "vector(1-0.99)");
    }

    #[test]
    fn what_looks_back_for_days_is_evaluated_less_often() {
        let rarely: Vec<(String, bool)> = of(0.99)
            .iter()
            .flat_map(|group| group.rules.iter().map(|rule| (rule, group.interval == Some(SLOWLY))))
            .filter_map(|(rule, rarely)| match rule {
                Rule::Record { labels, .. } => labels.get("sloth_window").map(|window| (window.clone(), rarely)),
                Rule::Alert { .. } => None,
            })
            .collect();
        assert_eq!(rarely.len(), WINDOWS.len() + PAGE.len() + TICKET.len());
        for (window, rarely) in rarely {
            assert_eq!(rarely, ["1d", "3d", "30d"].contains(&window.as_str()), "{window}");
        }
    }

    #[test]
    fn a_share_is_of_the_legs_that_there_were_on_all_routers() {
        let expected = r#"
(sum(rate(consilium_slo_total{expert="labs", namespace="clinic"}[5m])) - sum(rate(consilium_slo_good_total{expert="labs", namespace="clinic"}[5m])))
/
(sum(rate(consilium_slo_total{expert="labs", namespace="clinic"}[5m])) > 0)"#;
        assert_eq!(expression(&of(0.99), "slo:sli_error:ratio_rate5m"), expected.trim_start());
    }

    #[test]
    fn thresholds_follow_from_the_objective_and_the_windows() {
        let groups = of(0.999);
        for (severity, expected) in
            [("page", ["(14.4 * 0.001)", "(6 * 0.001)"]), ("ticket", ["(3 * 0.001)", "(1 * 0.001)"])]
        {
            let alert = expression(&groups, severity);
            // Over the long window and over the short one.
            assert!(expected.iter().all(|threshold| alert.matches(threshold).count() == 2), "{alert}");
            assert_eq!(alert.matches(" > 4.5").count(), 2, "{alert}");
        }
        let hours = |window: &str| match window.split_at(window.len() - 1) {
            (number, "h") => number.parse::<f64>().unwrap(),
            (number, "d") => number.parse::<f64>().unwrap() * 24.0,
            _ => panic!("{window}"),
        };
        // The share of the budget that is gone when the long window alone would have raised the alert.
        let gone = PAGE.iter().chain(&TICKET).map(|burn| number(burn.factor * hours(burn.long) / (24.0 * 30.0)));
        assert_eq!(gone.collect::<Vec<_>>(), ["0.02", "0.05", "0.1", "0.1"]);
        assert!(PAGE.iter().chain(&TICKET).all(|burn| WINDOWS.contains(&burn.short) && WINDOWS.contains(&burn.long)));
    }

    #[test]
    fn what_cannot_come_true_is_not_asked_for() {
        // A tenth may be bad: not even everything is 14.4 times that.
        let page = expression(&of(0.9), "page");
        assert!(!page.contains("14.4") && page.contains("(6 * 0.1)") && !page.contains("or ignoring"), "{page}");
        let severities = |objective: f64| {
            let alerts = of(objective).pop().unwrap();
            alerts
                .rules
                .iter()
                .filter_map(|rule| match rule {
                    Rule::Alert { labels, .. } => Some(labels["severity"].clone()),
                    Rule::Record { .. } => None,
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(severities(0.8), ["ticket"]);
        assert!(severities(0.0).is_empty());
        assert_eq!(of(0.0).len(), 3);
    }
}
