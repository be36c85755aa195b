//! A real Prometheus that scrapes a mesh every second, remembers exemplars, and evaluates rules where it is given some.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{Process, free_port, http, observability_tool, until};

/// A port that is free now may be somebody else's a moment later.
const STARTS: usize = 5;

/// A running Prometheus. What it stored goes with it.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    process: Process,
    _dir: TempDir,
}

/// What it looks at.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// The `job` and the admin address of each process.
    pub targets: Vec<(String, SocketAddr)>,
    pub rules: Vec<PathBuf>,
}

/// One series, at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// One remembered measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Of the series that it belongs to.
    pub series: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A rule as it was evaluated last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub group: String,
    /// Of the recorded series, or of the alert.
    pub name: String,
    pub query: String,
    pub is_alert: bool,
    /// `ok`, `err` or `unknown`, which is not yet.
    pub health: String,
    pub error: String,
    /// Of an alert that is pending or firing: the labels of each, with `alertstate` among them.
    pub alerts: Vec<BTreeMap<String, String>>,
}

impl Prometheus {
    /// Starts it, and returns when it answers.
    pub async fn start(logs: &Path, watch: &Watch) -> Self {
        for _ in 0..STARTS {
            let dir = TempDir::new().expect("a temporary directory can be made");
            let config = dir.path().join("prometheus.yaml");
            fs::write(&config, watch.config().to_string()).expect("a temporary file can be written");
            let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
            let mut command = Command::new(observability_tool("prometheus"));
            command.arg(format!("--config.file={}", config.display()));
            command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
            command.arg(format!("--web.listen-address={address}"));
            command.args(["--enable-feature=exemplar-storage", "--log.level=warn"]);
            let process = Process::spawn("prometheus", command, logs);
            let mut prometheus = Self { address, process, _dir: dir };
            if prometheus.is_ready_or_ends().await {
                return prometheus;
            }
        }
        panic!("Prometheus did not start {STARTS} times; its log in {} says why", logs.display());
    }

    async fn is_ready_or_ends(&mut self) -> bool {
        let (address, process) = (self.address, &mut self.process);
        let look = async || match http::get(address, "/-/ready").await {
            Some((200, _)) => Some(true),
            _ => (!process.is_alive()).then_some(false),
        };
        until("Prometheus is ready", look).await.0
    }

    /// What an expression gives now.
    ///
    /// # Errors
    /// What Prometheus says is wrong with it.
    pub async fn instant(&self, expression: &str) -> Result<Vec<Sample>, String> {
        let data = self.api("query", &[("query", expression)]).await?;
        // A scalar or a string is one value without labels.
        let Some(result) = data["result"].as_array().filter(|_| data["resultType"] != "scalar") else {
            return Ok(vec![Sample { labels: BTreeMap::new(), value: number(&data["result"][1]) }]);
        };
        let sample = |it: &Value| Sample { labels: labels(&it["metric"]), value: number(&it["value"][1]) };
        Ok(result.iter().map(sample).collect())
    }

    /// What an expression gives over the last `seconds`, one point a second: labels, and the values.
    ///
    /// # Errors
    /// What Prometheus says is wrong with it.
    pub async fn range(
        &self,
        expression: &str,
        seconds: u64,
    ) -> Result<Vec<(BTreeMap<String, String>, Vec<f64>)>, String> {
        let now = self.instant("time()").await?[0].value;
        let (start, end) = ((now - seconds as f64).to_string(), now.to_string());
        let query = [("query", expression), ("start", &start), ("end", &end), ("step", "1")];
        let data = self.api("query_range", &query).await?;
        let values = |it: &Value| array(&it["values"]).iter().map(|point| number(&point[1])).collect();
        Ok(array(&data["result"]).iter().map(|it| (labels(&it["metric"]), values(it))).collect())
    }

    /// The exemplars of a selector that Prometheus remembers.
    pub async fn exemplars(&self, selector: &str) -> Vec<Exemplar> {
        let query = [("query", selector), ("start", "0"), ("end", "9999999999")];
        let data = self.api("query_exemplars", &query).await.unwrap_or_else(|error| panic!("{selector}: {error}"));
        let of_series = |it: &Value| {
            let series = labels(&it["seriesLabels"]);
            let exemplar = |one: &Value| Exemplar {
                series: series.clone(),
                labels: labels(&one["labels"]),
                value: number(&one["value"]),
            };
            array(&it["exemplars"]).iter().map(exemplar).collect::<Vec<_>>()
        };
        array(&data).iter().flat_map(of_series).collect()
    }

