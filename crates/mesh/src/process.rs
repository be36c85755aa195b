//! What every program of a mesh does around its work: flags, signals, ports, the one line on standard output, the exit
//! code. What the work is, each program knows for itself.

mod flags;

use std::{
    error::Error as StdError,
    future::Future,
    io::{self, Write as _, stderr, stdout},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use serde::Serialize;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::flags::{Flags, complete};
use crate::{
    admin,
    config::{self, Mistakes},
    drain::Signals,
    registry, telemetry,
};

/// Configured wrongly: the same command will end the same way.
const WRONG: u8 = 2;

/// For work on threads of its own that was under way when somebody said stop, such as loading a model.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Why a program ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there are no threads to run on")]
    Threads(#[source] io::Error),
    #[error("logs and traces cannot be set up")]
    Telemetry(#[source] telemetry::Error),
    #[error("the configuration is wrong")]
    Config(#[source] Mistakes),
    #[error("the settings cannot be printed: {0}")]
    Print(String),
    #[error("the signals to stop by cannot be taken over")]
    Signals(#[source] io::Error),
    #[error("{address} cannot be listened on")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the admin port cannot be served")]
    Admin(#[source] admin::Error),
    #[error("the registry cannot be used")]
    Registry(#[source] registry::Error),
    /// Somebody has to change a file, a flag or the machine before it can go better.
    #[error("{what}")]
    Wrong { what: &'static str, source: Box<dyn StdError + Send + Sync> },
    #[error("{what}")]
    Failed { what: &'static str, source: Box<dyn StdError + Send + Sync> },
}

impl Error {
    pub fn wrong(what: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Wrong { what, source: source.into() }
    }

    pub fn failed(what: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Failed { what, source: source.into() }
    }

    fn is_wrong(&self) -> bool {
        match self {
            Self::Telemetry(_)
            | Self::Config(_)
            | Self::Registry(registry::Error::Invalid { .. })
            | Self::Wrong { .. } => true,
            Self::Registry(_)
            | Self::Threads(_)
            | Self::Print(_)
            | Self::Signals(_)
            | Self::Listen { .. }
            | Self::Admin(_)
            | Self::Failed { .. } => false,
        }
    }
}

/// Runs a program to its exit code: 0 when it ended as it should, 1 when it failed, 2 when it was configured wrongly.
pub fn main(program: impl Future<Output = Result<(), Error>>) -> ExitCode {
    let ended = Runtime::new().map_err(Error::Threads).and_then(|runtime| {
        let ended = runtime.block_on(program);
        runtime.shutdown_timeout(LAST_WAIT);
        ended
    });
    ended.map_or_else(|error| complain(&error), |()| ExitCode::SUCCESS)
}

/// Says why the program ends: a failure is a line of the log, a mistake is lines for the person who made it, and so is a
/// failure before there is a log. Where nobody hears it, the exit code is all that is left to say.
fn complain(error: &Error) -> ExitCode {
    let causes: Vec<String> =
        std::iter::successors(Some(error as &(dyn StdError + 'static)), |error| (*error).source())
            .map(ToString::to_string)
            .collect();
    if !error.is_wrong() && tracing::dispatcher::has_been_set() {
        tracing::error!(error = causes.join(": "), "ended");
    } else {
        let _ = writeln!(stderr().lock(), "error: {}", causes.join("\n").replace('\n', "\n  "));
    }
    if error.is_wrong() { ExitCode::from(WRONG) } else { ExitCode::FAILURE }
}

/// What the first signal asks for, and who waits for the second one, which ends the process at once. Keep it for as long
/// as signals should be obeyed.
#[derive(Debug)]
pub struct Stop {
    pub asked: CancellationToken,
    _watching: JoinSet<()>,
}

impl Stop {
    /// # Errors
    /// [`Error::Signals`] when the operating system refuses.
    pub fn on_signals() -> Result<Self, Error> {
        let asked = CancellationToken::new();
        let signals = Signals::install().map_err(Error::Signals)?;
        let mut watching = JoinSet::new();
        watching.spawn(signals.obey(asked.clone(), |code| std::process::exit(code)));
        Ok(Self { asked, _watching: watching })
    }
}

/// The two listeners of a program, and where they ended up: ports that are taken are noticed before a model is loaded.
#[derive(Debug)]
pub struct Ports {
    pub service: TcpListener,
    pub address: SocketAddr,
    pub admin: std::net::TcpListener,
    pub admin_address: SocketAddr,
}

impl Ports {
    /// # Errors
    /// [`Error::Listen`] with the address that cannot be had.
    pub async fn open(service: SocketAddr, admin: SocketAddr) -> Result<Self, Error> {
        let at = |address: SocketAddr| move |source| Error::Listen { address, source };
        let listener = TcpListener::bind(service).await.map_err(at(service))?;
        let address = listener.local_addr().map_err(at(service))?;
        let probes = std::net::TcpListener::bind(admin).map_err(at(admin))?;
        let admin_address = probes.local_addr().map_err(at(admin))?;
        Ok(Self { service: listener, address, admin: probes, admin_address })
    }

    /// Tells whoever started the process where it is: `NAME listening on ADDRESS, admin on ADDRESS`.
    pub fn announce(&self, name: &str) {
        say(&format!("{name} listening on {}, admin on {}\n", self.address, self.admin_address));
    }
}

/// Prints the settings in effect.
///
/// # Errors
/// [`Error::Print`] when they cannot be written as YAML.
pub fn print_config(settings: &impl Serialize) -> Result<(), Error> {
    say(&config::print(settings).map_err(|error| Error::Print(error.to_string()))?);
    Ok(())
}

/// To standard output. Whoever started the process may not read it, and it serves all the same.
fn say(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
