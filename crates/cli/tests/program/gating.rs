//! `consilium gate`: a gate measured on labelled queries, and a mesh's gate held to its probes.

use serde_json::{Value, json};

use crate::{files::Files, said};

const TRAIN: &str = r#"{"text": "is an apple red", "expert": "fruit", "dimensions": {"kind": "colour"}}
{"text": "an apple and a fruit", "expert": "fruit", "dimensions": {"kind": "count"}, "subject": "ignored"}
{"text": "is a fruit red", "expert": "fruit", "dimensions": {"kind": "colour"}}
{"text": "how far is the market", "expert": "the_way", "dimensions": {"kind": "count"}}
{"text": "which road leads to the market", "expert": "the_way"}
{"text": "the road to the market", "expert": "the_way"}
{"text": "who wrote this symphony", "expert": null}
"#;

const TEST: &str = r#"{"text": "is the apple a red fruit", "expert": "fruit", "dimensions": {"kind": "colour"}}
{"text": "which road to the market", "expert": "the_way"}
{"text": "does the moon have an atmosphere", "expert": null}
{"text": "a cabbage", "expert": "vegetables"}
"#;

fn sets(files: &Files) -> [String; 2] {
    files.write("train.jsonl", TRAIN);
    files.write("test.jsonl", TEST);
    ["train.jsonl", "test.jsonl"].map(|file| files.path(file).display().to_string())
}

fn evaluated(files: &Files, further: &[&str]) -> (Option<i32>, String, String) {
    let [train, test] = sets(files);
    let models = files.path("models").display().to_string();
    let eval = ["gate", "eval", "--train", &train, "--test", &test, "--models", &models, "--model", "tiny-text"];
    said(&[&eval, further].concat())
}

#[test]
fn an_evaluation_says_how_often_a_gate_is_right() {
    let files = Files::new();
    let (plot, cache) = (files.path("plot.svg").display().to_string(), files.path("vectors").display().to_string());
    let (code, out, err) = evaluated(&files, &["--json", "--plot", &plot, "--cache", &cache]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let document: Value = serde_json::from_str(&out).unwrap();
    for key in ["top1", "top3", "end_to_end", "oos_auroc", "oos_recall_at_95_kept", "ece", "coverage"] {
        assert!(document[key].as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)), "{key} in {out}");
    }
    let tiers: f64 = document["tiers"].as_object().unwrap().values().map(|share| share.as_f64().unwrap()).sum();
    assert!((tiers - 1.0).abs() < 1e-9, "{out}");
    let latency = &document["latency_ms"];
    assert!(latency["p50"].as_f64() > Some(0.0) && latency["p50"].as_f64() <= latency["p99"].as_f64(), "{out}");
    assert!(document["latency_by_tier_ms"]["encoder"]["p50"].as_f64() > Some(0.0), "{out}");
    assert_eq!(document["rows"], json!({"train": 7, "validation": 0, "test": 4, "test_nobody": 1}));
    assert_eq!((&document["experts"], &document["strangers"]), (&json!(2), &json!({"vegetables": 1})));
    assert_eq!(document["dimensions"]["kind"]["rows"], 1);
    // One expert of three is unknown: no more than two of three can be right.
    assert!(document["top1"].as_f64() <= Some(2.0 / 3.0), "{out}");
    assert_eq!(document["model_digest"].as_str().map(str::len), Some(64));
    let drawn = std::fs::read_to_string(&plot).unwrap();
    assert!(drawn.starts_with("<svg ") && drawn.contains("n = 4"), "{drawn}");

    // The same again, from vectors that were kept: the same to the last digit, but for the time.
    assert_eq!(std::fs::read_dir(files.path("vectors")).unwrap().count(), 1);
    let (_, out, _) = evaluated(&files, &["--json", "--cache", &cache]);
    let again: Value = serde_json::from_str(&out).unwrap();
    for key in ["top1", "end_to_end", "ece", "oos_auroc", "reliability", "gate_revision"] {
        assert_eq!(document[key], again[key], "{key}");
    }
}

#[test]
fn an_evaluation_is_for_reading_too() {
    let files = Files::new();
    let (code, out, err) = evaluated(&files, &["--encoder-only", "--first", "2"]);
    assert_eq!(code, Some(0), "{out}{err}");
    for said in ["test.jsonl: 4 queries for 2 experts, 1 of them for nobody", "top-1", "end to end", "encoder 100.0 %"]
    {
        assert!(out.contains(said), "{said:?} is not in {out}");
    }
    assert!(out.contains("learned from 5, calibrated on folds, with tiny-text"), "{out}");
    assert!(out.contains("vegetables is in no row of the training file and in 1 other"), "{out}");
    assert!(err.contains("the gate learns: 5 queries for 2 experts"), "{err}");
}

