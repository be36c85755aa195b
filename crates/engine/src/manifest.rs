//! `manifest.json`: what a model directory says of itself, checked. Reading the files it lists is `package`'s work.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use consilium_tensor::DataType;

/// The only schema there is so far.
const SCHEMA: u64 = 1;
/// Wider rows than any table of token vectors has use for: they are a few hundred.
const MOST_COLUMNS: usize = 1024;
/// The output that is a text's vector, where a model has several.
const EMBEDDING: &str = "embedding";
/// The name of the output that says more of a text, for whoever learns from it.
const FEATURES: &str = "features";

/// What the model eats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Text, through the tokenizer; every output is one row of floats per text.
    Text,
    /// Raw tensors in, raw tensors out.
    Tensors,
}

/// A checked manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Name of the model, unique in a mesh.
    pub name: String,
    /// Version, an integer as a string.
    pub version: String,
    /// What the model eats.
    pub kind: Kind,
    /// Path of the ONNX file, relative to the directory; one of `files`.
    pub model: String,
    /// Every file the model needs.
    pub files: Vec<FileEntry>,
    /// How text becomes token ids. Always there for [`Kind::Text`], never for [`Kind::Tensors`].
    pub tokenizer: Option<TokenizerEntry>,
    /// A table that gives a text's vector without a run of the model. Never for [`Kind::Tensors`].
    pub tokens: Option<TokensEntry>,
    /// The graph's inputs, in order.
    pub inputs: Vec<TensorEntry>,
    /// The graph's outputs, in order.
    pub outputs: Vec<TensorEntry>,
    /// Names of the classes of an output, by output; as many as its last dimension.
    pub labels: BTreeMap<String, Vec<String>>,
    /// Licence of the weights.
    pub licence: String,
    /// Where the weights come from.
    pub source: String,
    /// What the recipe measured, free-form.
    pub metrics: Value,
}

/// A file with its exact content.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FileEntry {
    /// Relative to the model directory, without `..`.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// How text becomes token ids.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TokenizerEntry {
    /// Path of the tokenizer in the `tokenizers` JSON format; one of `files`.
    pub file: String,
    /// Longest sequence the model takes, special tokens included.
    pub max_tokens: usize,
    /// Rows of the model's token embedding table: every id must be below it.
    pub vocab_size: u32,
    /// Id that fills the short rows of a batch.
    pub pad_id: u32,
}

/// A table with a vector for each token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TokensEntry {
    /// Path of the table in the safetensors format; one of `files`.
    pub file: String,
    /// One for each id: as many as the tokenizer's `vocab_size`.
    pub rows: u32,
    /// Width of a vector, 1 to 1024.
    pub columns: usize,
}

/// One input or output of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TensorEntry {
    /// Name in the graph.
    pub name: String,
    /// Type of every element.
    pub datatype: DataType,
    /// Sizes of the dimensions; -1 is free.
    pub shape: Vec<i64>,
    /// An input that need not be given: the graph has a value for it.
    #[serde(default)]
    pub optional: bool,
    /// Any number of dimensions: the graph does not say how many. `shape` is empty then.
    #[serde(skip)]
    pub any_rank: bool,
}

impl TensorEntry {
    /// Whether the first dimension is free, so that requests can be joined along it.
    pub fn batches(&self) -> bool {
        self.shape.first() == Some(&-1)
    }
}

