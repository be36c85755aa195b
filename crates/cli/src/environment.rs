//! What this program learns from its surroundings: variables and the terminal. Nothing else in this crate reads the
//! environment (the flags' own variables are declared in `args`).

use std::{
    env,
    ffi::{OsStr, OsString},
    io::IsTerminal,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Trouble},
    page::Look,
};

/// Wider lines are hard to read, however wide the terminal is.
const MAX_WIDTH: u16 = 100;

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

/// The ONNX Runtime library for the mesh of that file, see [`consilium_engine::locate`].
///
/// # Errors
/// Where there is none, with what to do about it.
pub(crate) fn onnxruntime(asked: Option<&Path>, mesh: &Path) -> Result<PathBuf, Error> {
    consilium_engine::locate(asked, mesh).map_err(|error| {
        Error::Usage(Trouble::of("ONNX Runtime is missing", &error).with_hint(
            "`make setup` fetches it; or install it with `pip install onnxruntime` and give its library, \
             onnxruntime/capi/libonnxruntime.so.*, with --onnxruntime",
        ))
    })
}

/// Whether a variable is set, and to nothing: how deployments leave one out.
pub(crate) fn is_empty(name: &OsStr) -> bool {
    variable(name).is_some_and(|value| value.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "the one place of this crate where the environment is read")]
fn variable(name: impl AsRef<OsStr>) -> Option<OsString> {
    env::var_os(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_was_asked_for_has_to_be_there() {
        let error = onnxruntime(Some(Path::new("no/such/library.so")), Path::new("mesh.yaml")).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(error.trouble().details, ["onnx runtime: no/such/library.so is no file"]);
        assert!(error.trouble().hint.unwrap().contains("make setup"));
    }

    #[test]
    fn a_pipe_gets_neither_colour_nor_redrawing() {
        let (_reader, writer) = std::io::pipe().unwrap();
        assert_eq!(look(&std::os::fd::OwnedFd::from(writer)), Look::PLAIN);
    }
}
