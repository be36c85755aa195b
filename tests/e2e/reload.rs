//! What the gate goes by changes while the mesh runs: `mesh.yaml` and its files, the registry's settings, an expert's
//! examples. What is wrong changes nothing.

use std::{fs, path::Path, sync::Arc};

use consilium_mesh::registry::{MemoryRegistry, Registry};
use consilium_proto::v1::decision::Outcome;
use consilium_tests::{Behaviour, ExpertFiles, Mesh};

const POTASSIUM: &str = "what does a low potassium blood value mean";
const RULE: &str = "rules: [{name: all-to-general, when: 'true', require: [general]}]";

fn result(source: &str, result: &str) -> String {
    format!(r#"consilium_gate_reloads_total{{source="{source}",result="{result}"}} "#)
}

async fn mesh() -> (Mesh, impl Sized) {
    let mesh = Mesh::start("").await;
    let experts = (mesh.join(&ExpertFiles::LABS).await, mesh.join(&ExpertFiles::GENERAL).await);
    (mesh, experts)
}

#[tokio::test]
async fn rules_of_the_file_hold_soon_after_it_was_written() {
    let (mesh, _experts) = mesh().await;
    let before = mesh.decides(POTASSIUM, |_| true).await;
    assert_eq!(before.rules_matched.len(), 0);
    mesh.rewrite(&format!("gate: {{{RULE}}}"));
    let after = mesh.decides(POTASSIUM, |decision| decision.gate_revision != before.gate_revision).await;
    assert_eq!(after.rules_matched, ["all-to-general"]);
    assert!(after.candidates.iter().all(|candidate| candidate.selected == (candidate.expert == "general")));
    mesh.rewrite("");
    let again = mesh.decides(POTASSIUM, |decision| decision.gate_revision != after.gate_revision).await;
    assert_eq!(again.gate_revision, before.gate_revision, "what decides the same has the same revision");
    assert_eq!((mesh.count(&result("file", "ok")), mesh.count(&result("file", "failed"))), (2, 0));
}

#[tokio::test]
async fn a_file_that_is_wrong_changes_nothing_and_what_is_right_afterwards_does() {
    let (mesh, _experts) = mesh().await;
    let before = mesh.decides(POTASSIUM, |_| true).await;
    let wrong = [
        "gate: [",
        "gate: {top_k: 0}",
        "gate: {rules: [{name: r, when: 'nonsense(', require: [labs]}]}",
        // This mesh runs all of its experts itself.
        "gate: {fallback: nobody}",
        "listen: nowhere",
        "gate: {background: missing.txt}",
    ];
    for (at, wrong) in wrong.into_iter().enumerate() {
        let failures = mesh.count(&result("file", "failed"));
        mesh.rewrite(wrong);
        mesh.counts(&result("file", "failed"), failures + 1).await;
        let now = mesh.decides(POTASSIUM, |_| true).await;
        assert_eq!(now.gate_revision, before.gate_revision, "{at}: {wrong}");
    }
    // What was missing comes late, and mesh.yaml need not be touched for it.
    std::fs::write(mesh.dir().join("missing.txt"), "who won the cup final\n").expect("a temporary file can be written");
    let late = mesh.decides(POTASSIUM, |decision| decision.gate_revision != before.gate_revision).await;
    mesh.rewrite("gate: {min_confidence: 0.6}");
    mesh.decides(POTASSIUM, |decision| decision.gate_revision != late.gate_revision).await;
}

#[tokio::test]
async fn the_files_that_the_gate_names_are_watched_too() {
    let (mesh, _experts) = mesh().await;
    let file = mesh.dir().join("background.txt");
    fs::write(&file, "# Not for us.\nsell me a car\n").expect("a temporary file can be written");
    let plain = mesh.decides(POTASSIUM, |_| true).await;
    mesh.rewrite("gate: {background: background.txt}");
    let before = mesh.decides(POTASSIUM, |decision| decision.gate_revision != plain.gate_revision).await;
    fs::write(&file, "sell me a boat\n").expect("a temporary file can be written");
    mesh.decides(POTASSIUM, |decision| decision.gate_revision != before.gate_revision).await;
}

#[tokio::test]
async fn what_the_encoder_has_failed_on_is_tried_again() {
    let (mesh, _experts) = mesh().await;
    let before = mesh.decides(POTASSIUM, |_| true).await;
    fs::write(mesh.dir().join("background.txt"), "stumble over a kerb\n").expect("a temporary file can be written");
    mesh.rewrite("gate: {background: background.txt}");
    mesh.counts(&result("file", "failed"), 1).await;
    // Nothing is written anew.
    mesh.decides(POTASSIUM, |decision| decision.gate_revision != before.gate_revision).await;
    mesh.counts(&result("file", "ok"), 1).await;
    assert_eq!(mesh.count(&result("file", "failed")), 1);
}

#[tokio::test]
async fn dimensions_and_who_stands_behind_whom_change_as_well() {
    let mesh = Mesh::start("").await;
    let cheap = mesh.script("cheap", Behaviour::Sure(0.1)).await;
    let better = mesh.script("better", Behaviour::Sure(0.9)).await;
    mesh.ask("ask cheap something").await.expect("the mesh answers");
    assert_eq!((cheap.calls(), better.calls()), (1, 0));
    let before = mesh.decides("ask cheap something", |_| true).await;
    mesh.rewrite(
        "gate: {cascade: [{experts: [cheap, better], escalate_below: 0.5}], dimensions: {tone: {values: [calm]}}}",
    );
    mesh.decides("ask cheap something", |decision| decision.gate_revision != before.gate_revision).await;
    mesh.counts(&result("file", "ok"), 1).await;
    mesh.ask("ask cheap something").await.expect("the mesh answers");
    assert_eq!((cheap.calls(), better.calls()), (2, 1));
}

#[tokio::test]
async fn settings_of_the_registry_stand_in_for_the_files_until_they_are_taken_back() {
    let (mesh, _experts) = mesh().await;
    let file = mesh.decides(POTASSIUM, |_| true).await;
    mesh.registry.put_gate(Some(RULE.to_owned())).await.expect("the registry is in memory");
    let registry = mesh.decides(POTASSIUM, |decision| decision.gate_revision != file.gate_revision).await;
    assert_eq!(
        (registry.outcome(), registry.rules_matched.as_slice()),
        (Outcome::Dispatched, ["all-to-general".to_owned()].as_slice())
    );

    for wrong in ["top_k: 0", "no_such_key: 1", "["] {
        let failures = mesh.count(&result("registry", "failed"));
        mesh.registry.put_gate(Some(wrong.to_owned())).await.expect("whether it is right is the router's to say");
        mesh.counts(&result("registry", "failed"), failures + 1).await;
        let now = mesh.decides(POTASSIUM, |_| true).await;
        assert_eq!(now.gate_revision, registry.gate_revision, "{wrong}");
    }
    mesh.registry.put_gate(None).await.expect("the registry is in memory");
    mesh.decides(POTASSIUM, |decision| decision.gate_revision == file.gate_revision).await;
}

#[tokio::test]
async fn a_router_that_starts_goes_by_the_registrys_settings_before_it_is_ready() {
    let registry = Arc::new(MemoryRegistry::new("test"));
    registry.put_gate(Some("{\"top_k\": 7}".to_owned())).await.expect("the registry is in memory");
    let mesh = Mesh::over(registry, "").await;
    assert_eq!(mesh.count(&result("registry", "ok")), 1);
}

#[tokio::test]
async fn an_expert_announces_new_examples_without_a_restart() {
    let mesh = Mesh::start("").await;
    let _labs = mesh.join(&ExpertFiles::LABS).await;
    let _general = mesh.join(&ExpertFiles::GENERAL).await;
    let text = "does the pharmacy stock aspirin tablets";
    let before = mesh.decides(text, |_| true).await;
    assert!(!before.candidates.iter().any(|candidate| candidate.selected && candidate.expert == "labs"));

    let file = mesh.dir().join("labs-1/examples.txt");
    let failed = r#"consilium_expert_examples_reloads_total{expert="labs",result="failed"} "#;
    write(&file, "# Nothing left.\n");
    mesh.counts(failed, 1).await;
    let pharmacy = ExpertFiles::PHARMACY.examples.join("\n");
    write(&file, &format!("{}\n{pharmacy}", ExpertFiles::LABS.examples.join("\n")));
    let after = mesh.decides(text, |decision| {
        decision.candidates.iter().any(|candidate| candidate.selected && candidate.expert == "labs")
    });
    let after = after.await;
    assert_ne!(after.gate_revision, before.gate_revision);
    let catalog = mesh.until(|catalog| catalog.experts.iter().any(|expert| expert.name == "labs")).await;
    let card = catalog.experts.iter().find(|expert| expert.name == "labs").map(|expert| &expert.cards[0]);
    assert_eq!(card.map(|card| (card.version.as_str(), card.examples.len())), Some(("1", 10)));
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a temporary file can be written");
}
