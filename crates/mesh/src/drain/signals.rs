//! What the operating system says: the first signal asks to leave in good order, the second one at once.

use std::io;

use futures::Stream;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::{StreamExt, wrappers::SignalStream};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    /// What a shell expects of a process that this signal ended.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// SIGINT and SIGTERM, taken over from the operating system's defaults.
#[derive(Debug)]
pub struct Signals {
    interrupt: SignalStream,
    terminate: SignalStream,
}

impl Signals {
    /// From here on no signal ends the process by itself.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: SignalStream::new(signal(SignalKind::interrupt())?),
            terminate: SignalStream::new(signal(SignalKind::terminate())?),
        })
    }

    /// Cancels `stop` with the first signal, calls `exit` with the second one's exit code, and returns after that.
    /// `exit` is `std::process::exit` outside of tests.
    pub async fn obey(self, stop: CancellationToken, exit: impl FnOnce(i32)) {
        let interrupt = self.interrupt.map(|()| Signal::Interrupt);
        obey(interrupt.merge(self.terminate.map(|()| Signal::Terminate)), stop, exit).await;
    }
}

async fn obey(signals: impl Stream<Item = Signal>, stop: CancellationToken, exit: impl FnOnce(i32)) {
    tokio::pin!(signals);
    let Some(first) = signals.next().await else { return };
    tracing::info!(signal = ?first, "going out of service; a second signal ends at once");
    stop.cancel();
    let Some(second) = signals.next().await else { return };
    tracing::warn!(signal = ?second, "ending at once");
    exit(second.exit_code());
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn the_first_signal_asks_and_the_second_one_ends() {
        let (stop, code) = (CancellationToken::new(), Cell::new(None));
        obey(tokio_stream::iter([Signal::Terminate]), stop.clone(), |exit| {
            code.set(Some(exit));
        })
        .await;
        assert!(stop.is_cancelled());
        assert_eq!(code.get(), None);
        let both = [Signal::Terminate, Signal::Interrupt];
        obey(tokio_stream::iter(both), stop, |exit| code.set(Some(exit))).await;
        assert_eq!(code.get(), Some(130));
        assert_eq!(Signal::Terminate.exit_code(), 143);
    }
}
