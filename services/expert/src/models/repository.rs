//! A Triton-like directory of models, `<model>/<version>/model.onnx`, as it lies on disk. Looks, opens nothing.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// What [`is_model_name`] takes, in words.
pub(crate) const MODEL_NAME: &str = "letters, digits, '-', '_' and '.', and no '.' in front";

const MODEL_FILE: &str = "model.onnx";
/// What Triton describes a model in. Everything that we need to know is in the model itself.
const TRITON_CONFIG: &str = "config.pbtxt";

/// What is in a repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The highest version of each model.
    pub(crate) models: BTreeMap<String, Version>,
    /// Directories that hold a model and whose name no model can have.
    pub(crate) misnamed: Vec<String>,
    /// Models with a `config.pbtxt`.
    pub(crate) configured: Vec<String>,
}

/// A version of a model and where its `model.onnx` lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// From 1; at most what clients that count in `int64` can read.
    pub(crate) number: u64,
    pub(crate) dir: PathBuf,
}

/// Looks through a repository. Directories without a `<version>/model.onnx` are no models, nor are those that may not be
/// looked into, such as a volume's `lost+found`; files beside them are not looked at.
///
/// # Errors
/// When the directory itself cannot be read.
pub(crate) fn scan(dir: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    for entry in fs::read_dir(dir)? {
        let dir = entry?.path();
        // What starts with a dot is somebody's own business, such as `.git`.
        let Some(name) = name(&dir).filter(|name| !name.starts_with('.')) else { continue };
        let Some(version) = highest(&dir) else { continue };
        if !is_model_name(&name) {
            found.misnamed.push(name);
            continue;
        }
        if dir.join(TRITON_CONFIG).exists() {
            found.configured.push(name.clone());
        }
        found.models.insert(name, version);
    }
    found.misnamed.sort();
    found.configured.sort();
    Ok(found)
}

/// Whether a model, or the directory of one, may be called so.
pub(crate) fn is_model_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The highest version that is there whole: one that is being copied has no `model.onnx` yet, and one that is being removed
/// is gone between two looks.
fn highest(model: &Path) -> Option<Version> {
    let mut highest: Option<Version> = None;
    for entry in fs::read_dir(model).ok()?.flatten() {
        let dir = entry.path();
        let Some(number) = name(&dir).as_deref().and_then(version) else { continue };
        if highest.as_ref().is_none_or(|highest| highest.number < number) && dir.join(MODEL_FILE).is_file() {
            highest = Some(Version { number, dir });
        }
    }
    highest
}

/// A version has one spelling: `01` is none.
fn version(name: &str) -> Option<u64> {
    let number = name.parse::<u64>().ok().filter(|number| (1..=i64::MAX as u64).contains(number))?;
    (number.to_string() == name).then_some(number)
}

fn name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn the_highest_whole_version_of_each_model_is_found() {
        let dir = repository(&[
            "README.md",
            ".git/1/model.onnx",
            "add/1/model.onnx",
            "add/2/model.onnx",
            "add/10/model.onnx",
            "add/11/model.onnx.part",
            "add/012/model.onnx",
            "add/+13/model.onnx",
            "add/9223372036854775808/model.onnx",
            "add/config.pbtxt",
            "name.with-dots_1/7/model.onnx",
            "no version/1/model.onnx",
            "zero/0/model.onnx",
            "empty/notes.txt",
        ]);
        // What cannot be looked into is no model, and hides none.
        std::os::unix::fs::symlink("nowhere", dir.path().join("gone")).unwrap();
        let found = scan(dir.path()).unwrap();
        let models: Vec<_> = found.models.iter().map(|(name, version)| (name.as_str(), version.number)).collect();
        assert_eq!(models, [("add", 10), ("name.with-dots_1", 7)]);
        assert_eq!(found.models["add"].dir, dir.path().join("add/10"));
        assert_eq!((found.misnamed, found.configured), (vec!["no version".to_owned()], vec!["add".to_owned()]));
    }

    #[test]
    fn a_directory_that_is_not_there_cannot_be_scanned() {
        assert!(scan(Path::new("nowhere/at/all")).is_err());
    }

    #[test]
    fn names_stay_inside_of_their_directory() {
        for good in ["a", "A-1_b.onnx", "0"] {
            assert!(is_model_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "a\\b", "ä", "a b", "a\0"] {
            assert!(!is_model_name(bad), "{bad:?}");
        }
    }
}
