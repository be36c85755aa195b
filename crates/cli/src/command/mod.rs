//! The commands, one file each: what they do, in order. How results look is `render`'s business.

pub(crate) mod ask;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod experts;
pub(crate) mod explain;
pub(crate) mod feedback;
pub(crate) mod models;
pub(crate) mod retire;
pub(crate) mod up;

use consilium_mesh::logs;

use crate::{
    args::{self, Command},
    error::{Error, Trouble},
    page::Page,
};

/// How a command ended that said all there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    /// What was asked for failed, as the result says.
    Failed,
    /// What was given is wrong, as the result says.
    Wrong,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Wrong => 2,
        }
    }
}

pub(crate) async fn run(command: Command, page: &mut Page<'_>) -> Result<Exit, Error> {
    match command {
        Command::Up(args) => up::run(&args, page).await,
        Command::Demo(args) => demo::run(&args, page).await,
        Command::Ask(args) => ask::run(&args, page).await,
        Command::Explain(args) => explain::run(&args, page).await,
        Command::Feedback(args) => feedback::run(&args, page).await,
        Command::Experts(args) => experts::run(&args, page).await,
        Command::Models(args) => models::run(&args, page),
        Command::Check(args) => check::run(args, page),
    }
}

/// For the commands that run a mesh or join its registry; the others have nothing to log.
fn log(log: &args::Log) -> Result<(), Error> {
    logs::init(&log.level, logs::Format::Auto)
        .map_err(|error| Error::Usage(Trouble::of("the logs cannot be set up", &error)))
}
