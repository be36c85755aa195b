//! A whole mesh in one process: one model store, every expert and the router on real gRPC ports of the loopback
//! interface. `up` and `demo` run it, and so can a test.
//!
//! What runs where is the same as on many machines; only the number of processes differs, and as a rule the registry,
//! which is in memory. With an etcd, the mesh meets whoever else is there.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use consilium_engine::{Engine, Store, StoreOptions};
use consilium_expert as expert;
use consilium_mesh::{
    admin::Admin,
    drain,
    health::Readiness,
    metrics::Metrics,
    registry::{Registry, Snapshot},
};
use consilium_proto::v1::{catalog_service_server, router_service_server};
use consilium_router as router;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    definition::Definition,
    error::{Error, Trouble},
    progress::Progress,
    registry,
};

/// For etcd to be heard of, and for it to list the mesh's experts. Longer than a leader takes to be elected, shorter than
/// a person waits for nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Everything about a start that is not in the mesh's files.
#[derive(Debug)]
pub struct Options {
    pub onnxruntime: PathBuf,
    /// Where everything that the mesh measures is to be seen.
    pub metrics: Metrics,
    pub progress: Progress,
    /// Cancelled by whoever no longer wants the mesh that is starting.
    pub stop: CancellationToken,
}

/// A running mesh. Dropping it instead of [`Mesh::stop`] is a crash: connections break, engine threads are left behind.
#[derive(Debug)]
pub struct Mesh {
    name: String,
    router: SocketAddr,
    admin: Admin,
    experts: Vec<Expert>,
    routing: JoinSet<Result<drain::Report, router::Error>>,
    stop: CancellationToken,
    store: Store,
    start_up: Duration,
}

/// A running expert and what it was started from.
#[derive(Debug)]
pub struct Expert {
    pub config: expert::Config,
    handle: expert::Handle,
}

impl Mesh {
    /// Opens the ports, loads and warms up each model once, starts the experts, then the router. Returns when the
    /// router is ready to route to every one of them; `None` when it was told to stop before. Experts that others may
    /// know already leave in good order.
    ///
    /// # Errors
    /// Everything that is wrong with the ports or with the models, all of it together; nothing is left running.
    pub async fn start(definition: Definition, options: Options) -> Result<Option<Mesh>, Error> {
        let began = Instant::now();
        let ports = Ports::open(&definition.config).await?;
        let metrics = options.metrics;
        let store = StoreOptions {
            onnxruntime: Some(options.onnxruntime),
            metrics: metrics.clone(),
            ..StoreOptions::default()
        };
        let store = Store::open(store).map_err(|error| unusable(Trouble::of("ONNX Runtime cannot be used", &error)))?;
        let starting = Starting { definition, store: store.clone(), metrics, progress: options.progress, began };
        let mut experts = Vec::new();
        // On the heap: a start is long, and its future would make every command as large.
        let started = options.stop.run_until_cancelled(Box::pin(starting.run(ports, &mut experts))).await;
        if let Some(Ok(mesh)) = started {
            return Ok(Some(Mesh { experts, ..mesh }));
        }
        leave(experts).await;
        store.close().await;
        started.transpose().map(|_| None)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the router listens.
    pub fn router_addr(&self) -> SocketAddr {
        self.router
    }

    /// Where `/livez`, `/readyz` and `/metrics` are.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.local_addr()
    }

    pub fn experts(&self) -> &[Expert] {
        &self.experts
    }

    /// From the call of [`Mesh::start`] to readiness.
    pub fn start_up(&self) -> Duration {
        self.start_up
    }

    /// Returns when a part of the mesh ended by itself, which none should.
    pub async fn failed(&mut self) -> Error {
        let expert_ended = async |expert: &mut Expert| {
            let error = expert.handle.failed().await;
            Error::Failed(Trouble::of(format!("the expert {} ended", expert.config.name), &error))
        };
        let mut experts: FuturesUnordered<_> = self.experts.iter_mut().map(expert_ended).collect();
        tokio::select! {
            ended = self.routing.join_next() => router_ended(ended),
            Some(error) = experts.next() => error,
        }
    }

    /// Takes everything out of service in order: first the router, so that nobody calls an expert any more, then the
    /// experts, then the engines, and the admin port last, because it tells how it goes. Returns how many calls had to
    /// be cut off.
    pub async fn stop(self) -> usize {
        let Mesh { admin, experts, mut routing, stop, store, .. } = self;
        stop.cancel();
        let mut left = 0;
        while let Some(ended) = routing.join_next().await {
            match ended {
                Ok(Ok(report)) => left += report.left,
                ended => tracing::warn!(error = %router_ended(Some(ended)), "the router did not stop in good order"),
            }
        }
        left += leave(experts).await;
        store.close().await;
        drop(admin);
        left
    }
}

