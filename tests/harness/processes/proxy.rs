//! A cable that can be pulled, or pinched at a chosen moment: forwards TCP to a port of loopback.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::PATIENCE;

/// Forwards connections while it is whole.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    cable: watch::Sender<Cable>,
    _accepting: JoinSet<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cable {
    Whole,
    /// Whole until the server says these words; then pinched before the client hears them.
    Listening(&'static str),
    /// What the client says is kept back.
    Pinched,
    Cut,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound port has an address");
        let cable = watch::Sender::new(Cable::Whole);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, port, cable.clone()));
        Self { address, cable, _accepting: accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends every connection, and every new one at once.
    pub fn cut(&self) {
        self.cable.send_replace(Cable::Cut);
    }

    /// Forwards everything again, also what was kept back.
    pub fn mend(&self) {
        self.cable.send_replace(Cable::Whole);
    }

    /// Mends it, until the server says `words`: what the client says to that is kept back. [`Proxy::pinched`] tells when.
    pub fn pinch_after(&self, words: &'static str) {
        self.cable.send_replace(Cable::Listening(words));
    }

    pub async fn pinched(&self) {
        let mut cable = self.cable.subscribe();
        let pinched = timeout(PATIENCE, cable.wait_for(|cable| *cable == Cable::Pinched)).await.is_ok();
        assert!(pinched, "the words that were listened for were not said");
    }
}

async fn accept(listener: TcpListener, port: u16, cable: watch::Sender<Cable>) {
    let mut forwarding = JoinSet::new();
    loop {
        tokio::select! {
            Ok((incoming, _)) = listener.accept() => {
                if *cable.borrow() != Cable::Cut {
                    forwarding.spawn(forward(incoming, port, cable.clone()));
                }
            }
            Some(_) = forwarding.join_next() => {}
        }
    }
}

async fn forward(client: TcpStream, port: u16, cable: watch::Sender<Cable>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    // Small messages both ways: without it each would wait for the other side's acknowledgement.
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut cut = cable.subscribe();
    tokio::select! {
        _ = say(from_client, to_server, &cable) => {}
        _ = answer(from_server, to_client, &cable) => {}
        _ = cut.wait_for(|cable| *cable == Cable::Cut) => {}
    }
}

/// What the client says, unless the cable is pinched.
async fn say(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cable: &watch::Sender<Cable>) -> io::Result<()> {
    let mut free = cable.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let _ = free.wait_for(|cable| *cable != Cable::Pinched).await;
        to.write_all(&buffer[..read]).await?;
    }
}

/// What the server answers, listened to.
async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cable: &watch::Sender<Cable>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        cable.send_if_modified(|cable| match *cable {
            // etcd sends keys as they are, and a short list in one piece.
            Cable::Listening(words) if buffer[..read].windows(words.len()).any(|said| said == words.as_bytes()) => {
                *cable = Cable::Pinched;
                true
            }
            _ => false,
        });
        to.write_all(&buffer[..read]).await?;
    }
}
