//! What every trial gets: a runtime, a place for logs, and the mesh that most of them share.

use std::{fs, io::Write, path::PathBuf, thread, time::Duration};

use consilium_tests::processes::{Watched, target};
use tokio::{runtime::Runtime, sync::OnceCell, time::timeout};

use crate::{Play, load};

/// Longer than any trial takes, so that one that hangs ends too.
const LONGEST: Duration = Duration::from_mins(8);
/// Of each log, when a trial fails.
const LINES_SHOWN: usize = 12;

pub(crate) struct Scene {
    pub(crate) logs: PathBuf,
    runtime: Runtime,
    watched: OnceCell<Watched>,
    loaded: OnceCell<load::Counts>,
}

impl Scene {
    /// `fresh` removes what earlier runs logged.
    pub(crate) fn new(fresh: bool) -> Self {
        let logs = target().join("telemetry");
        if fresh {
            let _ = fs::remove_dir_all(&logs);
            fs::create_dir_all(&logs).expect("a directory for logs can be made");
        }
        let runtime = Runtime::new().expect("a runtime starts");
        Self { logs, runtime, watched: OnceCell::new(), loaded: OnceCell::new() }
    }

    /// Plays one trial to its end, or to its panic. When it fails, the ends of the logs are shown.
    pub(crate) fn play(&self, name: &str, trial: Play) {
        let _shown = ShownOnPanic(self);
        say(&format!("\n--- {name}"));
        let played = self.runtime.block_on(async { timeout(LONGEST, trial(self)).await });
        played.unwrap_or_else(|_| panic!("{name} is not over after {LONGEST:?}"));
    }

    /// The mesh that trials share, started by the first that needs it.
    pub(crate) async fn watched(&self) -> &Watched {
        self.watched.get_or_init(|| Watched::start(&self.logs)).await
    }

    /// The same after everything that can be asked of a mesh was asked, and after Prometheus has seen it.
    pub(crate) async fn loaded(&self) -> (&Watched, &load::Counts) {
        let watched = self.watched().await;
        let counts = self.loaded.get_or_init(|| load::everything(watched)).await;
        (watched, counts)
    }
}

/// A line on standard output, which is a figure for readers. A reader who has gone away is no failure of it.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

struct ShownOnPanic<'a>(&'a Scene);

impl Drop for ShownOnPanic<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let mut stderr = std::io::stderr();
        let files = fs::read_dir(&self.0.logs).into_iter().flatten().flatten();
        for path in files.map(|file| file.path()).filter(|path| path.is_file()) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            // Of what HTTP/2 says, frame by frame, there is no end.
            let lines: Vec<_> = text.lines().filter(|line| !line.contains("\"h2::")).collect();
            let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            let _ = writeln!(stderr, "--- the end of {}\n{}", path.display(), shown.join("\n"));
        }
    }
}
