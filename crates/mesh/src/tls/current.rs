//! The certificates of a process at this moment, and who takes up new ones.

use std::{convert::Infallible, fmt, io, sync::Arc, time::Duration, time::SystemTime};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_rustls::{
    LazyConfigAcceptor, TlsConnector, client,
    rustls::{ClientConfig, ServerConfig, pki_types::ServerName, server::Acceptor},
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

/// How often the files are looked at; two looks take up what is new. A certificate is renewed days before it ends, and
/// Kubernetes takes up to a minute to bring a Secret into a pod.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Handshakes that go on at once, for each core. One is a millisecond of arithmetic, and waits for its peer for up to a tenth
/// of a second: so many keep a core busy, and with more of them none would end sooner.
const HANDSHAKES_OF_A_CORE: usize = 64;

/// The certificates of a process. Whoever opens them sees to it that [`Tls::follow`] runs.
pub struct Tls {
    settings: Settings,
    metrics: TlsMetrics,
    server: Option<watch::Sender<ServerConfigs>>,
    client: Option<watch::Sender<Arc<ClientConfig>>>,
    /// Of the files that are in use.
    state: State,
    validity: Vec<Validity>,
    /// Of other files, at the last look. They are taken up when the next one finds the same: whoever writes them need not
    /// do it in one step, and half of a list of authorities is a list of authorities.
    seen: Option<State>,
    /// What was last wrong with newer ones: said once, not every time that they are looked at.
    said: Option<Error>,
}

/// What a server serves with. Clones share it.
#[derive(Clone)]
pub struct Server {
    configs: watch::Receiver<ServerConfigs>,
    /// For handshakes.
    pub(super) room: Arc<Semaphore>,
}

/// How a client knows servers, and is known by them. Clones share it.
#[derive(Clone)]
pub struct Client {
    config: watch::Receiver<Arc<ClientConfig>>,
    expert_name: Option<String>,
    plaintext_experts: bool,
}

/// Why a connection did not come to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Handshake {
    #[error("the handshake failed")]
    Failed(#[source] io::Error),
    #[error("the handshake took longer than {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    #[error("the server does not speak HTTP/2")]
    NotHttp2,
    #[error("the handshake panicked")]
    Panicked,
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
            validity,
            seen: None,
            said: None,
        })
    }

    /// What to serve with; `None` where the settings have no certificate.
    pub fn server(&self) -> Option<Server> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let room = || Arc::new(Semaphore::new(HANDSHAKES_OF_A_CORE * cores));
        self.server.as_ref().map(|server| Server { configs: server.subscribe(), room: room() })
    }

    /// How to know servers; `None` where the settings have no authority.
    pub fn client(&self) -> Option<Client> {
        let Settings { expert_name, plaintext_experts, .. } = &self.settings;
        self.client.as_ref().map(|client| Client {
            config: client.subscribe(),
            expert_name: expert_name.clone(),
            plaintext_experts: *plaintext_experts,
        })
    }

    /// Looks at the files every five seconds, and takes up what is new in them and the same at two looks in a row. What cannot
    /// be used is reported, and the certificates before it stay.
    pub async fn follow(mut self) -> Infallible {
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.look().await;
        }
    }

    pub(super) async fn look(&mut self) {
        let (settings, known, seen, validity) = (self.settings.clone(), self.state, self.seen, self.validity.clone());
        // Files may lie on a disk that takes its time.
        let looked = tokio::task::spawn_blocking(move || -> Result<_, Error> {
            let files = Files::read(&settings)?;
            let state = files.state();
            if state == known {
                return Ok(Found::Nothing);
            }
            if seen != Some(state) {
                return Ok(Found::Unsettled(state));
            }
            let material = Material::of(&files)?;
            Validity::worse(&material.validity, &validity, SystemTime::now())?;
            Ok(Found::New(state, material))
        });
        // Looking does not panic, and where the runtime ends there is nobody to serve any more.
        let Ok(looked) = looked.await else { return };
        match looked {
            Ok(Found::Nothing) => (self.seen, self.said) = (None, None),
            Ok(Found::Unsettled(state)) => self.seen = Some(state),
            Ok(Found::New(state, material)) => {
                (self.seen, self.said) = (None, None);
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
    fn take(&mut self, Material { server, client, validity }: Material) {
        if let (Some(known), Some(new)) = (&self.server, server) {
            known.send_replace(new);
        }
        if let (Some(known), Some(new)) = (&self.client, client) {
            known.send_replace(new);
        }
        tracing::info!("new certificates: connections are made with them from now on");
        report(&validity, &self.metrics);
        self.validity = validity;
    }
}

/// What a look at the files found.
enum Found {
    Nothing,
    /// Others than those in use, for the first time.
    Unsettled(State),
    New(State, Material),
}

impl Server {
    /// Greets a client. With `http1`, it may choose HTTP/1.1.
    pub(crate) async fn accept<S>(&self, stream: S, http1: bool) -> Result<server::TlsStream<S>, Handshake>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accept = async {
            // Who says nothing takes up no room.
            let greeted = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let _room = self.room.acquire().await.map_err(io::Error::other)?;
            greeted.into_stream(self.config(http1)).await
        };
        timeout(HANDSHAKE_TIMEOUT, accept).await.map_err(|_| Handshake::Timeout)?.map_err(Handshake::Failed)
    }

    fn config(&self, http1: bool) -> Arc<ServerConfig> {
        let configs = self.configs.borrow();
        Arc::clone(if http1 { &configs.web } else { &configs.grpc })
    }
}

impl Client {
    /// One that stays as it is.
    pub(crate) fn fixed(config: Arc<ClientConfig>) -> Self {
        Self { config: watch::Sender::new(config).subscribe(), expert_name: None, plaintext_experts: false }
    }

    /// The name that every expert's certificate must have, whatever its record says.
    pub(crate) fn expert_name(&self) -> Option<&str> {
        self.expert_name.as_deref()
    }

    /// Whether experts may be called in plaintext that announce no TLS.
    pub fn plaintext_experts(&self) -> bool {
        self.plaintext_experts
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
        let config = Arc::clone(&self.config.borrow());
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
