//! Reading a model directory: the manifest, then every file it lists, checked on the very bytes that are loaded later.
//! Nothing is opened a second time, so a file that changes between the check and the load cannot slip through.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::manifest::{FileEntry, Manifest};
use crate::onnx::{self, Contents};
use crate::token_table::TokenTable;

/// A manifest is text that people read; a larger one is a mistake or an attack.
const MAX_MANIFEST: u64 = 1 << 20;

/// A model directory whose manifest bytes are known, so that its digest is.
pub(crate) struct Source {
    dir: PathBuf,
    manifest: Vec<u8>,
    /// Lower-case hex SHA-256 of the manifest's bytes: the identity of the model.
    pub(crate) digest: String,
}

/// A whole model in memory, every byte verified.
pub(crate) struct Package {
    pub(crate) dir: PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) digest: String,
    pub(crate) files: BTreeMap<String, Arc<[u8]>>,
    /// The manifest does not say what goes in and comes out: the graph does.
    pub(crate) bare: bool,
}

/// As the model names it, and its verified bytes.
type ExternalFile = (String, Arc<[u8]>);

/// What a model directory is, as far as that shows without running it.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// `None` where it cannot be read.
    pub manifest: Option<Manifest>,
    /// Lower-case hex SHA-256 of the manifest's bytes: the identity of the model.
    pub digest: Option<String>,
    /// Everything for which loading would refuse it; empty when there is nothing.
    pub problems: Vec<String>,
}

/// Checks a model directory as loading does, up to the point where ONNX Runtime is needed: the manifest, every byte of
/// the files that it lists, and what the model's own bytes refer to.
pub fn inspect(dir: &Path) -> Inspection {
    let source = match Source::open(dir) {
        Ok(source) => source,
        Err(error) => return Inspection { manifest: None, digest: None, problems: problems(error) },
    };
    let manifest = Manifest::parse(&source.manifest).ok();
    let digest = manifest.is_some().then(|| source.digest.clone());
    let checked = source.read().and_then(|package| {
        let contents = package.contents()?;
        package.token_table()?;
        package.external_files(&contents).map(drop)
    });
    Inspection { manifest, digest, problems: checked.err().map(problems).unwrap_or_default() }
}

pub(crate) fn problems(error: Error) -> Vec<String> {
    match error {
        Error::Manifest { problems, .. } => problems,
        other => vec![other.to_string()],
    }
}

impl Source {
    /// Reads `dir/manifest.json` and nothing else.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let refused = |problem: String| Error::Manifest { dir: dir.to_owned(), problems: vec![problem] };
        let path = dir.join("manifest.json");
        let manifest = read_bounded(&path, MAX_MANIFEST).map_err(|error| refused(format!("manifest.json: {error}")))?;
        if manifest.len() as u64 > MAX_MANIFEST {
            return Err(refused(format!("manifest.json: larger than {MAX_MANIFEST} bytes")));
        }
        let digest = sha256(&manifest);
        Ok(Self { dir: dir.to_owned(), manifest, digest })
    }

    /// Reads and verifies everything the manifest lists. All problems are reported together.
    pub(crate) fn read(self) -> Result<Package, Error> {
        let Self { dir, manifest, digest } = self;
        let refused = |problems| Error::Manifest { dir: dir.clone(), problems };
        let manifest = Manifest::parse(&manifest).map_err(refused)?;
        let root = dir.canonicalize().map_err(|error| refused(vec![error.to_string()]))?;
        let mut problems = Vec::new();
        let mut files = BTreeMap::new();
        for entry in &manifest.files {
            match read_entry(&root, entry) {
                Ok(bytes) => {
                    files.insert(entry.path.clone(), bytes);
                }
                Err(problem) => problems.push(format!("{}: {problem}", entry.path)),
            }
        }
        if problems.is_empty() {
            Ok(Package { dir, manifest, digest, files, bare: false })
        } else {
            Err(refused(problems))
        }
    }
}

impl Package {
    /// The verified bytes of a listed file; empty for an unlisted one, which `Manifest::parse` rules out.
    pub(crate) fn file(&self, path: &str) -> &[u8] {
        self.files.get(path).map_or(&[], |bytes| bytes)
    }

    /// What the model's bytes say of themselves, before ONNX Runtime sees them.
    pub(crate) fn contents(&self) -> Result<Contents<'_>, Error> {
        let model = &self.manifest.model;
        onnx::read(self.file(model)).map_err(|error| self.refused(vec![format!("{model}: {error}")]))
    }

    /// The table of token vectors, where the manifest has one. `Err` says what of it is not as the manifest says.
    pub(crate) fn token_table(&self) -> Result<Option<TokenTable>, Error> {
        let Some(entry) = &self.manifest.tokens else { return Ok(None) };
        let table = TokenTable::from_bytes(self.file(&entry.file), entry);
        table.map(Some).map_err(|problem| self.refused(vec![problem]))
    }

    /// The external data files of the model, each as the model names it. `Err` for one that is not in the manifest.
    pub(crate) fn external_files(&self, contents: &Contents<'_>) -> Result<Vec<ExternalFile>, Error> {
        let mut locations = contents.external.clone();
        locations.sort();
        locations.dedup();
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        for location in locations {
            match self.beside_model(&location) {
                Some(bytes) => found.push((location, bytes)),
                None => problems
                    .push(format!("{}: keeps data in `{location}`, which is not in the manifest", self.manifest.model)),
            }
        }
        if problems.is_empty() { Ok(found) } else { Err(self.refused(problems)) }
    }

    /// A file that the model names relative to its own place, as external data does.
    fn beside_model(&self, location: &str) -> Option<Arc<[u8]>> {
        let path = Path::new(&self.manifest.model).with_file_name(location);
        self.files.get(path.to_str()?).cloned()
    }

    pub(crate) fn refused(&self, problems: Vec<String>) -> Error {
        Error::Manifest { dir: self.dir.clone(), problems }
    }
}

