//! An expert's life: bind → load and verify → warm up → SERVING → register, and the ordered way out. What it loads is in
//! `load`.

mod load;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use consilium_engine::{EngineOptions, Store};
use consilium_mesh::{
    drain,
    health::{Latch, Readiness},
    metrics::Metrics,
    registry::Registry,
    serve,
};
use consilium_proto::{
    inference::grpc_inference_service_server::{self, GrpcInferenceServiceServer},
    v1::expert_service_server::{self, ExpertServiceServer},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::interceptor::InterceptedService};
use uuid::Uuid;

use self::load::Loaded;
use crate::{
    Announcement, Config, Error, Reads,
    announce::{self, Announced},
    examples::Examples,
    inference::Inference,
    metrics::Tally,
    server::{Identity, Ready, Server},
    spans, task,
};

/// What is served, as health knows it beside the expert's own name.
const SERVICES: [&str; 2] = [expert_service_server::SERVICE_NAME, grpc_inference_service_server::SERVICE_NAME];

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

    /// The instance's id. Where it has none of its own, one is made up now.
    pub fn instance(&mut self) -> &str {
        self.announcement.instance.get_or_insert_with(|| made_up(&self.config.name))
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
    announcement: Readiness,
    announced: Latch,
}

/// A running expert. Dropping it without [`Handle::stop`] is leaving without a word: the port closes, the record
/// vanishes, whoever calls next finds nobody.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    identity: Arc<Identity>,
    ready: Arc<OnceLock<Ready>>,
    announced: Arc<Announced>,
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
        let readiness = Readiness::new(options.config.name.as_str()).with_services(SERVICES);
        let loaded = readiness.latch("model");
        let announcement = Readiness::new("announcement");
        let announced = announcement.latch("registry");
        Service { options, listener, store, registry, readiness, loaded, announcement, announced }
    }

    /// For the admin port: tells what the expert waits for while it starts.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// For the admin port as well: ready once the registry has heard of the instance. It answers calls before that, but whoever
    /// replaces instances should not take the old ones away for one that no router knows.
    pub fn announcement(&self) -> Readiness {
        self.announcement.clone()
    }

    /// Returns once the expert is registered. Until its model is loaded and warm, health says `NOT_SERVING` and calls
    /// get `UNAVAILABLE`. Dropping the future takes back what was started.
    ///
    /// # Errors
    /// [`Error`] for whatever kept it from starting; nothing is left running.
    pub async fn start(self) -> Result<Handle, Error> {
        let Service { options, listener, store, registry, readiness, loaded, announced: known, .. } = self;
        let ready = Arc::new(OnceLock::new());
        let server = serve::Server::new(listener, options.serve.clone());
        let address = server.local_addr().map_err(Error::Serve)?;
        let announced = announce::address(&options.announcement, address)?;
        let identity = Arc::new(Identity::new(&options));
        let tally = Tally::new(&options.metrics, &identity, &ready);
        let expert = Server::new(Arc::clone(&identity), Arc::clone(&ready), Arc::clone(&tally));
        let mut running = Running::start(server, &options, readiness, expert);

        let starting = async {
            let Loaded { models, control, measured } = load::load(&options, store).await?;
            let (control, controller) = control.unzip();
            let task = task::build(&options.config.task, &models, &tally).await?;
            // The models of a repository are the instance's own.
            let packaged = if models.are_packaged() { models.refs() } else { Vec::new() };
            let card = announce::card(&options.config, packaged);
            // Texts are what other experts take under their own name.
            let default_model = models.default_model().filter(|_| identity.reads == Reads::Tensors);
            let record = announce::record(&identity, &options.announcement, announced, default_model);
            let record = announce::serving(record, models.refs(), &measured);
            // Set before SERVING is said, so that the first call after it finds an expert.
            let knowledge = task.knowledge().cloned();
            if ready.set(Ready::new(card.clone(), task, models, control)).is_err() {
                tracing::error!("an expert was made ready twice");
            }
            loaded.set();
            let registration = registry.register(card, record.clone()).await.map_err(Error::Register)?;
            Ok::<_, Error>((Announced::new(registration, record), knowledge, controller))
        };
        let started = tokio::select! {
            started = starting => started,
            error = running.failed() => Err(error),
        };
        let (announced, knowledge, controller) = match started {
            Ok(started) => started,
            Err(error) => {
                // Whoever watches the readiness must not take it for one that serves.
                running.readiness.drain();
                running.tasks.shutdown().await;
                return Err(error);
            }
        };
        let announced = Arc::new(announced);
        running.tasks.spawn({
            let (announced, stop) = (Arc::clone(&announced), running.stop.clone());
            async move {
                if stop.run_until_cancelled(announced.known()).await.is_some() {
                    known.set();
                }
                stop.cancelled().await;
                Ok(())
            }
        });
        if let Some(file) = options.config.examples_file.clone() {
            tally.has_examples();
            let (config, ready, announced) = (options.config.clone(), Arc::clone(&ready), Arc::clone(&announced));
            let (examples, stop) = (Examples { config, file, ready, announced, tally }, running.stop.clone());
            running.tasks.spawn(async move {
                examples.follow(stop).await;
                Ok(())
            });
        }
        if let Some(controller) = controller {
            let (announced, stop) = (Arc::downgrade(&announced), running.stop.clone());
            running.tasks.spawn(async move {
                controller.run(announced, stop).await;
                Ok(())
            });
        }
        if let Some(knowledge) = knowledge {
            let stop = running.stop.clone();
            running.tasks.spawn(async move {
                knowledge.watch(stop).await;
                Ok(())
            });
        }
        tracing::info!(expert = identity.expert, instance = identity.instance, %address, "in service");
        Ok(Handle { address, identity, ready, announced, options: options.drain, running })
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
        // Said before anything is waited for: a registry may be taking its time with an update.
        readiness.drain();
        let leaving = drain::Leaving {
            readiness,
            registration: Some(self.announced.leaving().await),
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
        let reached = spans::reached(&expert.identity);
        let inference = Inference {
            identity: Arc::clone(&expert.identity),
            ready: Arc::clone(&expert.ready),
            tally: Arc::clone(&expert.tally),
            readiness: readiness.clone(),
            deadlines: options.serve.deadlines,
            end: server.long_streams(),
        };
        let inference = GrpcInferenceServiceServer::new(inference)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit)
            // What Triton's clients can ask for. Answers are compressed for none: tensors hardly shrink.
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate);
        let expert = ExpertServiceServer::new(expert).max_decoding_message_size(limit).max_encoding_message_size(limit);
        let server = server.with_metrics(&options.metrics).with_health([readiness.clone()]);
        let server = server
            .add_service(InterceptedService::new(expert, reached.clone()))
            .add_service(InterceptedService::new(inference, reached));
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
        Identity {
            expert: config.name.clone(),
            version: config.version.clone(),
            instance: options.announcement.instance.clone().unwrap_or_else(|| made_up(&config.name)),
            epoch: epoch.to_string(),
            reads: config.task.kind().reads(),
            tls: options.serve.tls.is_some(),
        }
    }
}

/// An id for one start.
fn made_up(expert: &str) -> String {
    // The front of a UUIDv7 is the time, alike in everything that starts together; its end is random.
    let id = Uuid::now_v7().simple().to_string();
    format!("{expert}-{}", id.get(id.len().saturating_sub(12)..).unwrap_or(&id))
}

#[cfg(test)]
mod tests;
