//! The files of a test's experts, and where the models are that `make setup` builds.

use std::{
    fmt::Write as _,
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
    pub(crate) fn write(&self, base: &Path) -> PathBuf {
        let dir = base.join(format!("{}-{}", self.name, self.version));
        fs::create_dir_all(&dir).expect("a temporary directory can be written");
        let mut yaml = format!(
            "name: {}\nversion: \"{}\"\nsummary: {}\nexamples: examples.txt\naccepts: [text]\n",
            self.name, self.version, self.summary
        );
        if !self.audience.is_empty() {
            writeln!(yaml, "serves: {{audience: [{}]}}", self.audience.join(", ")).expect("a string takes all");
        }
        // Small models on a busy machine: the objective is not what these tests are about.
        yaml.push_str("task: {kind: retrieve, model: tiny-text, knowledge: knowledge.jsonl, top: 2}\n");
        yaml.push_str("slo: {latency: 2s, objective: 0.9}\n");
        let knowledge: String = (0..3)
            .map(|n| {
                let text = format!("Passage {n} of {}. It has a second sentence. And a third one.", self.name);
                let source = json!({"title": format!("Handbook of {}", self.name)});
                let id = format!("{}-{n}", self.name);
                let title = format!("Passage {n}");
                format!("{}\n", json!({"id": id, "title": title, "text": text, "source": source, "as_of": "2026-01-15"}))
            })
            .collect();
        let write = |name: &str, text: &str| fs::write(dir.join(name), text).expect("a temporary file can be written");
        write("examples.txt", &self.examples.join("\n"));
        write("knowledge.jsonl", &knowledge);
        write("expert.yaml", &yaml);
        dir.join("expert.yaml")
    }
}
