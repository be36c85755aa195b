use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Mesh {
    name: String,
    #[serde(with = "duration")]
    deadline: Duration,
    #[serde(default, with = "duration::option")]
    max: Option<Duration>,
    #[serde(default)]
    gate: Gate,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    experts: Vec<String>,
}

/// Without `deny_unknown_fields`: what is unknown here is only noticed by what serde skips.
#[derive(Debug, PartialEq, Default, Deserialize, Serialize)]
struct Gate {
    #[serde(default)]
    top_k: usize,
    #[serde(default)]
    fallback: Option<String>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    when: String,
    priority: i32,
}

#[derive(Debug, PartialEq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    RoundRobin,
    LeastRequest,
}

fn read(text: &str, set: &[&str]) -> Result<Mesh, Mistakes> {
    let source = Source { file: "mesh.yaml".into(), text: text.into() };
    let overlay = Overlay {
        environment: BTreeMap::from([("CONSILIUM_GATE__FALLBACK".into(), "general".into())]),
        set: set.iter().map(|&argument| argument.to_owned()).collect(),
        ..Overlay::default()
    };
    parse(&source, &overlay)
}

fn mistakes(text: &str, set: &[&str]) -> Vec<String> {
    let all = read(text, set).expect_err("the text is wrong");
    all.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn a_good_file_is_read_with_its_overlay_and_printed_so_that_it_can_be_read_again() {
    let mesh = read("name: clinic\ndeadline: 1m 30s\ngate: {top_k: 1}", &["gate.top_k=2", "max=250ms"]).unwrap();
    assert_eq!(mesh.deadline, Duration::from_secs(90));
    assert_eq!(mesh.max, Some(Duration::from_millis(250)));
    assert_eq!((mesh.gate.top_k, mesh.gate.fallback.as_deref()), (2, Some("general")));
    let printed = print(&mesh).unwrap();
    assert!(printed.contains("deadline: 1m 30s"), "{printed}");
    assert_eq!(read(&printed, &[]).unwrap(), mesh);
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let text = "
nmae: clinic
deadline: 150
max: soon
mode: least_requests
gate: {top_k: many, fallbak: general, rules: [{when: a, priority: 1, prio: 2}, {when: 3, priority: 1}, {priority: x}]}
experts: none
";
    let expected = [
        "mesh.yaml: nmae: unknown key, did you mean `name`?; expected one of `name`, `deadline`, `max`, `gate`, `mode`, `experts`",
        "mesh.yaml: name: missing",
        "mesh.yaml: deadline: invalid type: integer `150`; expected a duration with a unit, such as 100ms or 2s",
        "mesh.yaml: max: invalid value: string \"soon\"; expected a duration with a unit, such as 100ms or 2s",
        "mesh.yaml: mode: unknown value \"least_requests\", did you mean `least_request`?; expected one of `round_robin`, `least_request`",
        "mesh.yaml: gate.top_k: invalid type: string \"many\"; expected usize",
        "mesh.yaml: gate.fallbak: unknown key, did you mean `fallback`?; expected one of `fallback`, `rules`, `top_k`",
        "mesh.yaml: gate.rules[0].prio: unknown key; expected one of `when`, `priority`",
        "mesh.yaml: gate.rules[1].when: invalid type: integer `3`; expected a string",
        "mesh.yaml: gate.rules[2].priority: invalid type: string \"x\"; expected i32",
        "mesh.yaml: gate.rules[2].when: missing",
        "mesh.yaml: experts: invalid type: string \"none\"; expected a sequence",
    ];
    let mut found = mistakes(text, &[]);
    let mut expected = expected.map(str::to_owned).to_vec();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_mistake_names_the_flag_or_variable_that_made_it() {
    let good = "name: clinic\ndeadline: 1s";
    assert_eq!(
        mistakes(good, &["gate.top_k=x"]),
        ["--set gate.top_k=x: gate.top_k: invalid type: string \"x\"; expected usize"]
    );
    let source = Source { file: "mesh.yaml".into(), text: good.into() };
    let environment = BTreeMap::from([("CONSILIUM_GATE__TOPK".to_owned(), "1".to_owned())]);
    let found = parse::<Mesh>(&source, &Overlay { environment, ..Overlay::default() }).unwrap_err().to_string();
    assert!(
        found.starts_with("environment CONSILIUM_GATE__TOPK: gate.topk: unknown key, did you mean `top_k`?"),
        "{found}"
    );
}

#[test]
fn several_files_report_together() {
    let mut all = Mistakes::default();
    for (file, text) in [("a.yaml", "deadline: 1s"), ("b.yaml", "name: x\ndeadline: 1s"), ("c.yaml", "]")] {
        let source = Source { file: file.into(), text: text.into() };
        all.take(parse::<Mesh>(&source, &Overlay::default()));
    }
    let all = all.into_result().unwrap_err().to_string();
    let lines: Vec<_> = all.lines().collect();
    assert_eq!(lines[0], "a.yaml: name: missing");
    assert!(lines[1].starts_with("c.yaml: "), "{all}");
    assert_eq!(lines.len(), 2, "{all}");
}

#[test]
fn strange_yaml_is_a_mistake_and_never_a_crash() {
    let deep = format!("name: {}", "[".repeat(100_000));
    let bomb = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| {
        let alias = format!("*a{}", n - 1);
        format!("{text}a{n}: &a{n} [{}]\n", [alias.as_str(); 10].join(", "))
    });
    let huge = format!("name: {}", "x".repeat(1024 * 1024));
    for text in [
        "name: a\nname: b",
        "1: 2",
        "? [a]\n: b",
        "name: !secret x",
        "name: .nan",
        "- a",
        "just text",
        "\t",
        "a: b\n---\nc: d",
        "name: *nobody",
        "x: &x {y: *x}",
        &deep,
        &bomb,
        &huge,
        "\u{0}",
    ] {
        let found = mistakes(text, &[]);
        assert!(found[0].starts_with("mesh.yaml: "), "{found:?}");
    }
}

#[test]
fn an_empty_file_is_empty_and_not_wrong_in_itself() {
    assert_eq!(mistakes("# nothing\n", &[]), ["mesh.yaml: name: missing", "mesh.yaml: deadline: missing"]);
}

#[test]
fn files_that_cannot_be_read_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Source::read(&dir.path().join("none.yaml")).unwrap_err().to_string();
    assert!(missing.contains("none.yaml: "), "{missing}");
    let binary = dir.path().join("binary.yaml");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    assert!(Source::read(&binary).unwrap_err().to_string().ends_with("expected UTF-8"));
    let large = dir.path().join("large.yaml");
    std::fs::write(&large, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(Source::read(&large).unwrap_err().to_string().ends_with("at most 1 MiB"));
    std::fs::write(dir.path().join("good.yaml"), "a: 1").unwrap();
    assert_eq!(Source::read(&dir.path().join("good.yaml")).unwrap().text, "a: 1");
}

#[test]
fn a_section_is_replaced_by_one_from_elsewhere() {
    let source = |text: &str| Source { file: "mesh.yaml".into(), text: text.into() };
    let file = source("name: clinic\ngate: {encoder: words, top_k: 3, rules: [{name: a}]}\n");
    let tree = |section: &str| {
        let text = replace(&file, ("gate", &source(section)), &["encoder"]).unwrap().text;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let expected = serde_json::json!({"name": "clinic", "gate": {"encoder": "words", "floor": 0.2}});
    assert_eq!(tree("floor: 0.2"), expected, "the whole section, but for what is kept");
    assert_eq!(tree("gate:\n  floor: 0.2"), expected, "or below its key");
    assert_eq!(tree("{\"encoder\": \"other\"}")["gate"], serde_json::json!({"encoder": "other"}));
    let broken = replace(&file, ("gate", &Source { file: "etcd".into(), text: "[".into() }), &[]).unwrap_err();
    assert_eq!(broken.iter().map(|mistake| mistake.file.as_str()).collect::<Vec<_>>(), ["etcd"]);
}