fn read_entry(root: &Path, entry: &FileEntry) -> Result<Arc<[u8]>, String> {
    let path = resolve(root, &entry.path)?;
    let bytes = read_bounded(&path, entry.size).map_err(|error| error.to_string())?;
    if bytes.len() as u64 != entry.size {
        let found = if bytes.len() as u64 > entry.size { "more".to_owned() } else { bytes.len().to_string() };
        return Err(format!("expected {} bytes, found {found}", entry.size));
    }
    let found = sha256(&bytes);
    if found != entry.sha256 {
        return Err(format!("sha256 mismatch: expected {}, found {found}", entry.sha256));
    }
    Ok(bytes.into())
}

/// The regular file that `path` means in the canonical directory `root`. Symlinks are allowed inside it (mounted volumes
/// are made of them) and nowhere else.
pub(crate) fn resolve(root: &Path, path: &str) -> Result<PathBuf, String> {
    let path = root.join(path).canonicalize().map_err(|error| error.to_string())?;
    if !path.starts_with(root) {
        return Err("a link that leads out of the model directory".to_owned());
    }
    if !path.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err("not a regular file".to_owned());
    }
    Ok(path)
}

/// At most one byte more than `limit`: enough to see that a file is longer, not enough to fill the memory with it.
fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Lower-case hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Bytes::copy_from_slice(&Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    /// A directory with `model.onnx` = `content` and a manifest that says so.
    fn directory(content: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.onnx"), content).unwrap();
        write_manifest(dir.path(), "model.onnx", content);
        dir
    }

    fn write_manifest(dir: &Path, path: &str, content: &[u8]) {
        let manifest = json!({
            "schema": 1, "name": "m", "version": "1", "kind": "tensors", "model": path,
            "files": [{"path": path, "size": content.len(), "sha256": sha256(content)}],
            "inputs": [{"name": "a", "datatype": "FP32", "shape": [-1]}],
            "outputs": [{"name": "b", "datatype": "FP32", "shape": [-1]}],
            "licence": "Apache-2.0", "source": "made for tests",
        });
        fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    }

    fn problems(dir: &Path) -> String {
        match Source::open(dir).and_then(Source::read) {
            Err(Error::Manifest { problems, .. }) => problems.join("; "),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("should be refused"),
        }
    }

    #[test]
    fn the_digest_is_the_manifests_and_the_bytes_are_the_files() {
        let dir = directory(b"bytes");
        let source = Source::open(dir.path()).unwrap();
        assert_eq!(source.digest, sha256(&fs::read(dir.path().join("manifest.json")).unwrap()));
        assert_eq!(source.read().unwrap().file("model.onnx"), b"bytes");
    }

    #[test]
    fn every_kind_of_wrong_content_is_refused() {
        let dir = directory(b"bytes");
        fs::write(dir.path().join("model.onnx"), b"bytez").unwrap();
        assert!(problems(dir.path()).contains("sha256 mismatch"));
        fs::write(dir.path().join("model.onnx"), b"byt").unwrap();
        assert!(problems(dir.path()).contains("expected 5 bytes, found 3"));
        fs::write(dir.path().join("model.onnx"), b"bytes and more").unwrap();
        assert!(problems(dir.path()).contains("expected 5 bytes, found more"));
        fs::remove_file(dir.path().join("model.onnx")).unwrap();
        assert!(problems(dir.path()).starts_with("model.onnx: "));
        fs::create_dir(dir.path().join("model.onnx")).unwrap();
        assert!(problems(dir.path()).contains("not a regular file"));
    }

    #[test]
    fn a_missing_manifest_is_a_problem_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        assert!(problems(dir.path()).starts_with("manifest.json: "));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_may_stay_inside_and_may_not_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("evil.onnx"), b"bytes").unwrap();
        let dir = directory(b"bytes");
        let model = dir.path().join("model.onnx");

        fs::rename(&model, dir.path().join("real.onnx")).unwrap();
        std::os::unix::fs::symlink("real.onnx", &model).unwrap();
        assert!(Source::open(dir.path()).and_then(Source::read).is_ok());

        fs::remove_file(&model).unwrap();
        std::os::unix::fs::symlink(outside.path().join("evil.onnx"), &model).unwrap();
        assert!(problems(dir.path()).contains("leads out of the model directory"));
    }
}
