//! Every query of the dashboards and every rule, against a mesh that has seen everything: each has an answer, and each asks
//! for what some page shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use consilium_tests::processes::{Prometheus, Watched, observability_tool, until};
use serde::Deserialize;

use crate::{
    ROOT, pages,
    scene::{Scene, say},
};

/// A query of a dashboard, in one form for each expert that it can be about.
#[derive(Debug, Deserialize)]
struct Asked {
    dashboard: String,
    panel: String,
    #[serde(rename = "ref")]
    reference: String,
    forms: Vec<String>,
}

/// Series that no page shows: those that Prometheus makes of its targets.
const OF_PROMETHEUS: [&str; 2] = ["up", "ALERTS"];

pub(crate) async fn all(scene: &Scene) {
    let (watched, _) = scene.loaded().await;
    let mut wrong = Vec::new();
    let known = known(watched).await;
    let mut looked = Looked::new(&watched.prometheus);
    say("| dashboard or rules | panel or rule | series |\n| --- | --- | ---: |");
    for asked in dashboards(watched) {
        let mut most = (0, asked.forms[0].as_str());
        for form in &asked.forms {
            match watched.prometheus.instant(form).await {
                Ok(samples) => most = most.max((samples.len(), form)),
                Err(error) => wrong.push(format!("{}: {}: {error}: {form}", asked.dashboard, asked.panel)),
            }
        }
        let name = format!("{} {}", asked.panel, asked.reference);
        say(&format!("| {} | {name} | {} |", asked.dashboard, most.0));
        if most.0 == 0 {
            wrong.push(format!("{}: {name}: no data: {}", asked.dashboard, most.1));
        }
        wrong.extend(unknown(&watched.prometheus, &known, most.1).await);
        let silent = looked.silent(&asked.forms).await;
        wrong.extend(silent.iter().map(|selector| format!("{}: {name}: no series of {selector}", asked.dashboard)));
    }
    say(&format!("{} selectors in them, each for every expert", looked.series.len()));
    rules(watched, &known, &mut wrong).await;
    configuration();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What selectors have found, each looked for once.
struct Looked<'a> {
    prometheus: &'a Prometheus,
    series: BTreeMap<String, usize>,
}

impl<'a> Looked<'a> {
    fn new(prometheus: &'a Prometheus) -> Self {
        Self { prometheus, series: BTreeMap::new() }
    }

    /// The selectors of an expression that find nothing for any expert: an expression with `or vector(0)` has an answer
    /// whatever its labels are.
    async fn silent(&mut self, forms: &[String]) -> Vec<String> {
        let mut silent = Vec::new();
        let mut asked = Vec::new();
        for form in forms {
            asked.push(selectors(self.prometheus, form).await);
        }
        for at in 0..asked[0].len() {
            let mut found = 0;
            for selectors in &asked {
                found += self.series(&selectors[at]).await;
            }
            let selector = &asked[0][at];
            if found == 0 {
                silent.push(selector.clone());
            }
        }
        silent
    }

    async fn series(&mut self, selector: &str) -> usize {
        if let Some(known) = self.series.get(selector) {
            return *known;
        }
        let found = self.prometheus.instant(selector).await.map_or(0, |samples| samples.len());
        self.series.insert(selector.to_owned(), found);
        found
    }
}

async fn rules(watched: &Watched, known: &BTreeSet<String>, wrong: &mut Vec<String>) {
    // Groups are evaluated at times of their own.
    let evaluated = async || {
        let rules = watched.prometheus.rules().await;
        rules.iter().all(|rule| rule.health != "unknown").then_some(rules)
    };
    let (rules, _) = until("every rule was evaluated", evaluated).await;
    assert!(!rules.is_empty(), "there are rules");
    let mut counts: BTreeMap<(String, String, bool), usize> = BTreeMap::new();
    for rule in &rules {
        if rule.health != "ok" {
            wrong.push(format!("{}: {}: {}: {}", rule.group, rule.name, rule.health, rule.error));
        }
        // Nothing burns here: of an alert, what it compares must be there.
        let parts =
            if rule.is_alert { selectors(&watched.prometheus, &rule.query).await } else { vec![rule.query.clone()] };
        let mut series = 0;
        for part in &parts {
            let found = watched.prometheus.instant(part).await.map_or(0, |samples| samples.len());
            series += found;
            if found == 0 {
                wrong.push(format!("{}: {}: no data: {part}", rule.group, rule.name));
            }
        }
        *counts.entry((rule.group.clone(), rule.name.clone(), rule.is_alert)).or_default() += series;
        wrong.extend(unknown(&watched.prometheus, known, &rule.query).await);
    }
    for ((group, name, is_alert), series) in counts {
        let what = if is_alert { "alert, of what it compares" } else { "recorded" };
        say(&format!("| {group} | {name} ({what}) | {series} |"));
    }
}

/// Names that a query may ask for: what pages show, and what rules record.
async fn known(watched: &Watched) -> BTreeSet<String> {
    let mut known: BTreeSet<_> = OF_PROMETHEUS.map(str::to_owned).into();
    for (_, page) in watched.pages().await {
        for (name, _) in pages::read(&page) {
            known.extend(["_bucket", "_sum", "_count", ""].map(|end| format!("{name}{end}")));
        }
    }
    known.extend(watched.prometheus.rules().await.into_iter().map(|rule| rule.name));
    known
}

async fn unknown(prometheus: &Prometheus, known: &BTreeSet<String>, expression: &str) -> Vec<String> {
    let names = selectors(prometheus, expression).await.into_iter();
    let names = names.map(|selector| selector.split('{').next().unwrap_or_default().to_owned());
    names
        .filter(|name| !known.contains(name))
        .map(|name| format!("no page shows {name}, asked for in {expression}"))
        .collect()
}

/// The selectors in an expression, as Prometheus itself reads it.
async fn selectors(prometheus: &Prometheus, expression: &str) -> Vec<String> {
    prometheus.selectors(expression).await.unwrap_or_else(|error| panic!("{expression}: {error}"))
}

fn dashboards(watched: &Watched) -> Vec<Asked> {
    let root = Path::new(ROOT);
    let mut command = Command::new(root.join(".tools/telemetry/bin/python"));
    command.arg(root.join("tests/telemetry/expressions.py"));
    let instances = watched.practice.experts.iter().chain([&watched.tensors]);
    let experts: BTreeSet<_> = instances.map(|expert| expert.expert.as_str()).collect();
    // The scripted ones have what no real one can be made to have.
    let output = command.args(experts).args(["stumbler", "breaker"]).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let asked: Vec<Asked> = serde_json::from_slice(&output.stdout).expect("it is a list");
    assert!(!asked.is_empty(), "there are dashboards");
    asked
}

/// The shipped configuration of Prometheus and the rules that it names, as its own tool sees them.
fn configuration() {
    let path = Path::new(ROOT).join("deploy/prometheus/prometheus.yaml");
    let mut command = Command::new(observability_tool("promtool"));
    let output = command.args(["check", "config"]).arg(&path).output().expect("it starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool check config: {out}{err}");
}
