//! ONNX Runtime itself: loaded once per process, silent, and without telemetry.

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
