//! The program: the process's own streams, a runtime, an exit code. Everything else is in the library.

use std::{
    io::{stderr, stdout},
    process::ExitCode,
    time::Duration,
};

use consilium_cli::{Cli, Page, Trouble, look};

/// For a model that was still being loaded when somebody said stop.
const LAST_WAIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::read();
    let (out, err) = (look(&stdout()), look(&stderr()));
    let (mut stdout, mut stderr) = (stdout().lock(), stderr());
    let (mut page, mut complaints) = (Page::new(&mut stdout, out), Page::new(&mut stderr, err));
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            complaints.trouble(&Trouble::of("no threads to run on", &error));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(consilium_cli::run(cli, &mut page, &mut complaints));
    runtime.shutdown_timeout(LAST_WAIT);
    ExitCode::from(code)
}