impl Manifest {
    /// Parses and checks the bytes of a `manifest.json`. `Err` lists every problem, not only the first.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<String>> {
        let mut fields = match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Fields { fields, problems: Vec::new() },
            Ok(_) => return Err(vec!["manifest.json: expected a JSON object".to_owned()]),
            Err(error) => return Err(vec![format!("manifest.json: no JSON: {error}")]),
        };
        if let Some(schema) = fields.required::<u64>("schema").filter(|schema| *schema != SCHEMA) {
            fields.problem("schema", &format!("this program reads schema {SCHEMA}, not {schema}"));
        }
        let name = fields.required("name");
        let version = fields.required("version");
        let kind = fields.required("kind");
        let model = fields.required("model");
        let files = fields.list("files");
        let tokenizer = fields.optional("tokenizer");
        let tokens = fields.optional("tokens");
        let inputs = fields.list("inputs");
        let outputs = fields.list("outputs");
        let labels = fields.optional("labels").unwrap_or_default();
        let licence = fields.required("licence");
        let source = fields.required("source");
        let metrics = fields.optional("metrics").unwrap_or_default();
        let mut problems = fields.problems;

        if let (Some(name), Some(version), Some(kind), Some(model), Some(licence), Some(source)) =
            (name, version, kind, model, licence, source)
        {
            let manifest = Self {
                name,
                version,
                kind,
                model,
                files,
                tokenizer,
                tokens,
                inputs,
                outputs,
                labels,
                licence,
                source,
                metrics,
            };
            manifest.check(&mut problems);
            if problems.is_empty() {
                return Ok(manifest);
            }
        }
        Err(problems)
    }

    /// The output of that name.
    pub fn output(&self, name: &str) -> Option<&TensorEntry> {
        self.outputs.iter().find(|output| output.name == name)
    }

    /// Which output is the vector of a text, and how wide it is: the one called `embedding`, or the only one there is,
    /// with rows `[-1, width]`. `Err` says why the model is no sentence encoder.
    pub fn embedding(&self) -> Result<(usize, usize), &'static str> {
        if self.kind != Kind::Text {
            return Err("takes tensors; an encoder takes text");
        }
        let output = match self.outputs.iter().position(|output| output.name == EMBEDDING) {
            Some(named) => named,
            None if self.outputs.len() == 1 => 0,
            None => return Err("has several outputs and none is called `embedding`"),
        };
        let width = match self.outputs.get(output).map(|output| output.shape.as_slice()) {
            Some([_, width]) => usize::try_from(*width).ok().filter(|&width| width > 0),
            _ => None,
        };
        width.map(|width| (output, width)).ok_or("has an embedding without a fixed width, [-1, n]")
    }

    /// Which output of a sentence encoder is more about the text than its vector says, if any: the one called `features`,
    /// with rows `[-1, width]`. Layers in the middle know words that the last one has made a meaning of.
    pub fn features(&self) -> Option<usize> {
        let is_wide = |shape: &[i64]| matches!(shape, [_, width] if *width > 0);
        self.outputs.iter().position(|output| output.name == FEATURES && is_wide(&output.shape))
    }

    /// Whether the model declares a batch axis: the first dimension of every output, and of every input that must be
    /// given, is free. That rows do not touch each other is another matter: [`crate::Engine::joins`].
    pub fn batches(&self) -> bool {
        let mut needed = self.inputs.iter().filter(|input| !input.optional).peekable();
        needed.peek().is_some() && needed.chain(&self.outputs).all(TensorEntry::batches)
    }

    fn check(&self, problems: &mut Vec<String>) {
        if self.name.is_empty() || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            problems.push("name: expected letters, digits, `-`, `_` and `.` only".to_owned());
        }
        if self.version.parse::<u64>().is_err() {
            problems.push(format!("version: expected an integer as a string, got `{}`", self.version));
        }
        self.check_files(problems);
        check_tensors("inputs", &self.inputs, problems);
        check_tensors("outputs", &self.outputs, problems);
        match self.kind {
            Kind::Text => self.check_text(problems),
            Kind::Tensors => {
                let none = [("tokenizer", self.tokenizer.is_some()), ("tokens", self.tokens.is_some())];
                let there = none.iter().filter(|(_, is_there)| *is_there);
                problems.extend(there.map(|(field, _)| format!("{field}: a model of kind `tensors` has none")));
            }
        }
        for (name, labels) in &self.labels {
            match self.output(name).map(|output| output.shape.last()) {
                None => problems.push(format!("labels.{name}: there is no such output")),
                Some(Some(&classes)) if usize::try_from(classes).is_ok_and(|classes| classes != labels.len()) => {
                    problems.push(format!("labels.{name}: {} labels for {classes} classes", labels.len()));
                }
                Some(_) => {}
            }
        }
    }

    fn check_files(&self, problems: &mut Vec<String>) {
        let mut seen = BTreeSet::new();
        for (at, file) in self.files.iter().enumerate() {
            if !is_plain_relative(&file.path) {
                problems.push(format!("files[{at}].path: expected a relative path without `..`, got `{}`", file.path));
            }
            if !seen.insert(&file.path) {
                problems.push(format!("files[{at}].path: `{}` is listed twice", file.path));
            }
            if file.sha256.len() != 64 || !file.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            {
                problems.push(format!("files[{at}].sha256: expected 64 lower-case hex digits"));
            }
        }
        if !seen.contains(&self.model) {
            problems.push(format!("model: `{}` is not one of `files`", self.model));
        }
        if let Some(tokenizer) = self.tokenizer.as_ref().filter(|tokenizer| !seen.contains(&tokenizer.file)) {
            problems.push(format!("tokenizer.file: `{}` is not one of `files`", tokenizer.file));
        }
        if let Some(tokens) = self.tokens.as_ref().filter(|tokens| !seen.contains(&tokens.file)) {
            problems.push(format!("tokens.file: `{}` is not one of `files`", tokens.file));
        }
    }

    fn check_text(&self, problems: &mut Vec<String>) {
        match &self.tokenizer {
            None => problems.push("tokenizer: a model of kind `text` needs one".to_owned()),
            Some(tokenizer) => {
                if tokenizer.max_tokens < 2 {
                    problems.push("tokenizer.max_tokens: expected at least 2, for the special tokens".to_owned());
                }
                if tokenizer.pad_id >= tokenizer.vocab_size {
                    problems.push("tokenizer.pad_id: not below vocab_size".to_owned());
                }
            }
        }
        if let (Some(tokens), Some(tokenizer)) = (&self.tokens, &self.tokenizer)
            && tokens.rows != tokenizer.vocab_size
        {
            let TokensEntry { rows, .. } = tokens;
            problems.push(format!("tokens.rows: {rows}, but tokenizer.vocab_size is {}", tokenizer.vocab_size));
        }
        if let Some(TokensEntry { columns, .. }) =
            self.tokens.as_ref().filter(|it| !(1..=MOST_COLUMNS).contains(&it.columns))
        {
            problems.push(format!("tokens.columns: expected 1 to {MOST_COLUMNS}, got {columns}"));
        }
        for (at, input) in self.inputs.iter().enumerate() {
            if !["input_ids", "attention_mask", "token_type_ids"].contains(&input.name.as_str()) {
                problems.push(format!(
                    "inputs[{at}].name: a text model takes input_ids, attention_mask and token_type_ids"
                ));
            }
            if input.optional {
                problems.push(format!("inputs[{at}].optional: a text model is given all its inputs"));
            }
            if input.shape != [-1, -1] || !matches!(input.datatype, DataType::Int64 | DataType::Int32) {
                problems.push(format!("inputs[{at}]: a text model takes INT64 or INT32 of shape [-1, -1]"));
            }
        }
        if !self.inputs.iter().any(|input| input.name == "input_ids") {
            problems.push("inputs: a text model takes input_ids".to_owned());
        }
        for (at, output) in self.outputs.iter().enumerate() {
            if output.datatype != DataType::Fp32 || !output.batches() {
                problems.push(format!("outputs[{at}]: a text model gives FP32 with a free first dimension"));
            }
        }
    }
}

