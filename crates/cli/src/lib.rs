//! `consilium`: run a mesh, ask it, look into it.
//!
//! A command is parsed (`args`), done (`command`) and shown (`render`, on a `page`). What comes from a mesh is plain
//! data from the first moment (`view`), which is also what `--json` prints. [`embedded`] is a whole mesh in this
//! process; it is public so that tests can run one.

mod args;
mod client;
mod command;
pub mod definition;
pub mod embedded;
mod environment;
mod error;
mod fetch;
mod interrupt;
mod labelled;
mod model;
mod page;
mod patience;
mod plot;
pub mod progress;
mod question;
mod registry;
mod remembering;
mod render;
mod round;
mod slo;
mod text;
mod tls;
mod view;

use self::interrupt::Interrupt;
pub use self::{
    args::Cli,
    definition::Definition,
    environment::look,
    error::{Error, Trouble},
    page::{Look, Page},
};

/// Does what the command line says. The result goes to `page`, complaints to `complaints`; returns the exit code. SIGINT and
/// SIGTERM end it at once, but a mesh that is up, which goes out of service in order.
pub async fn run(cli: Cli, page: &mut Page<'_>, complaints: &mut Page<'_>) -> u8 {
    if matches!(cli.command, args::Command::Up(_)) {
        return to_its_end(cli, page, complaints).await;
    }
    let mut interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            complaints.trouble(&Trouble::of("the signals to stop by cannot be taken over", &error));
            return 1;
        }
    };
    tokio::select! {
        code = to_its_end(cli, page, complaints) => code,
        code = interrupt.heard() => code,
    }
}

async fn to_its_end(cli: Cli, page: &mut Page<'_>, complaints: &mut Page<'_>) -> u8 {
    let is_for_programs = cli.command.is_for_programs();
    match command::run(cli.command, page).await {
        Ok(exit) => exit.code(),
        Err(error) if error.is_broken_pipe() => 0,
        Err(error) => {
            if is_for_programs {
                complaints.failure(&error.failure());
            } else {
                complaints.trouble(&error.trouble());
            }
            error.exit_code()
        }
    }
}
