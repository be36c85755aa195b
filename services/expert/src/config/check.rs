//! The raw form of `expert.yaml`, and all that can be wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_mesh::{
    config::{self, DNS_LABEL, Mistake, Mistakes, Overlay, Source, is_dns_label},
    registry::{Price, Slo},
};
use serde::{Deserialize, Serialize};

use super::{Config, TaskConfig, task::RawTask};
use crate::announce::card;

const SUMMARY_CHARS: std::ops::RangeInclusive<usize> = 10..=500;
const MAX_VERSION_BYTES: usize = 63;
pub(super) const MAX_EXAMPLE_BYTES: usize = 1000;
pub(super) const DEFAULT_IDEMPOTENT: bool = true;
pub(super) const DEFAULT_HEDGE: bool = false;

// What is expected, where it is said more than once.
const DURATION: &str = "a duration above zero, for example 150ms";
const SHARE: &str = "a share between 0 and 1, for example 0.99";
const CURRENCY: &str = "a currency of ISO 4217, for example EUR";

/// Reads what `source` and `overlay` say. Keys and types first, for all of the file; then what the values mean, for all
/// of the file and the files that it names.
pub(super) fn read(source: &Source, dir: &Path, overlay: &Overlay) -> Result<Config, Mistakes> {
    let raw: Raw = config::parse(source, overlay)?;
    let mut check = Check { file: &source.file, dir, mistakes: Mistakes::default() };
    let config = check.config(raw);
    if let Some(config) = &config {
        check.card(config);
    }
    match config {
        Some(config) if check.mistakes.is_empty() => Ok(config),
        _ => Err(check.mistakes),
    }
}

/// The same expert with the examples that its file has by now, checked as they are at the start.
pub(super) fn reread(config: &Config) -> Result<Config, Mistakes> {
    let Some(path) = &config.examples_file else { return Ok(config.clone()) };
    let file = path.display().to_string();
    let mut check = Check { file: &file, dir: Path::new(""), mistakes: Mistakes::default() };
    let examples = check.examples(Some(path));
    let config = examples.map(|examples| Config { examples, ..config.clone() });
    if let Some(config) = &config {
        check.card(config);
    }
    match config {
        Some(config) if check.mistakes.is_empty() => Ok(config),
        _ => Err(check.mistakes),
    }
}

/// `expert.yaml` as written. Everything is optional here, so that what is missing is reported together with what is
/// wrong.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: Option<String>,
    version: Option<String>,
    summary: Option<String>,
    examples: Option<PathBuf>,
    #[serde(default)]
    serves: BTreeMap<String, Vec<String>>,
    accepts: Option<Vec<String>>,
    task: Option<RawTask>,
    slo: Option<RawSlo>,
    idempotent: Option<bool>,
    hedge: Option<bool>,
    price: Option<RawPrice>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawSlo {
    #[serde(default, with = "config::duration::option")]
    latency: Option<Duration>,
    objective: Option<f64>,
    #[serde(default, with = "config::duration::option")]
    first_token: Option<Duration>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawPrice {
    currency: Option<String>,
    per_call: Option<f64>,
    per_thousand_tokens: Option<f64>,
}

/// Collects what is wrong while the raw form is read field by field; `None` stands for "already reported".
pub(super) struct Check<'a> {
    /// As mistakes show it.
    file: &'a str,
    /// Where relative paths start.
    pub(super) dir: &'a Path,
    pub(super) mistakes: Mistakes,
}