    /// The selectors in an expression, each with its name first: what it asks for, as Prometheus itself reads it.
    ///
    /// # Errors
    /// What Prometheus says is wrong with it.
    pub async fn selectors(&self, expression: &str) -> Result<Vec<String>, String> {
        let tree = self.api("parse_query", &[("query", expression)]).await?;
        let mut found = Vec::new();
        collect_selectors(&tree, &mut found);
        Ok(found)
    }

    /// All rules, as they were evaluated last.
    pub async fn rules(&self) -> Vec<Rule> {
        let data = self.api("rules", &[]).await.expect("Prometheus lists its rules");
        let of_group = |group: &Value| {
            let name = text(&group["name"]);
            array(&group["rules"]).iter().map(move |rule| Rule::read(&name, rule)).collect::<Vec<_>>()
        };
        array(&data["groups"]).iter().flat_map(of_group).collect()
    }

    /// Returns when every target was scraped.
    pub async fn scrapes(&self, targets: usize) {
        let all = async || {
            let up = self.instant("sum(up)").await.ok()?;
            (up.first()?.value as usize >= targets).then_some(())
        };
        until("every process is scraped", all).await;
    }

    /// Returns when everything that the pages show now was scraped: two scrapes of each from here.
    pub async fn caught_up(&self) {
        let time = async || self.instant("min(timestamp(up))").await.ok()?.first().map(|sample| sample.value);
        let (since, _) = until("Prometheus has a time", time).await;
        let later = async || (time().await? > since + 2.0).then_some(());
        until("two scrapes more", later).await;
    }

    async fn api(&self, what: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let (_, mut answer) = http::json(self.address, &http::path(&format!("/api/v1/{what}"), query)).await;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            _ => Err(text(&answer["error"])),
        }
    }
}

impl Watch {
    fn config(&self) -> Value {
        let mut jobs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (job, address) in &self.targets {
            jobs.entry(job).or_default().push(address.to_string());
        }
        let job =
            |(job, targets): (_, &Vec<String>)| json!({"job_name": job, "static_configs": [{"targets": targets}]});
        // JSON is YAML too.
        json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": self.rules,
            "scrape_configs": jobs.iter().map(job).collect::<Vec<_>>(),
        })
    }
}

impl Rule {
    fn read(group: &str, rule: &Value) -> Self {
        let alert = |alert: &Value| {
            let mut labels = labels(&alert["labels"]);
            labels.insert("alertstate".into(), text(&alert["state"]));
            labels
        };
        Self {
            group: group.to_owned(),
            name: text(&rule["name"]),
            query: text(&rule["query"]),
            is_alert: rule["type"] == "alerting",
            health: text(&rule["health"]),
            error: text(&rule["lastError"]),
            alerts: array(&rule["alerts"]).iter().map(alert).collect(),
        }
    }

    /// Whether it is an alert that fires with these labels.
    pub fn fires(&self, wanted: &[(&str, &str)]) -> bool {
        let has =
            |alert: &BTreeMap<String, String>, name: &str, value: &str| alert.get(name).is_some_and(|it| it == value);
        let fires = |alert: &BTreeMap<String, String>| {
            has(alert, "alertstate", "firing") && wanted.iter().all(|(name, value)| has(alert, name, value))
        };
        self.alerts.iter().any(fires)
    }
}

/// Through a tree of nodes, whatever their types: a selector is one that has matchers.
fn collect_selectors(node: &Value, found: &mut Vec<String>) {
    if let Some(matchers) = node["matchers"].as_array() {
        let matcher = |it: &Value| format!("{}{}{}", text(&it["name"]), text(&it["type"]), it["value"]);
        let matchers = matchers.iter().filter(|it| it["name"] != "__name__").map(matcher).collect::<Vec<_>>();
        found.push(format!("{}{{{}}}", text(&node["name"]), matchers.join(",")));
        return;
    }
    match node {
        Value::Object(fields) => fields.values().for_each(|field| collect_selectors(field, found)),
        Value::Array(nodes) => nodes.iter().for_each(|node| collect_selectors(node, found)),
        _ => {}
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Numbers travel as texts, because of NaN and infinity.
fn number(value: &Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_f64()).unwrap_or(f64::NAN)
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), text(value))).collect()
}
