//! The files of a test's experts, and where the models are that `make setup` builds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The directory of the built models.
pub fn models() -> PathBuf {
    present("models/build")
}

/// The ONNX Runtime library.
pub fn onnxruntime() -> PathBuf {
    present(".tools/lib/libonnxruntime.so")
}

fn present(path: &str) -> PathBuf {
    let path = Path::new(ROOT).join(path);
    assert!(path.exists(), "{} is missing: run `make setup` first", path.display());
    path
}

/// A `retrieve` expert on the small model: what it should get, and what it knows.
#[derive(Debug, Clone)]
pub struct ExpertFiles {
    pub name: &'static str,
    pub version: &'static str,
    pub summary: &'static str,
    pub examples: &'static [&'static str],
    /// `audience` values that it serves; empty means all.
    pub audience: &'static [&'static str],
}

impl ExpertFiles {
    /// Checks blood values.
    pub const LABS: Self = Self {
        name: "labs",
        version: "1",
        summary: "Explains laboratory values of blood and urine.",
        examples: &[
            "what does a high potassium blood value mean",
            "is a low haemoglobin blood value dangerous",
            "explain the creatinine value in my urine",
            "which laboratory value shows inflammation in blood",
            "normal range of a fasting glucose blood value",
        ],
        audience: &[],
    };

    /// Finds pharmacies.
    pub const PHARMACY: Self = Self {
        name: "pharmacy",
        version: "1",
        summary: "Knows which tablets a pharmacy stocks and when it opens.",
        examples: &[
            "does the pharmacy stock ibuprofen tablets",
            "when does the pharmacy open on sunday for tablets",
            "can the pharmacy deliver my tablets at home",
            "price of paracetamol tablets at the pharmacy",
            "which pharmacy has amoxicillin tablets",
        ],
        audience: &["patient"],
    };

    /// Takes what nobody else does.
    pub const GENERAL: Self = Self {
        name: "general",
        version: "1",
        summary: "Answers general questions about the clinic.",
        examples: &[
            "where do visitors park at the clinic",
            "how do patients find the clinic entrance",
            "may visitors bring flowers into the clinic",
            "is there a cafeteria for visitors of the clinic",
            "how do visitors reach the clinic by bus",
        ],
        audience: &[],
    };

    /// Writes `expert.yaml` and what it names into a directory of its own below `base`.
    pub fn write(&self, base: &Path) -> PathBuf {
        let dir = base.join(format!("{}-{}", self.name, self.version));
        fs::create_dir_all(&dir).expect("a temporary directory can be written");
        let write =
            |name: &str, text: String| fs::write(dir.join(name), text).expect("a temporary file can be written");
        write("examples.txt", self.examples.join("\n"));
        write("knowledge.jsonl", (0..3).map(|n| self.passage(n)).collect::<Vec<_>>().join("\n"));
        let serves = if self.audience.is_empty() { json!({}) } else { json!({"audience": self.audience}) };
        // JSON is YAML too.
        let expert = json!({
            "name": self.name,
            "version": self.version,
            "summary": self.summary,
            "examples": "examples.txt",
            "serves": serves,
            "accepts": ["text"],
            "task": {"kind": "retrieve", "model": "tiny-text", "knowledge": "knowledge.jsonl", "top": 2},
            // Generous: a busy machine is not what these tests are about.
            "slo": {"latency": "2s", "objective": 0.9},
        });
        write("expert.yaml", expert.to_string());
        dir.join("expert.yaml")
    }

    fn passage(&self, n: usize) -> String {
        json!({
            "id": format!("{}-{n}", self.name),
            "title": format!("Passage {n}"),
            "text": format!("Passage {n} of {}. It has a second sentence. And a third one.", self.name),
            "source": {"title": format!("Handbook of {}", self.name)},
            "as_of": "2026-01-15",
        })
        .to_string()
    }
}
