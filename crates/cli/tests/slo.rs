//! `consilium slo rules` on the clinic, against what others make of it: Prometheus reads the rules and raises their alerts
//! over traffic that is written down beside them; Sloth makes the same records from the same objectives.

#![expect(clippy::unwrap_used, reason = "what a test stands on failing is the test failing")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_yaml_ng::Value;
use tempfile::TempDir;

const MESH: &str = "meshes/clinic/mesh.yaml";
const RULES: &str = "deploy/prometheus/rules/clinic.yaml";
const GRAFANA: [&str; 2] = ["--dashboard-url", "http://localhost:3000"];

#[test]
fn the_rules_in_deploy_are_those_of_the_clinic() {
    let kept = fs::read_to_string(root().join(RULES)).unwrap_or_default();
    assert!(
        rules(&GRAFANA) == kept,
        "{RULES} is not what the clinic promises: run\n  target/debug/consilium slo rules {MESH} {} > {RULES}",
        GRAFANA.join(" ")
    );
}

#[test]
fn prometheus_finds_nothing_wrong() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", RULES]);
    promtool(&["check", "config", "--lint=all", "--lint-fatal", "deploy/prometheus/prometheus.yaml"]);
    // Everything that may be said on the command line at once.
    let all = ["--where", "namespace=a\"b\\c", "--least-bad", "1", "--runbook-url", "https://example.org/a?b='c'"];
    let dir = TempDir::new().unwrap();
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", &written(&dir, "rules.yaml", &rules(&all))]);
}

#[test]
fn alerts_fire_when_they_should_and_end() {
    let files = fs::read_dir(root().join("deploy/prometheus/tests")).unwrap();
    let files: BTreeSet<String> = files.map(|file| file.unwrap().path().display().to_string()).collect();
    assert!(files.len() >= 3, "{files:?}");
    let said = promtool(&[&["test", "rules"][..], &files.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    assert_eq!(said.matches("SUCCESS").count(), files.len(), "{said}");
}

#[test]
fn every_alert_is_tested_and_has_its_entry_in_the_runbook() {
    let runbook = fs::read_to_string(root().join("docs/slo.md")).unwrap();
    let tests: String = fs::read_dir(root().join("deploy/prometheus/tests"))
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let names: BTreeSet<String> = of_groups(&yaml(&rules(&[])))
        .filter_map(|rule| rule.get("alert").map(|name| name.as_str().unwrap().to_owned()))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        assert!(runbook.contains(&format!("\n### {name}\n")), "docs/slo.md has no entry for {name}");
        assert!(tests.contains(name), "deploy/prometheus/tests does not know {name}");
    }
    let entries = runbook.lines().filter_map(|line| line.strip_prefix("### Consilium")).count();
    assert_eq!(entries, names.len(), "docs/slo.md explains alerts that there are not");
}

#[test]
fn the_operator_gets_the_same_groups() {
    let object = yaml(&rules(&["--format", "operator"]));
    assert_eq!(
        (object["apiVersion"].as_str(), object["kind"].as_str()),
        (Some("monitoring.coreos.com/v1"), Some("PrometheusRule"))
    );
    assert_eq!(object["metadata"]["name"], "consilium-clinic");
    assert_eq!(object["spec"]["groups"], yaml(&rules(&[]))["groups"]);
}

#[test]
fn experts_come_by_name_each_with_its_own_promise() {
    let dir = TempDir::new().unwrap();
    let mesh = "{name: two, gate: {encoder: any}, models: ., experts: ['*-expert.yaml']}";
    let mesh = written(&dir, "mesh.yaml", mesh);
    for (file, expert, objective) in [("a-expert.yaml", "zebra", "0.9995"), ("b-expert.yaml", "apple", "0.9")] {
        let promise = format!("slo: {{latency: 1s, objective: {objective}}}");
        let expert = format!("name: {expert}\nversion: '1'\nsummary: Knows of {expert}.\naccepts: [text]");
        written(&dir, file, &format!("{expert}\ntask: {{kind: embed, model: any}}\n{promise}\n"));
    }
    let text = ran(consilium(), &["slo", "rules", &mesh]);
    let objectives: Vec<(String, String)> = records(&yaml(&text))
        .filter(|(name, ..)| name == "slo:objective:ratio")
        .map(|(_, expr, labels)| (labels["expert"].clone(), expr))
        .collect();
    let expected = [("apple", "vector(0.9)"), ("zebra", "vector(0.9995)")];
    assert_eq!(objectives, expected.map(|(expert, value)| (expert.to_owned(), value.to_owned())));
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", &written(&dir, "rules.yaml", &text)]);
}

#[test]
fn every_mistake_of_the_files_is_said_and_nothing_printed() {
    let dir = TempDir::new().unwrap();
    written(&dir, "expert.yaml", "{name: apple, version: '1', slo: {latency: 1s, objective: 1.5}}");
    let mesh = written(&dir, "mesh.yaml", "{name: two, setle: 1s, experts: [expert.yaml]}");
    let Output { status, stdout, stderr } = Command::new(consilium()).args(["slo", "rules", &mesh]).output().unwrap();
    let err = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stdout.as_slice()), (Some(2), &b""[..]), "{err}");
    assert!(err.contains("setle") && err.contains("slo.objective"), "{err}");
}

