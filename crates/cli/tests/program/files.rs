//! A small mesh on the small fixture model, in a directory of its own, to run or to break.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

const MESH: &str = r#"
name: market
listen: 127.0.0.1:0
admin: 127.0.0.1:0
models: models
settle: 0s
gate:
  encoder: tiny-text
  dimensions:
    audience: {values: [buyer, seller], summary: Who asks.}
  rules:
    - {name: stand, when: '"stand" in labels && labels["stand"] == "fruit"', require: [fruit]}
    - {name: closed, when: '"closed" in labels', forbid: [fruit, travel]}
experts: [experts/*/expert.yaml]
"#;

const FRUIT: &str = "
name: fruit
version: '1'
summary: Knows which fruit there is at the market.
examples: examples.txt
serves: {audience: [buyer]}
accepts: [text]
task: {kind: retrieve, model: tiny-text, knowledge: knowledge.jsonl, top: 1}
slo: {latency: 500ms, objective: 0.99}
";

const TRAVEL: &str = "
name: travel
version: '1'
summary: Turns questions about the way to the market into vectors.
accepts: [text]
task: {kind: embed, model: tiny-text}
slo: {latency: 500ms, objective: 0.99}
";

const KNOWLEDGE: &str =
    r#"{"id": "f-1", "title": "Apples", "text": "An apple is a fruit. It is red.", "as_of": "2024-01-01"}"#;

pub(crate) struct Files {
    dir: TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self { dir: TempDir::new().unwrap() };
        files.write("mesh.yaml", MESH);
        files.write("experts/fruit/expert.yaml", FRUIT);
        files.write("experts/fruit/examples.txt", "is an apple red\nan apple and a fruit\n");
        files.write("experts/fruit/knowledge.jsonl", KNOWLEDGE);
        files.write("experts/travel/expert.yaml", TRAVEL);
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/build/fixtures/tiny-text");
        for file in ["manifest.json", "model.onnx", "tokenizer.json"] {
            let from = fixture.join(file);
            let bytes = fs::read(&from).unwrap_or_else(|_| panic!("{} is missing: run `make setup`", from.display()));
            files.write(&format!("models/tiny-text/{file}"), bytes);
        }
        files
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// `mesh.yaml`, as an argument.
    pub(crate) fn mesh(&self) -> String {
        self.path("mesh.yaml").display().to_string()
    }

    pub(crate) fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Breaks a file: `from` must be in it.
    pub(crate) fn replace(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        self.write(file, text.replacen(from, to, 1));
    }
}
