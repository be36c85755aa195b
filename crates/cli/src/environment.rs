//! What this program learns from its surroundings: variables, the terminal, where ONNX Runtime lies. Nothing else in
//! this crate reads the environment (the flags' own variables are declared in `args`).

use std::{
    env,
    ffi::OsString,
    io::IsTerminal,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Trouble},
    page::Look,
};

/// Wider lines are hard to read, however wide the terminal is.
const MAX_WIDTH: u16 = 100;

#[cfg(target_os = "macos")]
const LIBRARY: &str = "libonnxruntime.dylib";
#[cfg(not(target_os = "macos"))]
const LIBRARY: &str = "libonnxruntime.so";

/// How to write to a stream: colours for people only, and only for those who want them (<https://no-color.org>).
pub fn look(stream: &impl IsTerminal) -> Look {
    let terminal = stream.is_terminal();
    let refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = variable("TERM").is_some_and(|value| value == "dumb");
    let width = terminal.then(terminal_size::terminal_size).flatten().map(|(width, _)| width.0);
    Look {
        colour: terminal && !refused && !dumb,
        width: width.map_or(Look::PLAIN.width, |width| width.min(MAX_WIDTH).into()),
        terminal: terminal && !dumb,
    }
}

/// The ONNX Runtime library: what was asked for, else `ORT_DYLIB_PATH`, else beside this program or in `../lib`, else
/// `.tools/lib` of the project that the mesh file or the current directory lies in.
///
/// # Errors
/// A path that was asked for has to be right; without one, somewhere a library has to be.
pub(crate) fn onnxruntime(asked: Option<&Path>, mesh: &Path) -> Result<PathBuf, Error> {
    let named = asked.map(Path::to_owned).or_else(|| variable("ORT_DYLIB_PATH").map(PathBuf::from));
    if let Some(path) = named {
        return if path.is_file() { Ok(path) } else { Err(missing(&format!("{} is no file", path.display()))) };
    }
    let beside = env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    let places = beside.iter().flat_map(|dir| [dir.join(LIBRARY), dir.join("../lib").join(LIBRARY)]);
    let roots = [mesh.canonicalize().ok(), env::current_dir().ok()].into_iter().flatten();
    let tools =
        roots.flat_map(|root| root.ancestors().map(|dir| dir.join(".tools/lib").join(LIBRARY)).collect::<Vec<_>>());
    places.chain(tools).find(|path| path.is_file()).ok_or_else(|| missing(&format!("{LIBRARY} is not installed")))
}

fn missing(problem: &str) -> Error {
    Error::Usage(Trouble::new(format!("ONNX Runtime is missing: {problem}")).with_hint(
        "`make setup` fetches it; or install it with `pip install onnxruntime` and give its library, \
             onnxruntime/capi/libonnxruntime.so.*, with --onnxruntime",
    ))
}

#[expect(clippy::disallowed_methods, reason = "the one place of this crate where the environment is read")]
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_was_asked_for_has_to_be_there() {
        let error = onnxruntime(Some(Path::new("no/such/library.so")), Path::new("mesh.yaml")).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.trouble().headline.contains("no/such/library.so is no file"));
        assert!(error.trouble().hint.unwrap().contains("make setup"));
    }

    #[test]
    fn a_pipe_gets_neither_colour_nor_redrawing() {
        let (_reader, writer) = std::io::pipe().unwrap();
        assert_eq!(look(&std::os::fd::OwnedFd::from(writer)), Look::PLAIN);
    }
}