#[test]
fn wrong_sets_and_options_are_named_together() {
    let files = Files::new();
    files.write("val.jsonl", "{\"text\": \"a?\"}\n");
    files.write("options.yaml", "name: market\ngate: {top_j: 2}\n");
    let (val, options) = (files.path("val.jsonl"), files.path("options.yaml"));
    let (val, options) = (val.to_str().unwrap(), options.to_str().unwrap());
    let (code, out, err) =
        evaluated(&files, &["--val", val, "--options", options, "--set", "gate.min_confidence=much"]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.starts_with("error: there are 3 mistakes in what the gate is to learn\n"), "{err}");
    assert!(err.contains("val.jsonl: line 1, expert: is missing; expected an expert's name"), "{err}");
    assert!(err.contains("options.yaml: gate.top_j: unknown key"), "{err}");
    assert!(err.contains("--set gate.min_confidence=much: gate.min_confidence"), "{err}");

    files.write("bare.yaml", "spelling: false\n");
    let (code, _, err) = evaluated(&files, &["--options", files.path("bare.yaml").to_str().unwrap()]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("bare.yaml: gate: is missing; expected a section `gate`"), "{err}");

    let (code, _, err) = evaluated(&files, &["--set", "gate.top_k=0"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("gate.top_k"), "{err}");
    let [train, test] = sets(&files);
    let none = ["gate", "eval", "--train", &train, "--test", &test, "--models", "no/such/folder"];
    let (code, _, err) = said(&none);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("the encoder cannot be used") && err.contains("hint: "), "{err}");
}

const PROBES: &str = r#"{"bars": {"rules": 1, "closed": 0.5, "all": 0.5}}
{"tier": "rules", "text": "is an apple red", "expert": "fruit", "labels": {"stand": "fruit"}}
{"tier": "closed", "text": "is an apple red", "expert": null, "labels": {"closed": "yes"}}
{"tier": "closed", "text": "is an apple red", "expert": "travel", "labels": {"stand": "fruit"}, "note": "wrong on purpose"}
"#;

#[test]
fn a_gate_is_held_to_its_probes() {
    let files = Files::new();
    files.write("probes.jsonl", PROBES);
    let mesh = files.mesh();
    let (code, out, err) = said(&["gate", "probe", &mesh, "--tier", "rules", "--tier", "closed", "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["passes"], &report["structure"]), (&json!(true), &Value::Null));
    let tiers = json!([
        {"tier": "rules", "right": 1, "total": 1, "bar": 1.0},
        {"tier": "closed", "right": 1, "total": 2, "bar": 0.5},
    ]);
    assert_eq!(report["tiers"], tiers);
    let failure = &report["failures"][0];
    assert_eq!((&failure["line"], &failure["chosen"]), (&json!(4), &json!(["fruit"])));
    assert_eq!((&failure["expected"], &failure["reason"]), (&json!("travel"), &json!("REQUIRED")));

    files.replace("probes.jsonl", "\"closed\": 0.5", "\"closed\": 0.9");
    let (code, out, _) = said(&["gate", "probe", &mesh, "--tier", "closed"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("line 4, closed: is an apple red\n  ✗ fruit, expected travel"), "{out}");
    assert!(out.contains("note: wrong on purpose") && out.contains("below  market: 1 tier is below its bar"), "{out}");
}

#[test]
fn experts_are_held_to_what_they_say_of_themselves() {
    let files = Files::new();
    files.write("expected.jsonl", PROBES);
    files.replace("mesh.yaml", "  encoder: tiny-text", "  encoder: tiny-text\n  probes: expected.jsonl");
    files.replace("experts/travel/expert.yaml", "accepts: [text]", "examples: examples.txt\naccepts: [text]");
    files.write("experts/travel/examples.txt", "the way to the market\nIs an  apple red\n");
    let (code, out, err) = said(&["gate", "probe", &files.mesh(), "--json"]);
    assert_eq!(code, Some(1), "{out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["tiers"][2]["tier"], "all");
    assert_eq!(report["structure"]["duplicates"][0]["experts"], json!(["fruit", "travel"]));
    assert_eq!(report["structure"]["thin"], json!({"fruit": 2, "travel": 2}));
    let tiers: Vec<&str> =
        report["structure"]["tiers"].as_array().unwrap().iter().map(|it| it["tier"].as_str().unwrap()).collect();
    assert_eq!(tiers, ["reachable", "duplicates", "collisions", "thin"]);
    let (_, out, _) = said(&["gate", "probe", &files.mesh()]);
    assert!(out.contains("is an example of fruit and travel") && out.contains("fruit has 2 examples"), "{out}");
}

#[test]
fn wrong_probes_are_named_with_file_and_line() {
    let files = Files::new();
    let mesh = files.mesh();
    let (code, _, err) = said(&["gate", "probe", &mesh]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("probes.jsonl: "), "{err}");

    files.write(
        "probes.jsonl",
        PROBES.replace("\"travel\"", "\"trouble\"").replace("\"stand\": \"fruit\"", "\"stand\": 1"),
    );
    let (code, _, err) = said(&["gate", "probe", &mesh]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("probes.jsonl: line 2, labels.stand: is no value"), "{err}");

    files.write("probes.jsonl", PROBES.replace("\"travel\"", "\"trouble\""));
    let (code, _, err) = said(&["gate", "probe", &mesh]);
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("probes.jsonl: line 4, expert: no expert is called \"trouble\"; expected one of fruit, travel"),
        "{err}"
    );

    files.write("probes.jsonl", PROBES);
    let (code, _, err) = said(&["gate", "probe", &mesh, "--tier", "typo"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("known: rules, closed"), "{err}");
}
