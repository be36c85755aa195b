//! What ends a command before its time: Ctrl-C, and whoever stops containers. As the first process of a container a
//! program dies of no signal that it does not handle, and so every command handles them.

use std::{io, time::Duration};

use consilium_mesh::drain::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::JoinSet,
    time::sleep,
};

/// For a command that does not let go at once: it writes to whom nobody reads, or hashes a large file.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The first signal that comes, from now on.
#[derive(Debug)]
pub(crate) struct Interrupt {
    heard: oneshot::Receiver<Signal>,
    /// Ends with this.
    _watching: JoinSet<()>,
}

impl Interrupt {
    /// Takes SIGINT and SIGTERM over.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(crate) fn install() -> io::Result<Self> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (tell, heard) = oneshot::channel();
        let mut watching = JoinSet::new();
        watching.spawn(async move {
            let signal = tokio::select! {
                _ = interrupt.recv() => Signal::Interrupt,
                _ = terminate.recv() => Signal::Terminate,
            };
            // Nobody listens any more to what comes when all is done.
            let _ = tell.send(signal);
            sleep(LAST_WAIT).await;
            std::process::exit(signal.exit_code());
        });
        Ok(Self { heard, _watching: watching })
    }

    /// The exit code of a process that was ended by the signal, once there is one. Never without.
    pub(crate) async fn heard(&mut self) -> u8 {
        match (&mut self.heard).await {
            Ok(signal) => u8::try_from(signal.exit_code()).unwrap_or(u8::MAX),
            Err(_) => std::future::pending().await,
        }
    }
}
