//! What every scenario gets: a runtime, a bound on its time and a place for the logs of its processes.

use std::{fs, future::Future, io::Write, path::PathBuf, pin::Pin, thread, time::Duration};

use consilium_tests::processes::{Clinic, Options, Row, target};
use tokio::{runtime::Runtime, time::timeout};

/// Longer than any scenario takes, so that one that hangs ends too.
const LONGEST: Duration = Duration::from_mins(4);
/// Of each log, when a scenario fails.
const LINES_SHOWN: usize = 25;

/// Something that is done to a mesh under load, and what came of it.
pub(crate) type Scenario = for<'a> fn(&'a Scene) -> Pin<Box<dyn Future<Output = Vec<Row>> + 'a>>;

/// The surroundings of one scenario. When it fails, the ends of the logs are shown.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) logs: PathBuf,
}

impl Scene {
    pub(crate) async fn clinic(&self, options: Options) -> Clinic {
        Clinic::start(&self.logs, options).await
    }
}

/// Plays one scenario to its end, or to its panic.
pub(crate) fn play(name: &str, scenario: Scenario) -> Vec<Row> {
    let logs = target().join("faults").join(name);
    // Logs are appended to, so that a process that is restarted does not lose what it said before.
    let _ = fs::remove_dir_all(&logs);
    let scene = Scene { logs };
    let runtime = Runtime::new().expect("a runtime starts");
    let played = runtime.block_on(async { timeout(LONGEST, scenario(&scene)).await });
    played.unwrap_or_else(|_| panic!("the scenario is not over after {LONGEST:?}"))
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let mut stderr = std::io::stderr();
        let files = fs::read_dir(&self.logs).into_iter().flatten().flatten();
        for path in files.map(|file| file.path()) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            let _ = writeln!(stderr, "--- the end of {}\n{}", path.display(), shown.join("\n"));
        }
    }
}
