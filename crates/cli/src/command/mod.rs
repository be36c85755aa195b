//! The commands, one file each: what they do, in order. How results look is `render`'s business.

pub(crate) mod ask;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod experts;
pub(crate) mod explain;
pub(crate) mod feedback;
pub(crate) mod gate;
pub(crate) mod models;
pub(crate) mod retire;
pub(crate) mod slo;
pub(crate) mod up;
pub(crate) mod verify;

use consilium_mesh::{
    logs,
    metrics::Metrics,
    telemetry::{self, Telemetry},
};
use consilium_router::Config;

use crate::{
    args::{self, Command},
    error::{Error, Trouble},
    page::Page,
    round::Score,
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
        Command::Verify(args) => verify::run(&args, page).await,
        Command::Models(args) => models::run(&args, page).await,
        Command::Check(args) => check::run(args, page),
        Command::Gate(args) => gate::run(args.command, page).await,
        Command::Slo(args) => slo::run(args.command, page),
    }
}

/// Of a round of questions nothing but all is good enough.
fn judged(score: &Score) -> Exit {
    if score.wrong == 0 { Exit::Done } else { Exit::Failed }
}

/// For the commands that join a mesh's registry; the others have nothing to log.
fn log(log: &args::Log) -> Result<(), Error> {
    logs::init(&log.level, logs::Format::Auto)
        .map_err(|error| Error::Usage(Trouble::of("the logs cannot be set up", &error)))
}

/// For the commands that run a mesh in this process, whose router and experts are one service to those who look at traces.
fn observe(runtime: &args::Runtime, mesh: &Config) -> Result<(Telemetry, Metrics), Error> {
    let metrics = Metrics::new();
    consilium_metrics::set_recording(!runtime.no_metrics);
    let service = telemetry::Service {
        name: "consilium".to_owned(),
        namespace: mesh.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: None,
    };
    let telemetry = telemetry::start(&runtime.log.level, logs::Format::Auto, &mesh.traces, service, &metrics)
        .map_err(|error| Error::Usage(Trouble::of("logs and traces cannot be set up", &error)))?;
    Ok((telemetry, metrics))
}