/// Relative, made of ordinary names only: it cannot leave the directory it is joined to (symlinks aside).
pub(crate) fn is_plain_relative(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

fn check_tensors(field: &str, tensors: &[TensorEntry], problems: &mut Vec<String>) {
    if tensors.is_empty() {
        problems.push(format!("{field}: expected at least one"));
    }
    let mut seen = BTreeSet::new();
    for (at, tensor) in tensors.iter().enumerate() {
        if tensor.name.is_empty() || !seen.insert(&tensor.name) {
            problems.push(format!("{field}[{at}].name: `{}` is empty or listed twice", tensor.name));
        }
        if tensor.shape.iter().any(|&dimension| dimension == 0 || dimension < -1) {
            problems.push(format!("{field}[{at}].shape: expected sizes of at least 1, or -1 for free"));
        }
    }
}

/// Takes the fields of a JSON object one by one, so that one bad field does not hide the next.
struct Fields {
    fields: Map<String, Value>,
    problems: Vec<String>,
}

impl Fields {
    fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.fields.remove(key).filter(|value| !value.is_null())?;
        self.typed(key, value)
    }

    fn required<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        if !self.fields.contains_key(key) {
            self.problem(key, "missing");
        }
        self.optional(key)
    }

    fn list<T: DeserializeOwned>(&mut self, key: &str) -> Vec<T> {
        let items: Vec<Value> = self.required(key).unwrap_or_default();
        items.into_iter().enumerate().filter_map(|(at, item)| self.typed(&format!("{key}[{at}]"), item)).collect()
    }

    fn typed<T: DeserializeOwned>(&mut self, path: &str, value: Value) -> Option<T> {
        serde_json::from_value(value).map_err(|error| self.problem(path, &error.to_string())).ok()
    }

    fn problem(&mut self, path: &str, problem: &str) {
        self.problems.push(format!("{path}: {problem}"));
    }
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "schema": 1, "name": "m", "version": "1", "kind": "text", "model": "model.onnx",
            "files": [
                {"path": "model.onnx", "size": 1, "sha256": "a".repeat(64)},
                {"path": "tokenizer.json", "size": 1, "sha256": "b".repeat(64)},
            ],
            "tokenizer": {"file": "tokenizer.json", "max_tokens": 16, "vocab_size": 10, "pad_id": 0},
            "inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]}],
            "outputs": [{"name": "urgency", "datatype": "FP32", "shape": [-1, 3]}],
            "labels": {"urgency": ["emergency", "urgent", "routine"]},
            "licence": "Apache-2.0", "source": "made for tests",
        })
    }

    fn problems(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut manifest = sample();
        change(&mut manifest);
        Manifest::parse(manifest.to_string().as_bytes()).expect_err("should be refused")
    }

    #[test]
    fn a_good_manifest_is_read() {
        let manifest = Manifest::parse(sample().to_string().as_bytes()).unwrap();
        assert_eq!(manifest.kind, Kind::Text);
        assert_eq!(manifest.tokenizer.as_ref().unwrap().max_tokens, 16);
        assert!(manifest.batches());
    }

    #[test]
    fn all_problems_are_listed_at_once() {
        let found = problems(|manifest| {
            manifest["schema"] = json!(2);
            manifest["version"] = json!("1.0-beta");
            manifest["files"][0]["path"] = json!("../model.onnx");
            manifest["inputs"][0]["datatype"] = json!("FLOAT");
            manifest["labels"]["urgency"] = json!(["only one"]);
            manifest["tokenizer"]["pad_id"] = json!(10);
        });
        for field in ["schema", "version", "files[0].path", "model", "inputs[0]", "labels.urgency", "tokenizer.pad_id"]
        {
            assert!(found.iter().any(|problem| problem.starts_with(&format!("{field}:"))), "{field} not in {found:#?}");
        }
    }

    #[test]
    fn missing_fields_are_all_named() {
        let found = Manifest::parse(b"{}").expect_err("should be refused");
        for field in ["schema", "name", "version", "kind", "model", "files", "inputs", "outputs", "licence", "source"] {
            assert!(found.contains(&format!("{field}: missing")), "{field} not in {found:#?}");
        }
        assert!(Manifest::parse(b"[1]").is_err());
        assert!(Manifest::parse(b"\xff").is_err());
    }

    #[test]
    fn paths_that_could_leave_the_directory_are_refused() {
        for path in ["/etc/passwd", "../x", "a/../../x", "", ".", "./x/.."] {
            assert!(!is_plain_relative(path), "{path}");
        }
        for path in ["model.onnx", "weights/part-1.bin", "a..b"] {
            assert!(is_plain_relative(path), "{path}");
        }
    }

    #[test]
    fn a_tensors_model_needs_no_tokenizer_and_may_have_none() {
        let found = problems(|manifest| manifest["kind"] = json!("tensors"));
        assert_eq!(found, ["tokenizer: a model of kind `tensors` has none"]);
    }

    #[test]
    fn a_table_of_tokens_has_a_row_for_each_and_a_width() {
        let table = json!({"file": "tokenizer.json", "rows": 10, "columns": 256});
        let mut manifest = sample();
        manifest["tokens"] = table.clone();
        let tokens = Manifest::parse(manifest.to_string().as_bytes()).unwrap().tokens.unwrap();
        assert_eq!((tokens.rows, tokens.columns), (10, 256));
        let found = problems(|manifest| manifest["tokens"] = json!({"file": "t", "rows": 11, "columns": 0}));
        assert_eq!(
            found,
            [
                "tokens.file: `t` is not one of `files`",
                "tokens.rows: 11, but tokenizer.vocab_size is 10",
                "tokens.columns: expected 1 to 1024, got 0",
            ]
        );
        let found = problems(|manifest| {
            manifest["kind"] = json!("tensors");
            manifest["tokens"] = table;
        });
        assert!(found.contains(&"tokens: a model of kind `tensors` has none".to_owned()), "{found:#?}");
    }

    #[test]
    fn a_text_model_without_its_inputs_is_refused() {
        let found = problems(|manifest| manifest["inputs"][0]["name"] = json!("ids"));
        assert!(found.contains(&"inputs: a text model takes input_ids".to_owned()), "{found:#?}");
    }
    #[test]
    fn a_sentence_encoder_has_one_vector_of_a_fixed_width() {
        let embedding = |kind: &str, outputs: &[(&str, Value)]| {
            let manifest = Manifest::parse(sample().to_string().as_bytes()).unwrap();
            let entry = |(name, shape): &(&str, Value)| json!({"name": name, "datatype": "FP32", "shape": shape});
            let outputs = serde_json::from_value(outputs.iter().map(entry).collect()).unwrap();
            let kind = serde_json::from_value(json!(kind)).unwrap();
            let manifest = Manifest { kind, outputs, ..manifest };
            assert_eq!(
                manifest.features(),
                manifest.outputs.iter().position(|it| it.name == "features" && it.shape == [-1, 3])
            );
            manifest.embedding()
        };
        let (row, free) = (json!([-1, 3]), json!([-1, -1]));
        assert_eq!(embedding("text", &[("features", row.clone()), ("embedding", row.clone())]), Ok((1, 3)));
        assert_eq!(embedding("text", &[("embedding", row.clone()), ("features", free.clone())]), Ok((0, 3)));
        assert_eq!(embedding("text", &[("urgency", row.clone())]), Ok((0, 3)));
        assert_eq!(embedding("text", &[("pooled", free.clone()), ("embedding", row.clone())]), Ok((1, 3)));
        assert!(embedding("text", &[("a", row.clone()), ("b", row.clone())]).is_err());
        assert!(embedding("text", &[("embedding", free)]).is_err());
        assert!(embedding("tensors", &[("embedding", row)]).is_err());
    }
}
