//! The files of the meshes under test. One is a small clinic with a real encoder, so little knowledge that an expert restarts
//! in about a second, and questions whose answers are known beforehand.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{EXPERT, MESH};
use crate::models;

/// What is asked, and the id of the passage that answers it. Each question is also an example of its expert's, so that
/// the gate is sure: choosing well is another test's subject.
pub const QUESTIONS: [(&str, &str); 10] = [
    ("Can I take ibuprofen while I am on warfarin?", "warfarin-nsaid"),
    ("naproxen with warfarin, how bad is the bleeding risk", "warfarin-nsaid"),
    ("Is tramadol safe together with sertraline?", "ssri-tramadol"),
    ("serotonin syndrome from sertraline plus tramadol", "ssri-tramadol"),
    ("Does grapefruit juice matter with simvastatin?", "statin-grapefruit"),
    ("simvastatin and grapefruit, muscle pain", "statin-grapefruit"),
    ("weekly methotrexate, now trimethoprim for a urinary infection", "methotrexate-trimethoprim"),
    ("May methotrexate and trimethoprim be given together?", "methotrexate-trimethoprim"),
    ("sildenafil with nitroglycerin spray for angina", "nitrate-sildenafil"),
    ("Can a man on nitrates take sildenafil?", "nitrate-sildenafil"),
];

const PASSAGES: [(&str, &str, &str); 5] = [
    (
        "warfarin-nsaid",
        "Warfarin with ibuprofen, naproxen and other NSAIDs",
        "Ibuprofen, naproxen and other anti-inflammatory painkillers raise the risk of bleeding with warfarin.",
    ),
    (
        "ssri-tramadol",
        "Sertraline and other SSRIs with tramadol",
        "Tramadol with sertraline can cause serotonin syndrome: agitation, sweating, tremor and a racing heart.",
    ),
    (
        "statin-grapefruit",
        "Simvastatin with grapefruit juice",
        "Grapefruit juice raises the level of simvastatin in the blood, and with it the risk of muscle damage.",
    ),
    (
        "methotrexate-trimethoprim",
        "Methotrexate with trimethoprim",
        "Trimethoprim taken with methotrexate can suppress the bone marrow, even with a low weekly dose.",
    ),
    (
        "nitrate-sildenafil",
        "Nitrates with sildenafil",
        "Sildenafil must not be taken with nitroglycerin or other nitrates: the blood pressure can fall dangerously.",
    ),
];

const GENERAL: [&str; 8] = [
    "What are the opening hours of the clinic?",
    "Where can visitors park their car?",
    "How long should a child sleep at night?",
    "How many minutes of walking a week keep me fit?",
    "How do I book a routine appointment?",
    "Is there a cafeteria in the building?",
    "Which foods are rich in fibre?",
    "How do I stop smoking?",
];

/// Writes the mesh into `dir`: `mesh.yaml`, and a directory for each expert.
pub(super) fn clinic(dir: &Path) {
    let (questions, passages) = (QUESTIONS.map(|(text, _)| text), PASSAGES.map(passage));
    retrieving(dir, EXPERT, "Checks medicines against each other and against foods.", (&questions, &passages));
    let about = ("opening", "About the clinic", "The clinic opens at eight and closes at six, from Monday to Friday.");
    retrieving(dir, "general", "Answers general questions about health and the clinic.", (&GENERAL, &[passage(about)]));
    mesh(dir, MESH, &json!({"encoder": "minilm-l6", "fallback": "general"}));
}

/// Subjects that join the clinic while it runs: an expert's name, and what it should get. The first of these is asked.
pub const NEWCOMERS: [(&str, [&str; 4]); 3] = [
    (
        "dialysis",
        [
            "When is my next dialysis session?",
            "How long does one dialysis session take?",
            "May I eat before dialysis?",
            "What happens when I miss a dialysis session?",
        ],
    ),
    (
        "eyes",
        [
            "Since yesterday I see flashes of light in my left eye",
            "How often should a diabetic have the eyes examined?",
            "Which eye drops help against glaucoma?",
            "What is a cataract operation like?",
        ],
    ),
    (
        "vaccination",
        [
            "Which vaccinations do I need before a trip to Brazil?",
            "When is the second dose against measles due?",
            "Can I be vaccinated while I have a cold?",
            "How long does a tetanus vaccination last?",
        ],
    ),
];

/// Writes the files of one of the [`NEWCOMERS`].
pub(super) fn newcomer(dir: &Path, name: &str, examples: &[&str]) {
    let about = ("about", name, "What there is to know about this fills a book, of which this is a sentence.");
    retrieving(dir, name, &format!("Answers questions about {name}."), (examples, &[passage(about)]));
}

/// Writes `mesh.yaml` for the experts that are described in directories beside it.
pub(super) fn mesh(dir: &Path, name: &str, gate: &Value) {
    // JSON is YAML too.
    let mesh = json!({"name": name, "models": models(), "gate": gate, "experts": ["*/expert.yaml"]});
    write(&dir.join("mesh.yaml"), &mesh.to_string());
}

/// Writes an expert's `expert.yaml` into a directory of its own, which it returns. `more` is what this one does, and how
/// soon.
pub(super) fn expert(dir: &Path, name: &str, summary: &str, more: &Value) -> PathBuf {
    let dir = dir.join(name);
    fs::create_dir_all(&dir).expect("a temporary directory can be made");
    let mut expert = json!({"name": name, "version": "1", "summary": summary, "idempotent": true});
    let (fields, more) = (expert.as_object_mut(), more.as_object());
    fields.expect("it is one").extend(more.expect("it is one").clone());
    write(&dir.join("expert.yaml"), &expert.to_string());
    dir
}

fn retrieving(dir: &Path, name: &str, summary: &str, (examples, knowledge): (&[&str], &[String])) {
    let does = json!({
        "examples": "examples.txt",
        "accepts": ["text"],
        "task": {"kind": "retrieve", "model": "minilm-l6", "knowledge": "knowledge.jsonl", "top": 3},
        "slo": {"latency": "150ms", "objective": 0.99},
    });
    let dir = expert(dir, name, summary, &does);
    write(&dir.join("examples.txt"), &examples.join("\n"));
    write(&dir.join("knowledge.jsonl"), &knowledge.join("\n"));
}

fn passage((id, title, text): (&str, &str, &str)) -> String {
    let source = json!({"title": "Handbook of the test clinic"});
    json!({"id": id, "title": title, "text": text, "source": source, "as_of": "2026-01-15"}).to_string()
}

pub(super) fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a temporary file can be written");
}

/// A directory with everything in it.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a temporary directory can be made");
    for entry in fs::read_dir(from).expect("the fixtures are built: `make setup`") {
        let entry = entry.expect("a directory can be read");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a temporary file can be written");
        }
    }
}
