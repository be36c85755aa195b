//! Takes connections, and sees each to its end. Every one has a tonic server of its own, which serves nothing else: only so
//! can one be told to go while the others stay. tonic's own `max_connection_age` is the same for all, so that clients which
//! came together leave together, and with its `max_connection_age_grace` there is no GOAWAY at all, only the cut. TLS is ours
//! too: each connection is greeted with the certificate of the moment, and tonic's would never promise HTTP/1.1 to a browser.

use std::{
    convert::Infallible,
    future::{pending, ready},
    io,
    time::Duration,
};

use futures::stream::{self, FuturesUnordered, Stream, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tower::Service;

use super::connection::{Connection, Wire};
use crate::{
    layer::{Request, Response},
    limits::TCP_KEEPALIVE,
    metrics::RpcMetrics,
    tls,
};

/// Out of file descriptors the next attempt to accept fails at once: so long it is not made.
const REST: Duration = Duration::from_millis(20);

/// What every connection is served with.
pub(super) struct Connections<S> {
    pub(super) server: &'static str,
    /// `None` for plaintext.
    pub(super) tls: Option<Greeting>,
    pub(super) transport: tonic::transport::Server,
    pub(super) stack: S,
    pub(super) max_age: Option<Duration>,
    /// Ends them all, whatever they do.
    pub(super) cut: CancellationToken,
}

/// How TLS connections begin.
pub(super) struct Greeting {
    pub(super) tls: tls::Server,
    /// Whether a client may choose HTTP/1.1.
    pub(super) http1: bool,
    pub(super) metrics: RpcMetrics,
}

impl<S> Connections<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    /// Takes connections until `stop`, then closes the port, tells all clients to go, which `told` tells, and returns when
    /// the last of them has gone.
    pub(super) async fn serve(self, listener: TcpListener, stop: &CancellationToken, told: &CancellationToken) {
        // `Server::tcp_nodelay` does nothing for a given listener: without it p99 is 44 ms.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(TCP_KEEPALIVE));
        let mut incoming = Box::pin(accepted(self.server, incoming));
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(()) = connections.next() => {}
                Some(stream) = incoming.next() => connections.push(self.connection(stream, stop)),
            }
        }
        drop(incoming);
        told.cancel();
        while connections.next().await.is_some() {}
    }

    /// Serves one connection until its client leaves, or was told to and has its last reply. Its client is told (GOAWAY;
    /// over HTTP/1 `connection: close`) at `stop`, or when the connection is old.
    async fn connection(&self, stream: TcpStream, stop: &CancellationToken) {
        let Some(wire) = self.wire(stream, stop).await else { return };
        let gone = CancellationToken::new();
        let connection = Connection::new(wire, &self.cut, &gone);
        let old = async {
            match self.max_age {
                Some(age) => sleep(jittered(age, rand::random())).await,
                None => pending().await,
            }
        };
        let leave = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = gone.cancelled() => {}
                () = old => {}
            }
        };
        // Not the one connection alone: at the end of its stream tonic would tell the client to go.
        let only = stream::once(ready(Ok::<_, Infallible>(connection))).chain(stream::pending());
        let served = self.transport.clone().serve_with_incoming_shutdown(self.stack.clone(), only, leave).await;
        if let Err(error) = served {
            tracing::warn!(server = self.server, %error, "cannot serve a connection");
        }
    }

    /// What is spoken over: with TLS, once the client has been greeted; `None` where that came to nothing, or it is time to
    /// stop.
    async fn wire(&self, stream: TcpStream, stop: &CancellationToken) -> Option<Wire> {
        let Some(Greeting { tls, http1, metrics }) = &self.tls else { return Some(Wire::Plain(stream)) };
        let (tls, http1) = (tls.clone(), *http1);
        // A task of its own: a handshake is a millisecond of arithmetic, and after an outage there are many at once.
        let mut greeting = JoinSet::new();
        greeting.spawn(async move { tls.accept(stream, http1).await });
        let greeted = stop.run_until_cancelled(greeting.join_next()).await??;
        match greeted.unwrap_or(Err(tls::Handshake::Panicked)) {
            Ok(stream) => Some(Wire::Tls(Box::new(stream))),
            Err(error) => {
                // Anybody who can reach the port can cause it: a number to watch, and a line for who looks for it.
                metrics.handshake_failed(self.server);
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::debug!(server = self.server, error, "a TLS connection came to nothing");
                None
            }
        }
    }
}

/// What could be accepted. After a failure the stream rests; the connections that are there are seen to meanwhile.
fn accepted<T>(server: &'static str, incoming: impl Stream<Item = io::Result<T>>) -> impl Stream<Item = T> {
    incoming.filter_map(move |accepted| async move {
        match accepted {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::warn!(server, %error, "cannot accept a connection");
                sleep(REST).await;
                None
            }
        }
    })
}

/// `age` and up to a tenth more or less, by `chance` in 0..1: clients that came together do not leave together. No age is
/// too long for it.
fn jittered(age: Duration, chance: f64) -> Duration {
    let tenth = age / 10;
    age.saturating_sub(tenth).saturating_add(tenth.mul_f64(2.0 * chance))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn ages_differ_by_a_tenth_at_the_most() {
        let age = Duration::from_mins(30);
        assert_eq!(jittered(age, 0.0), Duration::from_mins(27));
        assert_eq!(jittered(age, 0.5), age);
        let oldest = jittered(age, 1.0 - f64::EPSILON);
        assert!(oldest > Duration::from_mins(32) && oldest <= Duration::from_mins(33), "{oldest:?}");
        assert_eq!(jittered(Duration::MAX, 0.9), Duration::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_beside_a_failed_accept_is_not_held_up() {
        let failed = || Err(io::ErrorKind::OutOfMemory.into());
        let mut incoming = Box::pin(accepted("test", stream::iter([failed(), failed(), Ok("a connection")])));
        let since = Instant::now();
        let mut other_turns = 0;
        let next = loop {
            tokio::select! {
                biased;
                next = incoming.next() => break next,
                // Dropping `next` in between neither forgets a rest nor begins it anew.
                () = sleep(REST / 4) => other_turns += 1,
            }
        };
        assert_eq!(next, Some("a connection"));
        assert!(other_turns >= 6, "{other_turns}");
        assert!(since.elapsed() < 3 * REST, "{:?}", since.elapsed());
    }
}
