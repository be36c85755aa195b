//! Model directories, looked at without loading anything: the manifest, and whether the files are what it says.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use consilium_engine::{FileEntry, Kind, Manifest, TensorEntry};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "manifest.json";
/// The engine reads no larger one.
const MAX_MANIFEST: u64 = 1 << 20;
const CHUNK: usize = 1 << 20;

/// What `consilium models` shows of a directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Model {
    pub(crate) directory: PathBuf,
    /// What the manifest says; `None` where it cannot be read.
    #[serde(flatten)]
    pub(crate) card: Option<Card>,
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
    match manifest(dir) {
        Ok((manifest, digest)) => {
            let problems: Vec<String> = manifest
                .files
                .iter()
                .filter_map(|entry| Some(format!("{}: {}", entry.path, problem(dir, entry)?)))
                .collect();
            Model {
                directory: dir.to_owned(),
                card: Some(Card::new(&manifest, digest)),
                verified: problems.is_empty(),
                problems,
            }
        }
        Err(problems) => Model { directory: dir.to_owned(), card: None, verified: false, problems },
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

fn manifest(dir: &Path) -> Result<(Manifest, String), Vec<String>> {
    let mut bytes = Vec::new();
    let read = File::open(dir.join(MANIFEST)).and_then(|file| file.take(MAX_MANIFEST + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => return Err(vec![format!("{MANIFEST}: {error}")]),
        Ok(_) if bytes.len() as u64 > MAX_MANIFEST => return Err(vec![format!("{MANIFEST}: larger than 1 MiB")]),
        Ok(_) => {}
    }
    let digest = hex(&Sha256::digest(&bytes));
    Ok((Manifest::parse(&bytes)?, digest))
}

/// What is wrong with a file, if something is.
fn problem(dir: &Path, entry: &FileEntry) -> Option<String> {
    let path = dir.join(&entry.path);
    let inside = dir.canonicalize().ok().zip(path.canonicalize().ok()).is_none_or(|(dir, path)| path.starts_with(dir));
    if !inside {
        return Some("a link that leads out of the model directory".to_owned());
    }
    let size = match fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) => return Some(error.to_string()),
    };
    if size != entry.size {
        return Some(format!("expected {} bytes, found {size}", entry.size));
    }
    match sha256(&path) {
        Ok(found) if found == entry.sha256 => None,
        Ok(found) => Some(format!("sha256 mismatch: expected {}, found {found}", entry.sha256)),
        Err(error) => Some(error.to_string()),
    }
}

/// In pieces: a model may be larger than the memory that is free.
fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK];
    let mut hash = Sha256::new();
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(chunk.get(..read).unwrap_or_default()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Writes a model directory whose only file is `content`.
    pub(crate) fn write(dir: &Path, name: &str, kind: &str, content: &[u8]) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("model.onnx"), content).unwrap();
        let entry = |path: &str| {
            let bytes = fs::read(dir.join(path)).unwrap();
            json!({"path": path, "size": bytes.len(), "sha256": hex(&Sha256::digest(&bytes))})
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
        write(&root.path().join("b"), "adder", "tensors", b"bytes");
        write(&root.path().join("a"), "reader", "text", b"bytes");
        fs::create_dir(root.path().join("no-model")).unwrap();

        let found = directories(root.path()).unwrap();
        assert_eq!(found, [root.path().join("a"), root.path().join("b")]);
        let model = inspect(&found[1]);
        assert!(model.verified, "{model:?}");
        let json = serde_json::to_value(&model).unwrap();
        assert_eq!(
            (&json["name"], &json["kind"], &json["size_bytes"]),
            (&"adder".into(), &"tensors".into(), &5.into())
        );
        assert_eq!(json["inputs"], json!([{"name": "a", "datatype": "FP32", "shape": [-1, 4]}]));
        let digest = hex(&Sha256::digest(fs::read(found[1].join(MANIFEST)).unwrap()));
        assert_eq!(json["digest"], digest.as_str());
    }

    #[test]
    fn files_that_are_not_what_the_manifest_says_are_all_named() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "reader", "text", b"bytes");
        fs::write(root.path().join("model.onnx"), b"other").unwrap();
        fs::write(root.path().join("tokenizer.json"), b"{} ").unwrap();
        let model = inspect(root.path());
        assert!(!model.verified);
        assert!(model.problems[0].starts_with("model.onnx: sha256 mismatch"), "{model:?}");
        assert_eq!(model.problems[1], "tokenizer.json: expected 2 bytes, found 3");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_directory_is_refused_whatever_it_leads_to() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(root.path(), "adder", "tensors", b"bytes");
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