impl Expert {
    pub fn address(&self) -> SocketAddr {
        self.handle.address()
    }
}

/// Takes experts out of service side by side. Returns how many calls had to be cut off.
async fn leave(experts: Vec<Expert>) -> usize {
    let mut left = 0;
    let mut leaving: JoinSet<drain::Report> = experts.into_iter().map(|expert| expert.handle.stop()).collect();
    while let Some(report) = leaving.join_next().await {
        left += report.map_or(0, |report| report.left);
    }
    left
}

/// The listeners that clients know; the experts' own are picked by the system.
struct Ports {
    router: TcpListener,
    admin: std::net::TcpListener,
}

impl Ports {
    async fn open(config: &router::Config) -> Result<Ports, Error> {
        let router = TcpListener::bind(config.listen).await.map_err(|error| port("router", config.listen, &error));
        let admin = std::net::TcpListener::bind(config.admin).map_err(|error| port("admin port", config.admin, &error));
        match (router, admin) {
            (Ok(router), Ok(admin)) => Ok(Ports { router, admin }),
            (router, admin) => {
                let details: Vec<String> = router.err().into_iter().chain(admin.err()).collect();
                let hint =
                    "is another mesh running? --listen and --admin choose other addresses, --ephemeral free ones";
                Err(unusable(Trouble { details, ..Trouble::new("the mesh cannot listen").with_hint(hint) }))
            }
        }
    }
}

/// A mesh on its way up.
struct Starting {
    definition: Definition,
    store: Store,
    metrics: Metrics,
    progress: Progress,
    began: Instant,
}

impl Starting {
    /// Puts the experts into `experts` as they start, so that they are there for whoever ends this before its time. The
    /// mesh that it returns is without them.
    async fn run(self, ports: Ports, experts: &mut Vec<Expert>) -> Result<Mesh, Error> {
        let metrics = self.metrics.clone();
        let registry = self.registry(&metrics).await?;
        let services = self.services(&registry, &metrics).await?;
        let readiness = Readiness::new("router")
            .with_services([router_service_server::SERVICE_NAME, catalog_service_server::SERVICE_NAME]);
        let everything = services.iter().map(|(_, service)| service.readiness()).chain([readiness.clone()]).collect();
        let admin = Admin::start(ports.admin, everything, metrics.clone())
            .map_err(|error| Error::Failed(Trouble::of("the admin port cannot be served", &error)))?;

        let engines = self.load_models().await?;
        let encoder = engines.get(&self.definition.config.gate.encoder).cloned();
        let encoder = encoder.ok_or_else(|| unusable(Trouble::new("the gate has no encoder")))?;
        if let Err(problem) = expert::TaskKind::Embed.fits(encoder.manifest()) {
            return Err(unusable(Trouble::new(format!("the gate's encoder {problem}"))));
        }
        self.start_experts(services, experts).await?;
        self.listed(&*registry, experts).await?;

        let step = self.progress.step("the gate learns its experts");
        let address = ports.router.local_addr().map_err(|error| unusable(Trouble::new(error.to_string())))?;
        let parts = router::Parts {
            listener: ports.router,
            registry,
            encoder: Arc::new(encoder),
            metrics,
            readiness: readiness.clone(),
        };
        let stop = CancellationToken::new();
        let mut routing = JoinSet::new();
        routing.spawn(router::run(self.definition.config.clone(), parts, stop.clone()));
        tokio::select! {
            () = readiness.ready() => {}
            ended = routing.join_next() => return Err(router_ended(ended)),
        }
        step.done("");
        Ok(Mesh {
            name: self.definition.config.name,
            router: address,
            admin,
            experts: Vec::new(),
            routing,
            stop,
            store: self.store,
            start_up: self.began.elapsed(),
        })
    }

    /// The registry that the mesh's file speaks of. An etcd is waited for here, before models are loaded in vain.
    async fn registry(&self, metrics: &Metrics) -> Result<Arc<dyn Registry>, Error> {
        let config = &self.definition.config;
        let opened = config.registry.open(&config.name, metrics);
        let registry = opened.map_err(|error| unusable(Trouble::of("the registry cannot be used", &error)))?;
        if let Some(etcd) = &config.registry.etcd {
            if !etcd.is_local() {
                tracing::warn!("the experts are announced on loopback: only routers of this machine can call them");
            }
            let step = self.progress.step("etcd answers");
            registry::first(&*registry, etcd, PATIENCE).await?;
            step.done("");
        }
        Ok(registry)
    }

