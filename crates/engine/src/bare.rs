//! A model directory without a manifest: `model.onnx` and the files that it names. Every byte is read once; what goes in
//! and comes out is for the graph to say, which `session` asks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Component, Path};
use std::sync::Arc;

use serde_json::Value;

use crate::error::Error;
use crate::manifest::{FileEntry, Kind, Manifest};
use crate::onnx::{self, Contents, Port};
use crate::package::{self, Inspection, Package};

/// What the model is called in its directory.
const MODEL: &str = "model.onnx";

/// Nobody said.
const UNKNOWN: &str = "unknown";

/// Whether there is a manifest, which then must be right.
pub(crate) fn has_manifest(dir: &Path) -> bool {
    dir.join("manifest.json").symlink_metadata().is_ok()
}

/// Checks a model directory as [`crate::Store::load_bare`] does, up to the point where ONNX Runtime is needed. With a
/// manifest it is [`crate::inspect`]; without one there is a digest and no manifest.
pub fn inspect_bare(dir: &Path) -> Inspection {
    if has_manifest(dir) {
        return package::inspect(dir);
    }
    match read(dir, UNKNOWN, UNKNOWN) {
        Ok(package) => Inspection { manifest: None, digest: Some(package.digest), problems: Vec::new() },
        Err(error) => Inspection { manifest: None, digest: None, problems: package::problems(error) },
    }
}

/// Reads the model and the external data that it names. The manifest that comes with it has no inputs and outputs yet.
///
/// `Err(Manifest)` with every file that cannot be read or lies outside the directory, and every input and output that
/// the protocol has no datatype for.
pub(crate) fn read(dir: &Path, name: &str, version: &str) -> Result<Package, Error> {
    let refused = |problems| Error::Manifest { dir: dir.to_owned(), problems };
    let root = dir.canonicalize().map_err(|error| refused(vec![error.to_string()]))?;
    let read = |path: &str| -> Result<Arc<[u8]>, String> {
        let found = package::resolve(&root, path)?;
        fs::read(found).map(Arc::from).map_err(|error| error.to_string())
    };
    let model = read(MODEL).map_err(|problem| refused(vec![format!("{MODEL}: {problem}")]))?;
    let contents = onnx::read(&model).map_err(|error| refused(vec![format!("{MODEL}: {error}")]))?;

    let mut problems = unservable(&contents);
    let mut files = BTreeMap::from([(MODEL.to_owned(), Arc::clone(&model))]);
    for location in &contents.external {
        if files.contains_key(location) {
            continue;
        }
        let bytes = if stays_inside(location) { read(location) } else { Err("outside the model directory".to_owned()) };
        match bytes {
            Ok(bytes) => drop(files.insert(location.clone(), bytes)),
            Err(problem) => {
                let problem = format!("{MODEL}: keeps data in `{location}`: {problem}");
                // A model names its data file once for every tensor in it.
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
    }
    if !problems.is_empty() {
        return Err(refused(problems));
    }
    let entries: Vec<FileEntry> = files.iter().map(|(path, bytes)| entry(path, bytes)).collect();
    let digest = digest(&entries);
    Ok(Package { dir: dir.to_owned(), manifest: manifest(name, version, entries), digest, files, bare: true })
}

/// One line for every input and output that no tensor of the protocol fits.
fn unservable(contents: &Contents<'_>) -> Vec<String> {
    let line = |field: &str, port: &Port<'_>| {
        format!("{field}[{}]: {}; expected a tensor of a datatype of the Open Inference Protocol", port.name, port.kind)
    };
    // An input with an initialiser need not be given: it is left out of what is offered.
    let inputs = contents.inputs.iter().filter(|port| !contents.initialised.contains(port.name));
    let inputs = inputs.filter(|port| !port.kind.goes_in()).map(|port| line("inputs", port));
    let outputs = contents.outputs.iter().filter(|port| !port.kind.comes_out()).map(|port| line("outputs", port));
    inputs.chain(outputs).collect()
}

fn stays_inside(location: &str) -> bool {
    let mut parts = Path::new(location).components();
    !location.is_empty() && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn entry(path: &str, bytes: &[u8]) -> FileEntry {
    FileEntry { path: path.to_owned(), size: bytes.len() as u64, sha256: package::sha256(bytes) }
}

/// The identity of the model: the hash of its files' paths, sizes and hashes, by path. No path contains a NUL.
fn digest(entries: &[FileEntry]) -> String {
    let mut list = String::new();
    for FileEntry { path, size, sha256 } in entries {
        // Writing into a string cannot fail.
        let _ = write!(list, "{path}\0{size}\0{sha256}\0");
    }
    package::sha256(list.as_bytes())
}

fn manifest(name: &str, version: &str, files: Vec<FileEntry>) -> Manifest {
    Manifest {
        name: name.to_owned(),
        version: version.to_owned(),
        kind: Kind::Tensors,
        model: MODEL.to_owned(),
        files,
        tokenizer: None,
        tokens: None,
        inputs: Vec::new(),
        outputs: Vec::new(),
        labels: BTreeMap::new(),
        licence: UNKNOWN.to_owned(),
        source: UNKNOWN.to_owned(),
        metrics: Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_external_data_stay_in_the_directory() {
        for inside in ["weights.bin", "./weights.bin", "data/part-1"] {
            assert!(stays_inside(inside), "{inside}");
        }
        for outside in ["", "../evil.bin", "/etc/passwd", "data/../../x"] {
            assert!(!stays_inside(outside), "{outside}");
        }
    }

    #[test]
    fn the_digest_tells_files_apart_by_path_and_content_and_nothing_else() {
        let of =
            |files: &[(&str, &[u8])]| digest(&files.iter().map(|(path, bytes)| entry(path, bytes)).collect::<Vec<_>>());
        let one = of(&[("model.onnx", b"abc")]);
        assert_eq!(one, of(&[("model.onnx", b"abc")]));
        assert_ne!(one, of(&[("model.onnx", b"abd")]));
        assert_ne!(one, of(&[("model.onnx", b"abc"), ("w", b"")]));
        assert_ne!(of(&[("m", b""), ("w", b"x")]), of(&[("m", b""), ("v", b"x")]));
    }

    #[test]
    fn a_directory_without_a_model_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let found = inspect_bare(dir.path());
        assert!(found.digest.is_none() && found.problems[0].starts_with("model.onnx: "), "{found:?}");
        fs::write(dir.path().join("model.onnx"), b"This is no model").unwrap();
        assert!(inspect_bare(dir.path()).problems[0].starts_with("model.onnx: "));
        // Once there is a manifest, it counts.
        fs::write(dir.path().join("manifest.json"), b"{}").unwrap();
        assert!(inspect_bare(dir.path()).problems.contains(&"schema: missing".to_owned()));
    }
}
