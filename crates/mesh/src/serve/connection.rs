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
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::limits::HANDSHAKE_TIMEOUT;

/// As long as the words with which an HTTP/2 client begins. HTTP/1 is told from it by the first byte that differs; no call
/// is shorter there, and what is shorter (`GET / HTTP/1.1`, and no header) has had its refusal long before the time is over.
/// Under TLS these bytes are the handshake's first, and the rest of it has a time of its own. Who completes it and then
/// says nothing has no timer: he keeps one connection until it is old, as somebody could who speaks and never calls.
const BEGINNING: usize = 24;

pub(crate) struct Connection {
    stream: TcpStream,
    cut: BoxFuture<'static, ()>,
    is_cut: bool,
    /// Until the peer has begun. Pings find dead peers, and HTTP/1 bounds the time of a request's head, but both only after
    /// it is known which of the two is spoken.
    beginning: Option<Beginning>,
    /// Tells that this connection is no more.
    _gone: DropGuard,
}

struct Beginning {
    missing: usize,
    timeout: Pin<Box<Sleep>>,
}

impl Connection {
    /// `cut` ends it, and it cancels `gone` when it has ended.
    pub(crate) fn new(stream: TcpStream, cut: &CancellationToken, gone: &CancellationToken) -> Self {
        Self {
            stream,
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
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
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
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}
