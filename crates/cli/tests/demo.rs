//! `consilium demo` on the clinic, with its real models: what `make demo` shows.

use std::{path::Path, process::Command};

use serde_json::Value;

#[test]
fn the_clinic_answers_its_demo_questions() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for model in ["minilm-l6", "clinic-diagnostic"] {
        let manifest = root.join("models/build").join(model).join("manifest.json");
        assert!(manifest.is_file(), "{} is missing: run `make setup`", manifest.display());
    }
    let output = Command::new(env!("CARGO_BIN_EXE_consilium"))
        .args(["demo", "--json"])
        .arg(root.join("meshes/clinic/mesh.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let shown: Value =
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));

    let questions = shown["questions"].as_array().unwrap();
    let wrong: Vec<_> = questions.iter().filter(|question| question["right"] != true).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(shown["mesh"], "clinic");
    assert_eq!(shown["summary"]["right"], questions.len());
    assert!(shown["summary"]["latency_max_ms"].as_f64() >= shown["summary"]["latency_p50_ms"].as_f64());
    let outcomes: std::collections::BTreeSet<&str> =
        questions.iter().map(|question| question["expected_outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), ["dispatched", "fallback", "refused"]);
}
