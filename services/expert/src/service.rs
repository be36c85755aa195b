//! An expert's life: bind → load and verify → warm up → SERVING → register, and the ordered way out.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use consilium_engine::{Call, Engine, EngineOptions, Error as EngineError, Kind, Store};
use consilium_mesh::{
    drain,
    health::{Latch, Readiness},
    metrics::Metrics,
    registry::{Registration, Registry},
    serve,
};
use consilium_proto::v1::expert_service_server::{ExpertServiceServer, SERVICE_NAME};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Announcement, Config, Error, announce,
    server::{Identity, Ready, Server},
    task,
};

/// Texts that are enough for an average, and how long each may wait where others keep the model busy.
const SAMPLES: usize = 16;
const SAMPLE_PATIENCE: Duration = Duration::from_mins(1);

/// Everything about one expert that does not depend on the process it runs in.
#[derive(Clone, Debug)]
pub struct Options {
    pub config: Config,
    /// Where the directories of the models are.
    pub models: PathBuf,
    pub engine: EngineOptions,
    pub serve: serve::Options,
    pub announcement: Announcement,
    pub drain: drain::Options,
    pub metrics: Metrics,
}

impl Options {
    pub fn new(config: Config, models: impl Into<PathBuf>) -> Options {
        Options {
            config,
            models: models.into(),
            engine: EngineOptions::default(),
            serve: serve::Options { name: "expert", ..serve::Options::default() },
            announcement: Announcement::default(),
            drain: drain::Options::default(),
            metrics: Metrics::new(),
        }
    }
}

/// An expert about to start. Several may share a store, and with it their models.
#[derive(Debug)]
pub struct Service {
    options: Options,
    listener: TcpListener,
    store: Store,
    registry: Arc<dyn Registry>,
    readiness: Readiness,
    loaded: Latch,
}

/// A running expert. Dropping it without [`Handle::stop`] is leaving without a word: the port closes, the record
/// vanishes, whoever calls next finds nobody.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    identity: Arc<Identity>,
    ready: Arc<OnceLock<Ready>>,
    registration: Box<dyn Registration>,
    options: drain::Options,
    running: Running,
}

/// The server and what works beside it.
#[derive(Debug)]
struct Running {
    readiness: Readiness,
    tasks: JoinSet<Result<(), serve::Error>>,
    stop: CancellationToken,
    long_streams: CancellationToken,
    in_flight: serve::InFlight,
}

/// Runs one expert until `stop`, then takes it out of service in good order.
///
/// # Errors
/// [`Error`] when it cannot start, or the server ends by itself.
pub async fn run(service: Service, stop: CancellationToken) -> Result<(), Error> {
    let Some(started) = stop.run_until_cancelled(service.start()).await else {
        return Ok(());
    };
    let mut handle = started?;
    tokio::select! {
        () = stop.cancelled() => {}
        error = handle.failed() => return Err(error),
    }
    handle.stop().await;
    Ok(())
}

impl Service {
    pub fn new(options: Options, listener: TcpListener, store: Store, registry: Arc<dyn Registry>) -> Service {
        let readiness = Readiness::new(options.config.name.as_str()).with_services([SERVICE_NAME]);
        let loaded = readiness.latch("model");
        Service { options, listener, store, registry, readiness, loaded }
    }

    /// For the admin port: tells what the expert waits for while it starts.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Returns once the expert is registered. Until its model is loaded and warm, health says `NOT_SERVING` and calls
    /// get `UNAVAILABLE`. Dropping the future takes back what was started.
    ///
    /// # Errors
    /// [`Error`] for whatever kept it from starting; nothing is left running.
    pub async fn start(self) -> Result<Handle, Error> {
        let Service { options, listener, store, registry, readiness, loaded } = self;
        let ready = Arc::new(OnceLock::new());
        let server = serve::Server::new(listener, options.serve.clone());
        let address = server.local_addr().map_err(Error::Serve)?;
        let announced = announce::address(&options.announcement, address)?;
        let identity = Arc::new(Identity::new(&options));
        let mut running =
            Running::start(server, &options, readiness, Server::new(Arc::clone(&identity), Arc::clone(&ready)));

        let starting = async {
            let model = options.models.join(&options.config.task.model);
            let engine = store.load(&model, options.engine.clone()).await.map_err(Error::Model)?;
            let task = task::build(&options.config.task.kind, engine.clone()).await?;
            let card = announce::card(&options.config, &[&engine]);
            let bytes_per_unit = bytes_per_token(&options.config, &engine).await.map_err(Error::Model)?;
            let measured = announce::Measured { cost: engine.cost(), bytes_per_unit };
            let record = announce::record(&identity, &card, &options.announcement, announced, &measured);
            // Set before SERVING is said, so that the first call after it finds an expert.
            let knowledge = task.knowledge().cloned();
            if ready.set(Ready { card: card.clone(), task }).is_err() {
                tracing::error!("an expert was made ready twice");
            }
            loaded.set();
            let registration = registry.register(card, record).await.map_err(Error::Register)?;
            Ok::<_, Error>((registration, knowledge))
        };
        let started = tokio::select! {
            started = starting => started,
            error = running.failed() => Err(error),
        };
        let (registration, knowledge) = match started {
            Ok(started) => started,
            Err(error) => {
                // Whoever watches the readiness must not take it for one that serves.
                running.readiness.drain();
                running.tasks.shutdown().await;
                return Err(error);
            }
        };
        if let Some(knowledge) = knowledge {
            let stop = running.stop.clone();
            running.tasks.spawn(async move {
                knowledge.watch(stop).await;
                Ok(())
            });
        }
        tracing::info!(expert = identity.expert, instance = identity.instance, %address, "in service");
        Ok(Handle { address, identity, ready, registration, options: options.drain, running })
    }
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn expert(&self) -> &str {
        &self.identity.expert
    }