    /// Returns once `registry` lists every one of `experts`: etcd is told in the background, and what a router learns first
    /// should be the whole mesh.
    async fn listed(&self, registry: &dyn Registry, experts: &[Expert]) -> Result<(), Error> {
        let Some(etcd) = &self.definition.config.registry.etcd else { return Ok(()) };
        let step = self.progress.step("etcd lists the experts");
        let lists = |mesh: &Snapshot, expert: &Expert| {
            let known = mesh.experts.get(&expert.config.name);
            known.is_some_and(|known| known.instances.contains_key(expert.handle.instance()))
        };
        let all = registry::shows(registry, |mesh| experts.iter().all(|expert| lists(mesh, expert)), PATIENCE).await;
        all.ok_or_else(|| Error::Failed(registry::unreachable(etcd)))?;
        step.done("");
        Ok(())
    }

    /// Every expert with a port of its own, not started yet.
    async fn services(
        &self,
        registry: &Arc<dyn Registry>,
        metrics: &Metrics,
    ) -> Result<Vec<(expert::Config, expert::Service)>, Error> {
        let mut services = Vec::new();
        let mesh = &self.definition.config;
        // Without an etcd the only caller is this mesh's router, which is gone by then.
        let settle = if mesh.registry.etcd.is_some() { mesh.settle } else { Duration::ZERO };
        for config in &self.definition.experts {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let listener = TcpListener::bind(any).await.map_err(|error| {
                Error::Failed(Trouble::new("an expert cannot listen").with_detail(port(&config.name, any, &error)))
            })?;
            let mut options = expert::Options::new(config.clone(), &self.definition.config.models);
            options.metrics = metrics.clone();
            options.serve.reflection = self.definition.config.reflection;
            options.serve.limits.max_message_bytes = self.definition.config.max_message_bytes;
            options.drain = drain::Options { settle, budget: mesh.grace, ..drain::Options::default() };
            let service = expert::Service::new(options, listener, self.store.clone(), Arc::clone(registry));
            services.push((config.clone(), service));
        }
        Ok(services)
    }

    /// Each model once, by name. All of them are tried, so that everything wrong is said at once.
    async fn load_models(&self) -> Result<HashMap<String, Engine>, Error> {
        let mut engines = HashMap::new();
        let mut trouble = Trouble::new("the mesh's models cannot be used")
            .with_hint("`make setup` builds the models of the example meshes");
        for (name, dir, options) in self.definition.models() {
            let step = self.progress.step(format!("model {name}"));
            match self.store.load(&dir, options).await {
                Ok(engine) => {
                    step.done(&executors(engine.cost().executors));
                    engines.insert(name.to_owned(), engine);
                }
                Err(consilium_engine::Error::Manifest { dir, problems }) => {
                    trouble.details.extend(problems.iter().map(|problem| format!("{}: {problem}", dir.display())));
                }
                Err(error) => trouble.details.extend(Trouble::of("", &error).details),
            }
        }
        if trouble.details.is_empty() { Ok(engines) } else { Err(unusable(trouble)) }
    }

    /// One after the other: what takes time is encoding their knowledge, and that keeps all cores busy already. All of
    /// them are tried, so that everything wrong is said at once.
    async fn start_experts(
        &self,
        services: Vec<(expert::Config, expert::Service)>,
        experts: &mut Vec<Expert>,
    ) -> Result<(), Error> {
        let mut trouble = Trouble::new("the mesh's experts cannot start");
        for (config, service) in services {
            let step = self.progress.step(format!("expert {}", config.name));
            match service.start().await {
                Ok(handle) => {
                    step.done(&doing(&config));
                    experts.push(Expert { config, handle });
                }
                Err(error) => {
                    let details = Trouble::of("", &error).details.join(": ");
                    trouble = trouble.with_detail(format!("{}: {details}", config.name));
                }
            }
        }
        if trouble.details.is_empty() { Ok(()) } else { Err(unusable(trouble)) }
    }
}

fn doing(config: &expert::Config) -> String {
    let kind = config.task.kind().as_str();
    config.task.packaged().map_or_else(|| kind.to_owned(), |model| format!("{kind} on {model}"))
}

fn router_ended(ended: Option<Result<Result<drain::Report, router::Error>, tokio::task::JoinError>>) -> Error {
    const HEADLINE: &str = "the router ended";
    Error::Failed(match ended {
        Some(Ok(Err(error))) => Trouble::of(HEADLINE, &error),
        Some(Err(error)) => Trouble::of(HEADLINE, &error),
        Some(Ok(Ok(_))) | None => Trouble::new(HEADLINE),
    })
}

fn unusable(trouble: Trouble) -> Error {
    Error::Usage(trouble)
}

fn port(what: &str, address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("{what}: {address} is in use"),
        _ => format!("{what}: {address}: {error}"),
    }
}

fn executors(count: usize) -> String {
    if count == 1 { "1 executor".to_owned() } else { format!("{count} executors") }
}
