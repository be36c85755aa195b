//! ONNX Runtime itself: found where it is installed, loaded once per process, silent, and without telemetry.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::error::Error;

/// What the dynamic loader looks for when no path is configured.
#[cfg(target_os = "macos")]
const SYSTEM_LIBRARY: &str = "libonnxruntime.dylib";
#[cfg(windows)]
const SYSTEM_LIBRARY: &str = "onnxruntime.dll";
#[cfg(not(any(target_os = "macos", windows)))]
const SYSTEM_LIBRARY: &str = "libonnxruntime.so";

/// A process can hold one ONNX Runtime, and `ort` refuses a second environment even after the first was dropped, so the
/// first one stays. Several stores (in tests, say) share it.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// The ONNX Runtime library for a program: what was asked for, else what `ORT_DYLIB_PATH` says, else beside this program
/// or in `../lib`, else in `.tools/lib` of the project that `near` (a file or a directory) or the current directory lies
/// in.
///
/// `Err(Runtime)` when the path that was asked for is no file, or none was and nothing is found.
pub fn locate(asked: Option<&Path>, near: &Path) -> Result<PathBuf, Error> {
    let failed = |problem: String| Error::Runtime { problem, source: None };
    if let Some(path) = asked.map(Path::to_owned).or_else(configured) {
        return if path.is_file() { Ok(path) } else { Err(failed(format!("{} is no file", path.display()))) };
    }
    let program = env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    let roots = [near.canonicalize().ok(), env::current_dir().ok()].into_iter().flatten();
    let library = Path::new(SYSTEM_LIBRARY);
    installed(library, program.as_deref(), roots)
        .ok_or_else(|| failed(format!("{} is not installed", library.display())))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the variable that every program on `ort` reads, and nobody else's setting"
)]
fn configured() -> Option<PathBuf> {
    env::var_os("ORT_DYLIB_PATH").map(PathBuf::from)
}

/// The first of `library` beside the program, in `../lib`, and in `.tools/lib` of each root and the directories above it.
fn installed(library: &Path, program: Option<&Path>, roots: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let beside = program.into_iter().flat_map(|dir| [dir.join(library), dir.join("../lib").join(library)]);
    let tools =
        roots.flat_map(|root| root.ancestors().map(|dir| dir.join(".tools/lib").join(library)).collect::<Vec<_>>());
    beside.chain(tools).find(|path| path.is_file())
}

/// Loads the library, or gives the one that is loaded. `None` asks the system's dynamic loader.
///
/// `Err(Runtime)` when there is no such file, it is no ONNX Runtime of version 1.22 or later, or another one is loaded.
pub(crate) fn load(library: Option<&Path>) -> Result<Environment, Error> {
    let wanted = library.unwrap_or(Path::new(SYSTEM_LIBRARY));
    let wanted = wanted.canonicalize().unwrap_or_else(|_| wanted.to_owned());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, environment)) = &*loaded {
        if library.is_some() && *path != wanted {
            let problem = format!("{} was asked for, but {} is already loaded", wanted.display(), path.display());
            return Err(Error::Runtime { problem, source: None });
        }
        return Ok(environment.clone());
    }
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Runtime {
        problem: format!("cannot load {}; `make setup` fetches the library", wanted.display()),
        source: Some(source),
    };
    let environment = ort::init_from(&wanted)
        .map_err(|error| failed(Box::new(error)))?
        .with_name("consilium")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|error| failed(Box::new(error)))?;
    environment.set_log_level(LogLevel::Warning);
    *loaded = Some((wanted, environment.clone()));
    Ok(environment)
}

/// What ONNX Runtime has to say, at debug level: whatever matters comes back as an error of the call that caused it.
fn log(level: LogLevel, category: &str, _id: &str, _location: &str, message: &str) {
    tracing::debug!(target: "onnxruntime", ?level, category, message = without_values(message));
}

/// A message of ONNX Runtime up to the point where a kernel begins to speak: from there on it may quote a value,
/// such as the index that was out of range, and values may be a patient's.
pub(crate) fn without_values(message: &str) -> &str {
    message.split_once("Status Message:").map_or(message, |(safe, _)| safe).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_was_asked_for_has_to_be_there() {
        let error = locate(Some(Path::new("no/such/library.so")), Path::new(".")).unwrap_err();
        assert_eq!(error.to_string(), "onnx runtime: no/such/library.so is no file");
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(locate(Some(file.path()), Path::new("no/such/mesh.yaml")).unwrap(), file.path());
    }

    #[test]
    fn it_is_looked_for_beside_the_program_and_then_in_the_project() {
        let dir = tempfile::tempdir().unwrap();
        let (library, program) = (Path::new("libx.so"), dir.path().join("usr/bin"));
        let root = dir.path().join("project/meshes/clinic/mesh.yaml");
        let find = || installed(library, Some(&program), [root.clone()].into_iter());
        assert_eq!(find(), None);
        for place in ["project/.tools/lib", "usr/lib", "usr/bin"] {
            std::fs::create_dir_all(dir.path().join(place)).unwrap();
            std::fs::create_dir_all(&program).unwrap();
            std::fs::write(dir.path().join(place).join(library), "").unwrap();
            let found = find().unwrap().canonicalize().unwrap();
            assert_eq!(found, dir.path().canonicalize().unwrap().join(place).join(library));
        }
    }

    #[test]
    fn a_kernels_words_are_left_out() {
        let message =
            "Non-zero status code returned while running Gather node. Name:'embed' Status Message: idx=4711 must be";
        assert_eq!(without_values(message), "Non-zero status code returned while running Gather node. Name:'embed'");
        assert_eq!(without_values("plain"), "plain");
    }

    #[test]
    fn a_library_that_is_none_is_a_clear_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [Path::new("/nonexistent/libonnxruntime.so"), file.path()] {
            let error = load(Some(path)).expect_err("should be refused");
            assert!(
                matches!(&error, Error::Runtime { .. }) && error.to_string().contains(path.to_str().unwrap()),
                "{error}"
            );
        }
    }
}
