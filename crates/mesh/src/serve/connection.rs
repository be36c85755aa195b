//! A TCP connection that can be cut. tonic gives every connection a task of its own that nobody owns; when waiting is
//! over, the only way to end them all is to make their reads and writes fail.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::limits::HANDSHAKE_TIMEOUT;

/// As long as the words with which an HTTP/2 client begins. HTTP/1 is told from it by the first byte that differs; no call
/// is shorter there, and what is shorter (`GET / HTTP/1.1`, and no header) has had its refusal long before the time is over.
/// Under TLS the handshake was before these bytes, and had a time of its own.
const BEGINNING: usize = 24;

pub(crate) struct Connection {
    wire: Wire,
    cut: BoxFuture<'static, ()>,
    is_cut: bool,
    /// Until the peer has begun. Pings find dead peers, and HTTP/1 bounds the time of a request's head, but both only after
    /// it is known which of the two is spoken.
    beginning: Option<Beginning>,
    /// Tells that this connection is no more.
    _gone: DropGuard,
}

/// What bytes go over.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

struct Beginning {
    missing: usize,
    timeout: Pin<Box<Sleep>>,
}

impl Connection {
    /// `cut` ends it, and it cancels `gone` when it has ended.
    pub(crate) fn new(wire: Wire, cut: &CancellationToken, gone: &CancellationToken) -> Self {
        Self {
            wire,
            cut: Box::pin(cut.clone().cancelled_owned()),
            is_cut: false,
            beginning: Some(Beginning { missing: BEGINNING, timeout: Box::pin(sleep(HANDSHAKE_TIMEOUT)) }),
            _gone: gone.clone().drop_guard(),
        }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.is_cut && self.cut.as_mut().poll(cx).is_ready() {
            self.is_cut = true;
        }
        if self.is_cut { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.wire).poll_read(cx, buf);
        if let Some(beginning) = &mut this.beginning {
            beginning.missing = beginning.missing.saturating_sub(buf.filled().len() - before);
            if beginning.missing == 0 {
                this.beginning = None;
            } else if read.is_pending() && beginning.timeout.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.wire).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.wire).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.check(cx).is_err() {
            // TLS says goodbye, which takes as long as the peer likes.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.wire).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match &self.wire {
            Wire::Plain(stream) => stream.connect_info(),
            Wire::Tls(stream) => stream.get_ref().0.connect_info(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use futures::FutureExt as _;
    use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::yield_now};

    use super::*;
    use crate::{
        metrics::Metrics,
        tls::{Settings, Tls},
    };

    /// Both ends of a connection under TLS: the server's, and the one of a client that reads nothing.
    async fn connected() -> (Wire, impl Sized) {
        let dir = tempfile::TempDir::new().unwrap();
        let own = rcgen::generate_simple_self_signed(["expert.test".to_owned()]).unwrap();
        let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        fs::write(&certificate, own.cert.pem()).unwrap();
        fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let (ca, certificate) = (Some(certificate.clone()), Some(certificate));
        let settings = Settings { certificate, key: Some(key), ca, ..Settings::default() };
        let tls = Tls::open(&settings, &Metrics::new()).unwrap();
        let (server, client) = (tls.server().unwrap(), tls.client().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let name = "expert.test".try_into().unwrap();
        let (accepted, silent) = tokio::join!(server.accept(far, false), client.connect(name, near));
        (Wire::Tls(Box::new(accepted.unwrap())), silent.unwrap())
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_does_not_hold_up_the_end() {
        let (wire, _silent) = connected().await;
        let (cut, gone) = (CancellationToken::new(), CancellationToken::new());
        let mut connection = Connection::new(wire, &cut, &gone);
        while connection.write(&[0; 16 << 10]).now_or_never().is_some() {
            yield_now().await;
        }
        assert!(connection.flush().now_or_never().is_none() && connection.shutdown().now_or_never().is_none());
        cut.cancel();
        let flushed = connection.flush().now_or_never().expect("it does not wait for the peer");
        assert_eq!(flushed.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        connection.shutdown().now_or_never().expect("it does not wait for the peer").unwrap();
        drop(connection);
        assert!(gone.is_cancelled());
    }
}