    /// Its id in the registry.
    pub fn instance(&self) -> &str {
        &self.identity.instance
    }

    pub fn readiness(&self) -> &Readiness {
        &self.running.readiness
    }

    /// Which state of its knowledge answers; `None` for a task without knowledge.
    pub fn knowledge_revision(&self) -> Option<Arc<str>> {
        self.ready.get()?.task.knowledge().map(|knowledge| knowledge.revision())
    }

    /// Reads the knowledge again now instead of within a second, and tells which revision answers from now on; `None`
    /// for a task without knowledge. On `Err` the old one goes on answering.
    ///
    /// # Errors
    /// [`Error::Unreadable`] or [`Error::Knowledge`] for a bad file, [`Error::Encoding`] when the engine fails.
    pub async fn reload(&self) -> Result<Option<Arc<str>>, Error> {
        match self.ready.get().and_then(|ready| ready.task.knowledge()) {
            Some(knowledge) => knowledge.reload().await.map(Some),
            None => Ok(None),
        }
    }

    /// Returns when the server ended by itself, which it should not.
    pub async fn failed(&mut self) -> Error {
        self.running.failed().await
    }

    /// Takes the expert out of service: no call that could be answered is lost.
    pub async fn stop(mut self) -> drain::Report {
        let Running { readiness, tasks, stop, long_streams, in_flight } = &mut self.running;
        let leaving = drain::Leaving {
            readiness,
            registration: Some(&*self.registration),
            long_streams: long_streams.clone(),
            stop: stop.clone(),
            in_flight: in_flight.clone(),
        };
        let stopped = async {
            while let Some(ended) = tasks.join_next().await {
                if let Some(error) = failure(ended) {
                    tracing::warn!(%error, "the server did not stop in good order");
                }
            }
        };
        drain::leave(leaving, stopped, self.options).await
    }
}

impl Running {
    fn start(server: serve::Server, options: &Options, readiness: Readiness, expert: Server) -> Running {
        let limit = options.serve.limits.max_message_bytes;
        let expert = ExpertServiceServer::new(expert).max_decoding_message_size(limit).max_encoding_message_size(limit);
        let server = server.with_metrics(&options.metrics).with_health([readiness.clone()]).add_service(expert);
        let (stop, long_streams, in_flight) = (CancellationToken::new(), server.long_streams(), server.in_flight());
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(stop.clone(), grace(options.drain)));
        Running { readiness, tasks, stop, long_streams, in_flight }
    }

    async fn failed(&mut self) -> Error {
        loop {
            match self.tasks.join_next().await {
                Some(ended) => return failure(ended).unwrap_or(Error::Ended),
                // Nothing runs and nothing will: that was said once already.
                None => std::future::pending().await,
            }
        }
    }
}

/// How long the expert's own examples are in bytes for each token that the model makes of them: what a router without
/// the tokenizer guesses a query's cost by. 0 for models that read no text.
async fn bytes_per_token(config: &Config, engine: &Engine) -> Result<f64, EngineError> {
    if engine.manifest().kind != Kind::Text {
        return Ok(0.0);
    }
    let (mut bytes, mut tokens) = (0, 0);
    for text in config.examples.iter().chain([&config.summary]).take(SAMPLES) {
        let output = match engine.text(text, Call { deadline: Instant::now() + SAMPLE_PATIENCE }).await {
            Ok(output) => output,
            // A neighbour keeps the model busy. That is no reason not to start: what was measured so far will do.
            Err(EngineError::QueueFull { .. } | EngineError::DeadlineExceeded) => break,
            Err(error) => return Err(error),
        };
        // What was cut off has bytes and no tokens.
        if !output.truncated {
            bytes += text.len();
            tokens += output.tokens;
        }
    }
    Ok(if tokens == 0 { 0.0 } else { bytes as f64 / tokens as f64 })
}

/// What is left of the drain's budget for running calls when every earlier step takes its longest: cutting them off is
/// the server's own work, so it must come to that before the drain gives up on the server.
fn grace(drain: drain::Options) -> Duration {
    drain.budget.saturating_sub(drain.settle).saturating_sub(drain.registry * 2)
}

fn failure(ended: Result<Result<(), serve::Error>, tokio::task::JoinError>) -> Option<Error> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(Error::Serve(error)),
        Err(error) if error.is_cancelled() => None,
        Err(error) => Some(Error::Died(error)),
    }
}

impl Identity {
    fn new(options: &Options) -> Identity {
        let (config, epoch) = (&options.config, Uuid::now_v7());
        // The front of a UUIDv7 is the time, alike in everything that starts together; its end is random.
        let id = epoch.simple().to_string();
        let short = id.get(id.len().saturating_sub(12)..).unwrap_or(&id);
        Identity {
            expert: config.name.clone(),
            version: config.version.clone(),
            instance: options.announcement.instance.clone().unwrap_or_else(|| format!("{}-{short}", config.name)),
            epoch: epoch.to_string(),
            reads: config.task.kind.reads(),
            tls: options.serve.tls.is_some(),
        }
    }
}

#[cfg(test)]
mod tests;