/// Not the alerts word by word: ours also want a least number of bad legs.
#[test]
fn sloth_makes_the_same_of_the_same_objectives() {
    let dir = TempDir::new().unwrap();
    let spec = written(&dir, "sloth.yaml", &rules(&["--format", "sloth"]));
    let theirs = dir.path().join("rules.yaml");
    tool("sloth", &["generate", "--no-log", "-i", &spec, "-o", &theirs.display().to_string()]);
    let (ours, theirs) = (yaml(&rules(&[])), yaml(&fs::read_to_string(&theirs).unwrap()));

    let sloths_own = |record: &Record| record.0.starts_with("slo:");
    let (made, expected): (BTreeSet<_>, BTreeSet<_>) =
        (records(&ours).filter(sloths_own).collect(), records(&theirs).filter(sloths_own).collect());
    assert_eq!(expected.len(), 5 * 14);
    let (missing, extra): (Vec<_>, Vec<_>) =
        (expected.difference(&made).collect(), made.difference(&expected).collect());
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");

    // Says which program made the rules, and in which version: otherwise the same.
    let info = |document: &Value| -> BTreeSet<BTreeMap<String, String>> {
        let infos = records(document).filter(|(name, ..)| name == "sloth_slo_info");
        let program = ["sloth_mode", "sloth_version"];
        infos
            .map(|(_, _, labels)| labels.into_iter().filter(|(it, _)| !program.contains(&it.as_str())).collect())
            .collect()
    };
    assert_eq!(info(&ours), info(&theirs));
    assert_eq!(burns(&ours), burns(&theirs));
}

/// Name, expression and labels.
type Record = (String, String, BTreeMap<String, String>);

fn records(document: &Value) -> impl Iterator<Item = Record> {
    of_groups(document).filter_map(|rule| {
        let name = rule.get("record")?.as_str().unwrap().to_owned();
        Some((name, words(rule["expr"].as_str().unwrap()), labels(rule)))
    })
}

/// The labels of a burn alert, and what it compares: window, factor and budget.
type Burn = (BTreeMap<String, String>, BTreeSet<[String; 3]>);

fn burns(document: &Value) -> Vec<Burn> {
    let alerts = of_groups(document).filter(|rule| rule.get("alert").is_some_and(|name| name == "ConsiliumSloBurn"));
    let compared = |expr: &str| {
        let shares = expr.split("slo:sli_error:ratio_rate").skip(1);
        shares
            .map(|share| {
                let (window, rest) = share.split_once('{').unwrap();
                let (_, threshold) = rest.split_once("> (").unwrap();
                let (factor, rest) = threshold.split_once(" * ").unwrap();
                let budget: f64 = rest.split_once(')').unwrap().0.parse().unwrap();
                // They subtract in binary and write every digit.
                [window.to_owned(), factor.to_owned(), format!("{budget:.12}")]
            })
            .collect()
    };
    alerts.map(|rule| (labels(rule), compared(rule["expr"].as_str().unwrap()))).collect()
}

fn of_groups(document: &Value) -> impl Iterator<Item = &Value> {
    document["groups"].as_sequence().unwrap().iter().flat_map(|group| group["rules"].as_sequence().unwrap())
}

fn labels(rule: &Value) -> BTreeMap<String, String> {
    serde_yaml_ng::from_value(rule["labels"].clone()).unwrap()
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap()
}

fn written(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// What `consilium slo rules` prints for the clinic.
fn rules(more: &[&str]) -> String {
    ran(consilium(), &[&["slo", "rules", MESH][..], more].concat())
}

fn consilium() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_consilium"))
}

fn promtool(arguments: &[&str]) -> String {
    tool("promtool", arguments)
}

fn tool(name: &str, arguments: &[&str]) -> String {
    let program = root().join(".tools/bin").join(name);
    assert!(program.is_file(), "there is no {name} in .tools/bin: run make setup-observability");
    ran(&program, arguments)
}

/// Standard output of a program that succeeds, run at the root.
fn ran(program: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new(program).args(arguments).current_dir(root()).output().unwrap();
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr).into_owned());
    assert!(status.success(), "{} {}: {status}\n{out}{err}", program.display(), arguments.join(" "));
    out
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