impl Check<'_> {
    fn config(&mut self, raw: Raw) -> Option<Config> {
        let name = self.required("name", raw.name, "a name").and_then(|name| self.name(name));
        let version = self.required("version", raw.version, "a version, in quotes").and_then(|it| self.version(it));
        let summary = self.required("summary", raw.summary, "one or two sentences").and_then(|it| self.summary(&it));
        let examples_file = raw.examples.map(|file| self.dir.join(file));
        let examples = self.examples(examples_file.as_deref());
        self.serves(&raw.serves);
        let task = self.required("task", raw.task, "{kind, model, …}").and_then(|task| self.task(task));
        self.accepts(raw.accepts.as_deref(), task.as_ref());
        let slo = self.required("slo", raw.slo, "{latency, objective}").and_then(|slo| self.slo(&slo));
        let price = raw.price.map(|price| self.price(price));
        Some(Config {
            name: name?,
            version: version?,
            summary: summary?,
            examples: examples?,
            examples_file,
            serves: raw.serves,
            task: task?,
            slo: slo?,
            idempotent: raw.idempotent.unwrap_or(DEFAULT_IDEMPOTENT),
            hedge: raw.hedge.unwrap_or(DEFAULT_HEDGE),
            price: match price {
                Some(price) => Some(price?),
                None => None,
            },
        })
    }

    /// What a registry would refuse, such as too many examples.
    fn card(&mut self, config: &Config) {
        if let Err(error) = card(config, Vec::new()).check() {
            self.note("", error.to_string(), "a card that a registry takes");
        }
    }

    fn name(&mut self, name: String) -> Option<String> {
        if is_dns_label(&name) { Some(name) } else { self.wrong("name", "is not a DNS label", DNS_LABEL) }
    }

    fn version(&mut self, version: String) -> Option<String> {
        let good = (1..=MAX_VERSION_BYTES).contains(&version.len())
            && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let expected = "1 to 63 letters, digits, '.', '_' or '-'";
        if good { Some(version) } else { self.wrong("version", "cannot be part of a key", expected) }
    }

    fn summary(&mut self, summary: &str) -> Option<String> {
        let (summary, length) = (summary.trim().to_owned(), summary.trim().chars().count());
        if SUMMARY_CHARS.contains(&length) {
            return Some(summary);
        }
        let expected = format!("{} to {} characters", SUMMARY_CHARS.start(), SUMMARY_CHARS.end());
        self.wrong("summary", format!("has {length} characters"), expected)
    }

    fn examples(&mut self, path: Option<&Path>) -> Option<Vec<String>> {
        let Some(path) = path else { return Some(Vec::new()) };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.unreadable("examples", path, &error, "a text file, one query a line"),
        };
        let lines = text.lines().map(str::trim).enumerate();
        let queries: Vec<(usize, &str)> = lines.filter(|(_, it)| !it.is_empty() && !it.starts_with('#')).collect();
        for (line, query) in queries.iter().filter(|(_, query)| query.len() > MAX_EXAMPLE_BYTES) {
            let (file, problem) = (format!("{}:{}", path.display(), line + 1), format!("{} bytes", query.len()));
            let expected = format!("at most {MAX_EXAMPLE_BYTES}");
            self.mistakes.push(Mistake { file, path: String::new(), problem, expected });
        }
        if queries.is_empty() {
            return self.wrong("examples", format!("{}: no query in it", path.display()), "at least one query");
        }
        Some(queries.into_iter().map(|(_, query)| query.to_owned()).collect())
    }

    fn serves(&mut self, serves: &BTreeMap<String, Vec<String>>) {
        for (dimension, values) in serves {
            let path = format!("serves.{dimension}");
            if values.is_empty() {
                self.note(&path, "is empty", "at least one value; leave the dimension out to serve all of it");
            }
            if values.iter().collect::<BTreeSet<_>>().len() < values.len() {
                self.note(&path, "names a value twice", "each value once");
            }
        }
    }

    fn accepts(&mut self, accepts: Option<&[String]>, task: Option<&TaskConfig>) {
        let (Some(accepts), Some(task)) = (accepts, task) else {
            return;
        };
        let modality = task.kind().reads().modality();
        if accepts != [modality] {
            let problem = format!("is not what a task of kind `{}` reads", task.kind().as_str());
            self.note("accepts", problem, format!("[{modality}]"));
        }
    }

    fn slo(&mut self, raw: &RawSlo) -> Option<Slo> {
        let latency = self.required("slo.latency", raw.latency, DURATION);
        let latency = latency.and_then(|latency| self.above_zero("slo.latency", latency));
        let objective = self.required("slo.objective", raw.objective, SHARE);
        let objective = objective.and_then(|share| {
            let good = share > 0.0 && share < 1.0;
            if good { Some(share) } else { self.wrong("slo.objective", format!("is {share}"), SHARE) }
        });
        let first_token = raw.first_token.map(|first_token| self.above_zero("slo.first_token", first_token));
        Some(Slo { latency: latency?, objective: objective?, first_token: first_token.unwrap_or_default() })
    }

    fn above_zero(&mut self, path: &str, duration: Duration) -> Option<Duration> {
        if duration.is_zero() { self.wrong(path, "is zero", DURATION) } else { Some(duration) }
    }

    fn price(&mut self, raw: RawPrice) -> Option<Price> {
        let currency = self.required("price.currency", raw.currency, CURRENCY).and_then(|currency| {
            let good = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
            if good { Some(currency) } else { self.wrong("price.currency", "is not a currency's code", CURRENCY) }
        });
        let per_call = self.amount("price.per_call", raw.per_call);
        let per_thousand_tokens = self.amount("price.per_thousand_tokens", raw.per_thousand_tokens);
        Some(Price { currency: currency?, per_call: per_call?, per_thousand_tokens: per_thousand_tokens? })
    }

    fn amount(&mut self, path: &str, amount: Option<f64>) -> Option<f64> {
        let amount = amount.unwrap_or(0.0);
        let good = amount.is_finite() && amount >= 0.0;
        if good { Some(amount) } else { self.wrong(path, format!("is {amount}"), "0 or more") }
    }

    pub(super) fn required<T>(&mut self, path: &str, value: Option<T>, expected: &str) -> Option<T> {
        if value.is_none() {
            self.note(path, "is missing", expected);
        }
        value
    }

    pub(super) fn unreadable<T>(
        &mut self,
        field: &str,
        path: &Path,
        error: &std::io::Error,
        expected: &str,
    ) -> Option<T> {
        self.wrong(field, format!("{} cannot be read: {error}", path.display()), expected)
    }

    /// Always `None`, so that it can end the expression that found the mistake.
    pub(super) fn wrong<T>(
        &mut self,
        path: &str,
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) -> Option<T> {
        self.note(path, problem, expected);
        None
    }

    pub(super) fn note(&mut self, path: &str, problem: impl Into<String>, expected: impl Into<String>) {
        let (file, path) = (self.file.to_owned(), path.to_owned());
        self.mistakes.push(Mistake { file, path, problem: problem.into(), expected: expected.into() });
    }
}
