//! Model directories, looked at without loading anything: the manifest, and whether the files are what it says.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use consilium_engine::{Inspection, Kind, Manifest, TensorEntry};
use serde::Serialize;

/// In every model directory.
pub(crate) const MANIFEST: &str = "manifest.json";

/// What `consilium models` shows of a directory.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Model {
    pub(crate) directory: PathBuf,
    /// What the manifest says; `None` where it cannot be read.
    #[serde(flatten)]
    pub(crate) card: Option<Card>,
    #[serde(skip)]
    pub(crate) manifest: Option<Manifest>,
    /// Every file is there and is what the manifest says.
    pub(crate) verified: bool,
    /// Everything that is wrong; empty when verified.
    pub(crate) problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Card {
    pub(crate) name: String,
    pub(crate) version: String,
    /// `text` or `tensors`
    pub(crate) kind: &'static str,
    pub(crate) size_bytes: u64,
    /// SHA-256 of the manifest: the model's identity.
    pub(crate) digest: String,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) licence: String,
    pub(crate) source: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
}

/// Reads the manifest and every byte of the files that it lists.
pub(crate) fn inspect(dir: &Path) -> Model {
    let Inspection { manifest, digest, problems } = consilium_engine::inspect(dir);
    Model {
        directory: dir.to_owned(),
        card: manifest.as_ref().zip(digest).map(|(manifest, digest)| Card::new(manifest, digest)),
        manifest,
        verified: problems.is_empty(),
        problems,
    }
}

/// The model directories at `path`: itself, else those right below it, sorted. Empty where there are none.
pub(crate) fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path.join(MANIFEST).is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let dir = entry?.path();
        if dir.join(MANIFEST).is_file() {
            found.push(dir);
        }
    }
    found.sort();
    Ok(found)
}

impl Card {
    fn new(manifest: &Manifest, digest: String) -> Self {
        let tensor = |entry: &TensorEntry| Tensor {
            name: entry.name.clone(),
            datatype: entry.datatype.to_string(),
            shape: entry.shape.clone(),
        };
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            kind: match manifest.kind {
                Kind::Text => "text",
                Kind::Tensors => "tensors",
            },
            size_bytes: manifest.files.iter().map(|file| file.size).sum(),
            digest,
            inputs: manifest.inputs.iter().map(tensor).collect(),
            outputs: manifest.outputs.iter().map(tensor).collect(),
            licence: manifest.licence.clone(),
            source: manifest.source.clone(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// The smallest file that is an ONNX model: one with an empty graph.
    pub(crate) const ONNX: &[u8] = &[0x3a, 0x00];

    fn sha256(bytes: &[u8]) -> String {
        use std::fmt::Write as _;
        Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
    }

    /// Writes a model directory whose only file is `content`.
    pub(crate) fn write(dir: &Path, name: &str, kind: &str, content: &[u8]) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("model.onnx"), content).unwrap();
        let entry = |path: &str| {
            let bytes = fs::read(dir.join(path)).unwrap();
            json!({"path": path, "size": bytes.len(), "sha256": sha256(&bytes)})
        };
        let tensor =
            |name: &str, datatype: &str, shape: &[i64]| json!({"name": name, "datatype": datatype, "shape": shape});
        let mut manifest = json!({
            "schema": 1, "name": name, "version": "1", "kind": kind, "model": "model.onnx",
            "files": [entry("model.onnx")],
            "inputs": [tensor("a", "FP32", &[-1, 4])],
            "outputs": [tensor("embedding", "FP32", &[-1, 8])],
            "licence": "Apache-2.0", "source": "made for tests",
        });
        if kind == "text" {
            fs::write(dir.join("tokenizer.json"), b"{}").unwrap();
            manifest["files"] = json!([entry("model.onnx"), entry("tokenizer.json")]);
            manifest["tokenizer"] = json!({"file": "tokenizer.json", "max_tokens": 8, "vocab_size": 9, "pad_id": 0});
            manifest["inputs"] =
                json!([tensor("input_ids", "INT64", &[-1, -1]), tensor("attention_mask", "INT64", &[-1, -1])]);
        }
        fs::write(dir.join(MANIFEST), manifest.to_string()).unwrap();
    }

    #[test]
    fn what_the_manifest_says_is_shown_and_its_files_are_verified() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("b"), "adder", "tensors", ONNX);
        write(&root.path().join("a"), "reader", "text", ONNX);
        fs::create_dir(root.path().join("no-model")).unwrap();

        let found = directories(root.path()).unwrap();
        assert_eq!(found, [root.path().join("a"), root.path().join("b")]);
        let model = inspect(&found[1]);
        assert!(model.verified, "{model:?}");
        let json = serde_json::to_value(&model).unwrap();
        assert_eq!(
            (&json["name"], &json["kind"], &json["size_bytes"]),
            (&"adder".into(), &"tensors".into(), &2.into())
        );
        assert_eq!(json["inputs"], json!([{"name": "a", "datatype": "FP32", "shape": [-1, 4]}]));
        let digest = sha256(&fs::read(found[1].join(MANIFEST)).unwrap());
        assert_eq!(json["digest"], digest.as_str());
    }

    #[test]
    fn files_that_are_not_what_the_manifest_says_are_all_named() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "reader", "text", ONNX);
        fs::write(root.path().join("model.onnx"), b"no").unwrap();
        fs::write(root.path().join("tokenizer.json"), b"{} ").unwrap();
        let model = inspect(root.path());
        assert!(!model.verified);
        assert!(model.problems[0].starts_with("model.onnx: sha256 mismatch"), "{model:?}");
        assert_eq!(model.problems[1], "tokenizer.json: expected 2 bytes, found more");
    }

    #[test]
    fn a_file_that_is_no_model_is_told_though_its_hash_is_right() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "adder", "tensors", b"garbage");
        let model = inspect(root.path());
        assert!(!model.verified && model.problems[0].starts_with("model.onnx: "), "{model:?}");
        assert!(model.card.is_some(), "what it claims to be is shown all the same");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_directory_is_refused_whatever_it_leads_to() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(root.path(), "adder", "tensors", ONNX);
        fs::rename(root.path().join("model.onnx"), outside.path().join("model.onnx")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("model.onnx"), root.path().join("model.onnx")).unwrap();
        assert!(inspect(root.path()).problems[0].contains("leads out of the model directory"));
    }

    #[test]
    fn a_manifest_that_is_none_has_problems_and_no_card() {
        let root = tempfile::tempdir().unwrap();
        assert!(inspect(root.path()).problems[0].starts_with("manifest.json: "));
        fs::write(root.path().join(MANIFEST), "{}").unwrap();
        let model = inspect(root.path());
        assert!(model.card.is_none() && model.problems.len() > 5, "{model:?}");
    }
}
