//! Takes connections, and sees each to its end. Every one has a tonic server of its own, which serves nothing else: only so
//! can one be told to go while the others stay. tonic's own `max_connection_age` is the same for all, so that clients which
//! came together leave together, and with its `max_connection_age_grace` there is no GOAWAY at all, only the cut.

use std::{
    convert::Infallible,
    future::{pending, ready},
    time::Duration,
};

use futures::stream::{self, FuturesUnordered, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tower::Service;

use super::connection::Connection;
use crate::{
    layer::{Request, Response},
    limits::TCP_KEEPALIVE,
};

/// What every connection is served with.
pub(super) struct Connections<S> {
    pub(super) server: &'static str,
    pub(super) transport: tonic::transport::Server,
    pub(super) stack: S,
    pub(super) max_age: Option<Duration>,
    /// Ends them all, whatever they do.
    pub(super) cut: CancellationToken,
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
        let mut incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(TCP_KEEPALIVE));
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(()) = connections.next() => {}
                Some(accepted) = incoming.next() => match accepted {
                    Ok(stream) => connections.push(self.connection(stream, stop)),
                    Err(error) => {
                        tracing::warn!(server = self.server, %error, "cannot accept a connection");
                        // Out of file descriptors the next attempt fails at once: do not spin.
                        sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        }
        drop(incoming);
        told.cancel();
        while connections.next().await.is_some() {}
    }

    /// Serves one connection until its client leaves, or was told to and has its last reply. Its client is told (GOAWAY;
    /// over HTTP/1 `connection: close`) at `stop`, or when the connection is old.
    async fn connection(&self, stream: TcpStream, stop: &CancellationToken) {
        let gone = CancellationToken::new();
        let connection = Connection::new(stream, &self.cut, &gone);
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
}

/// `age` and up to a tenth more or less, by `chance` in 0..1: clients that came together do not leave together.
fn jittered(age: Duration, chance: f64) -> Duration {
    age.mul_f64(0.9 + 0.2 * chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_a_tenth_at_the_most() {
        let age = Duration::from_mins(30);
        assert_eq!(jittered(age, 0.0), Duration::from_mins(27));
        assert_eq!(jittered(age, 0.5), age);
        let oldest = jittered(age, 1.0 - f64::EPSILON);
        assert!(oldest > Duration::from_mins(32) && oldest <= Duration::from_mins(33), "{oldest:?}");
    }
}
