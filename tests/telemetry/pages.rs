//! What pages of metrics say, against what the crates say that they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::{Command, Stdio},
};

use consilium_metrics::{Described, Kind};
use consilium_tests::processes::observability_tool;

use crate::scene::{Scene, say};

/// All metrics of a page.
pub(crate) type Page = BTreeMap<String, Family>;

/// One metric.
#[derive(Debug, Default)]
pub(crate) struct Family {
    kind: String,
    help: String,
    /// The keys of the labels of each series, without a histogram's `le`.
    labels: BTreeSet<BTreeSet<String>>,
    series: usize,
}

/// Everything described, by its name in queries.
pub(crate) fn described() -> BTreeMap<String, &'static Described> {
    let all = [
        consilium_mesh::metrics::METRICS,
        consilium_router::METRICS,
        consilium_expert::METRICS,
        consilium_engine::METRICS,
    ];
    all.into_iter().flatten().map(|metric| (metric.full_name(), *metric)).collect()
}

pub(crate) async fn as_described(scene: &Scene) {
    let (watched, _) = scene.loaded().await;
    let described = described();
    let (mut wrong, mut seen) = (Vec::new(), BTreeMap::<String, usize>::new());
    let pages = watched.pages().await;
    for (process, page) in &pages {
        promtool(process, page);
        for (name, family) in read(page) {
            *seen.entry(name.clone()).or_default() += family.series;
            let Some(metric) = described.get(&name) else {
                wrong.push(format!("{process}: {name} is described nowhere"));
                continue;
            };
            if family.kind != metric.kind().to_string()
                || family.help.trim_end_matches('.') != metric.help().trim_end_matches('.')
            {
                wrong.push(format!("{process}: {name} is a {}: {}", family.kind, family.help));
            }
            let expected: BTreeSet<_> = metric.labels().iter().map(ToString::to_string).collect();
            let others = family.labels.iter().filter(|labels| **labels != expected);
            wrong.extend(others.map(|labels| format!("{process}: {name} has {labels:?}, described are {expected:?}")));
        }
    }
    for name in described.keys() {
        if seen.get(name).copied().unwrap_or_default() == 0 {
            wrong.push(format!("{name} is on no page"));
        }
    }
    let series: usize = seen.values().sum();
    say(&format!("{} metrics, {series} series on {} pages; promtool finds no fault", seen.len(), pages.len()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A page as OpenMetrics, by the metrics' names in queries.
pub(crate) fn read(page: &str) -> Page {
    let mut families = Page::new();
    let mut kinds = BTreeMap::new();
    let mut helps = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name.to_owned(), kind.to_owned());
        } else if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            helps.insert(name.to_owned(), help.to_owned());
        } else if !line.starts_with('#') {
            let name = &line[..line.find(['{', ' ']).unwrap_or(line.len())];
            let labels = keys(&line[name.len()..]);
            let Some((family, kind)) = family(name, &kinds) else { panic!("a series of no metric: {line}") };
            let total = if *kind == Kind::Counter.to_string() { "_total" } else { "" };
            let entry = families.entry(format!("{family}{total}")).or_default();
            entry.kind.clone_from(kind);
            entry.help = helps.get(family).cloned().unwrap_or_default();
            entry.series += 1;
            entry.labels.insert(labels);
        }
    }
    families
}

/// The metric that a sample belongs to: the one of its name, but for the ends that counters and histograms have.
fn family<'a>(sample: &'a str, kinds: &'a BTreeMap<String, String>) -> Option<(&'a str, &'a String)> {
    let ends = ["_total", "_bucket", "_sum", "_count"];
    let mut names = [sample].into_iter().chain(ends.iter().filter_map(|end| sample.strip_suffix(end)));
    names.find_map(|name| kinds.get(name).map(|kind| (name, kind)))
}

/// The keys of `{a="b",le="1"} 1 # {trace_id="…"}`. Values may have any sign in them.
fn keys(rest: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let Some(mut rest) = rest.strip_prefix('{') else { return keys };
    while let Some((key, value)) = rest.split_once("=\"") {
        keys.insert(key.to_owned());
        let mut escaped = false;
        let end = value.find(|sign| {
            let ends = sign == '"' && !escaped;
            escaped = sign == '\\' && !escaped;
            ends
        });
        rest = &value[end.map_or(value.len(), |end| end + 1)..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    keys.remove("le");
    keys
}

/// What Prometheus' own tool says of a page. It reads the older text format, which has no exemplars, no `# EOF` and no units.
fn promtool(process: &str, page: &str) {
    let mut command = Command::new(observability_tool("promtool"));
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().expect("it starts");
    let older = older(page);
    running.stdin.take().expect("it is piped").write_all(older.as_bytes()).expect("it reads");
    let output = running.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool on the page of {process}: {said}");
}

/// The page in the older format, where a counter's metric is called like its series.
fn older(page: &str) -> String {
    let counters: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .map(|name| (format!("# TYPE {name} "), format!("# HELP {name} "), name))
        .collect();
    let mut older = String::new();
    for line in page.lines().filter(|line| !line.starts_with("# UNIT") && *line != "# EOF") {
        let counter = counters.iter().find(|(kind, help, _)| line.starts_with(kind) || line.starts_with(help));
        match counter {
            Some((_, _, name)) => older.push_str(&line.replacen(name, &format!("{name}_total"), 1)),
            None => older.push_str(line.split_once(" # {").map_or(line, |(sample, _)| sample)),
        }
        older.push('\n');
    }
    older
}
