//! The certificates of a process at this moment, and who takes up new ones.

use std::{convert::Infallible, fmt, io, sync::Arc, time::Duration, time::SystemTime};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client,
    rustls::{ClientConfig, ServerConfig, pki_types::ServerName},
    server,
};

use super::{
    Error, Settings,
    files::{Files, State},
    material::{H2, Material, ServerConfigs, Validity},
};
use crate::{
    limits::HANDSHAKE_TIMEOUT,
    metrics::{Metrics, TlsMetrics},
};

/// How often the files are looked at. A certificate is renewed days before it ends, and Kubernetes takes up to a minute to
/// bring a Secret into a pod.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The certificates of a process. Whoever opens them sees to it that [`Tls::follow`] runs.
pub struct Tls {
    settings: Settings,
    metrics: TlsMetrics,
    server: Option<watch::Sender<ServerConfigs>>,
    client: Option<watch::Sender<Arc<ClientConfig>>>,
    /// Of the files that are in use.
    state: State,
    /// What was last wrong with newer ones: said once, not every time that they are looked at.
    said: Option<Error>,
}

/// What a server serves with. Clones share it.
#[derive(Clone)]
pub struct Server(watch::Receiver<ServerConfigs>);

/// How a client knows servers, and is known by them. Clones share it.
#[derive(Clone)]
pub struct Client(watch::Receiver<Arc<ClientConfig>>);

/// Why a connection did not come to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Handshake {
    #[error("the handshake failed")]
    Failed(#[source] io::Error),
    #[error("the handshake took longer than {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    #[error("the server does not speak HTTP/2")]
    NotHttp2,
}

impl Tls {
    /// Reads the files of `settings`, and shows on `page` until when their certificates are good.
    ///
    /// # Errors
    /// Everything that is wrong with the files, as [`Settings::check`] finds it.
    pub fn open(settings: &Settings, page: &Metrics) -> Result<Self, Error> {
        let files = Files::read(settings)?;
        let Material { server, client, validity } = Material::of(&files)?;
        let metrics = page.part::<TlsMetrics>();
        report(&validity, &metrics);
        Ok(Self {
            settings: settings.clone(),
            metrics,
            server: server.map(watch::Sender::new),
            client: client.map(watch::Sender::new),
            state: files.state(),
            said: None,
        })
    }

    /// What to serve with; `None` where the settings have no certificate.
    pub fn server(&self) -> Option<Server> {
        self.server.as_ref().map(|server| Server(server.subscribe()))
    }

    /// How to know servers; `None` where the settings have no authority.
    pub fn client(&self) -> Option<Client> {
        self.client.as_ref().map(|client| Client(client.subscribe()))
    }

    /// Looks at the files every ten seconds, and takes up what is new in them. What cannot be used is reported, and the
    /// certificates before it stay.
    pub async fn follow(mut self) -> Infallible {
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.look().await;
        }
    }

    pub(super) async fn look(&mut self) {
        let (settings, known) = (self.settings.clone(), self.state);
        // Files may lie on a disk that takes its time.
        let looked = tokio::task::spawn_blocking(move || -> Result<_, Error> {
            let files = Files::read(&settings)?;
            let state = files.state();
            if state == known { Ok(None) } else { Material::of(&files).map(|material| Some((state, material))) }
        });
        // Looking does not panic, and where the runtime ends there is nobody to serve any more.
        let Ok(looked) = looked.await else { return };
        match looked {
            Ok(None) => self.said = None,
            Ok(Some((state, material))) => {
                self.said = None;
                self.state = state;
                self.take(material);
            }
            Err(error) => {
                self.metrics.reload_failed();
                if self.said.as_ref() != Some(&error) {
                    tracing::error!(%error, "new certificates cannot be used: the ones before them stay");
                    self.said = Some(error);
                }
            }
        }
    }

    /// The settings are the same, so that what there was is there again.
    fn take(&self, Material { server, client, validity }: Material) {
        if let (Some(known), Some(new)) = (&self.server, server) {
            known.send_replace(new);
        }
        if let (Some(known), Some(new)) = (&self.client, client) {
            known.send_replace(new);
        }
        tracing::info!("new certificates: connections are made with them from now on");
        report(&validity, &self.metrics);
    }
}

impl Server {
    /// Greets a client. With `http1`, it may choose HTTP/1.1.
    pub(crate) async fn accept<S>(&self, stream: S, http1: bool) -> Result<server::TlsStream<S>, Handshake>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accept = TlsAcceptor::from(self.config(http1)).accept(stream);
        timeout(HANDSHAKE_TIMEOUT, accept).await.map_err(|_| Handshake::Timeout)?.map_err(Handshake::Failed)
    }

    fn config(&self, http1: bool) -> Arc<ServerConfig> {
        let configs = self.0.borrow();
        Arc::clone(if http1 { &configs.web } else { &configs.grpc })
    }
}

impl Client {
    /// One that stays as it is.
    pub(crate) fn fixed(config: Arc<ClientConfig>) -> Self {
        Self(watch::Sender::new(config).subscribe())
    }

    /// Greets the server `name`, which has to speak HTTP/2.
    pub(crate) async fn connect<S>(
        &self,
        name: ServerName<'static>,
        stream: S,
    ) -> Result<client::TlsStream<S>, Handshake>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.borrow());
        let connect = TlsConnector::from(config).connect(name, stream);
        let stream =
            timeout(HANDSHAKE_TIMEOUT, connect).await.map_err(|_| Handshake::Timeout)?.map_err(Handshake::Failed)?;
        if stream.get_ref().1.alpn_protocol() == Some(H2) { Ok(stream) } else { Err(Handshake::NotHttp2) }
    }
}

/// A certificate that is not good now is said to be, and used all the same: it may be by the clocks of others.
fn report(validity: &[Validity], metrics: &TlsMetrics) {
    for of in validity {
        metrics.expires(of.setting, of.not_after);
        if let Some(wrong) = of.wrong(SystemTime::now()) {
            tracing::warn!(setting = format!("tls.{}", of.setting), "{wrong}");
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
