//! A mesh under test: router, experts and registry, with clients that speak to the router's real port.

use std::{path::Path, sync::Arc, time::Duration};

use consilium_engine::{Store, StoreOptions};
use consilium_expert as expert;
use consilium_mesh::{
    config::Overlay,
    dial, drain,
    health::Readiness,
    metrics::Metrics,
    registry::{MemoryRegistry, Registry},
};
use consilium_proto::{
    client::{catalog_service_client::CatalogServiceClient, router_service_client::RouterServiceClient},
    v1,
};
use consilium_router as router;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    transport::{Channel, Uri},
};

use crate::{ExpertFiles, Words, models, onnxruntime, scripted};

/// How long a test waits for something that must come before it calls it lost.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running mesh.
#[derive(Debug)]
pub struct Mesh {
    pub registry: Arc<MemoryRegistry>,
    pub client: RouterServiceClient<Channel>,
    pub catalog: CatalogServiceClient<Channel>,
    pub channel: Channel,
    /// The router's `http://host:port`.
    pub origin: Uri,
    pub metrics: Metrics,
    pub readiness: Readiness,
    dir: TempDir,
    store: Store,
    stop: CancellationToken,
    router: JoinSet<Result<drain::Report, router::Error>>,
}

impl Mesh {
    /// A mesh without experts. `settings` is YAML beside the name, such as `gate: {fallback: general}`.
    pub async fn start(settings: &str) -> Self {
        Self::named("test", settings).await
    }

    /// The same under a name of its own.
    pub async fn named(name: &str, settings: &str) -> Self {
        Self::over(Arc::new(MemoryRegistry::new(name)), settings).await
    }

    /// The same over a registry that is there already.
    pub async fn over(registry: Arc<MemoryRegistry>, settings: &str) -> Self {
        let dir = TempDir::new().expect("a temporary directory can be made");
        let config = config(dir.path(), registry.mesh(), settings);
        let store = Store::open(StoreOptions { onnxruntime: Some(onnxruntime()), ..StoreOptions::default() })
            .expect("ONNX Runtime loads");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound port has an address");
        let metrics = Metrics::new();
        let readiness = Readiness::new("router");
        let parts = router::Parts {
            listener,
            registry: Arc::clone(&registry) as Arc<dyn Registry>,
            encoder: Arc::new(Words),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
        };
        let stop = CancellationToken::new();
        let mut router = JoinSet::new();
        router.spawn(router::run(config, parts, stop.clone()));
        readiness.ready().await;
        let channel = dial::channel(&dial::Target::plain(address.to_string())).expect("the address is one");
        Self {
            registry,
            client: RouterServiceClient::new(channel.clone()),
            catalog: CatalogServiceClient::new(channel.clone()),
            channel,
            origin: format!("http://{address}").parse().expect("the address is one"),
            metrics,
            readiness,
            dir,
            store,
            stop,
            router,
        }
    }

    /// Writes the mesh's file anew, as whoever runs it would: whole, beside the old one, then in its place.
    pub fn rewrite(&self, settings: &str) {
        let beside = self.dir.path().join("mesh.yaml.new");
        std::fs::write(&beside, yaml(self.registry.mesh(), settings)).expect("a temporary file can be written");
        std::fs::rename(&beside, self.dir.path().join("mesh.yaml")).expect("a temporary file can be moved");
    }

    /// Where the mesh's files and those of its experts are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A mesh with the two experts `labs` and `pharmacy`, `general` as the fallback, and the dimension `audience`.
    pub async fn of_three() -> (Self, Vec<expert::Handle>) {
        let mesh = Self::start(
            "gate: {fallback: general, dimensions: {audience: {values: [patient, clinician], summary: who asks}}}",
        )
        .await;
        let mut experts = Vec::new();
        for files in [ExpertFiles::LABS, ExpertFiles::PHARMACY, ExpertFiles::GENERAL] {
            experts.push(mesh.join(&files).await);
        }
        (mesh, experts)
    }

    /// Starts a real expert, and waits until the router routes to it.
    pub async fn join(&self, files: &ExpertFiles) -> expert::Handle {
        let config = expert::Config::load(&files.write(self.dir.path())).expect("the files of a test expert are right");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let mut options = expert::Options::new(config, models().join("fixtures"));
        options.drain.settle = Duration::ZERO;
        options.metrics = self.metrics.clone();
        let registry = Arc::clone(&self.registry) as Arc<dyn Registry>;
        let service = expert::Service::new(options, listener, self.store.clone(), registry);
        let handle = service.start().await.expect("a test expert starts");
        self.knows(handle.instance()).await;
        handle
    }

    /// Adds a scripted instance of an expert of its own, and waits until the router routes to it.
    pub async fn script(&self, expert: &str, behaviour: scripted::Behaviour) -> scripted::Scripted {
        let examples = [format!("ask {expert} something"), format!("what does {expert} say about this")];
        let card = scripted::Scripted::card(expert, &[&examples[0], &examples[1]]);
        let scripted = scripted::Scripted::join(&*self.registry, card, behaviour).await;
        self.knows(&scripted.instance).await;
        scripted
    }

    /// Returns once the router knows the instance as serving.
    pub async fn knows(&self, instance: &str) {
        self.until(|catalog| {
            let mut instances = catalog.experts.iter().flat_map(|expert| &expert.instances);
            instances.any(|known| known.id == instance && known.state() == v1::instance::State::Serving)
        })
        .await;
    }

    /// Returns the router's catalogue once it is as wanted.
    pub async fn until(&self, wanted: impl Fn(&v1::Catalog) -> bool) -> v1::Catalog {
        let mut catalog = self.catalog.clone();
        let watched = async {
            let request = v1::WatchExpertsRequest {};
            let mut changes = catalog.watch_experts(request).await.expect("the catalogue can be watched").into_inner();
            loop {
                let change = changes.message().await.expect("the watch goes on").expect("the watch does not end");
                let catalog = change.catalog.expect("a change carries the catalogue");
                if wanted(&catalog) {
                    return catalog;
                }
            }
        };
        tokio::time::timeout(PATIENCE, watched).await.expect("the catalogue came to what the test waits for")
    }

    /// Asks `text`, without any option.
    pub async fn ask(&self, text: &str) -> Result<v1::DispatchResponse, Status> {
        self.client.clone().dispatch(question(text)).await.map(tonic::Response::into_inner)
    }

    pub async fn explain(&self, request: v1::DispatchRequest) -> Result<v1::ExplainResponse, Status> {
        let v1::DispatchRequest { query, context, options } = request;
        let request = v1::ExplainRequest { query, context, options };
        self.client.clone().explain(request).await.map(tonic::Response::into_inner)
    }

    /// The router's decision on `text` once it is as wanted. Asks again and again: what is set while a mesh runs holds soon,
    /// and nobody says when.
    pub async fn decides(&self, text: &str, wanted: impl Fn(&v1::Decision) -> bool) -> v1::Decision {
        let asking = async {
            loop {
                let explained = self.explain(question(text)).await.expect("the mesh explains");
                let decision = explained.decision.expect("an explanation has a decision");
                if wanted(&decision) {
                    return decision;
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("the gate came to what the test waits for")
    }

    /// The number at the end of the line of the metrics page that begins like this; 0 where there is none.
    pub fn count(&self, sample: &str) -> u64 {
        let page = self.metrics.encode();
        let line = page.lines().find_map(|line| line.strip_prefix(sample)?.split_whitespace().next());
        line.map_or(0, |number| number.parse().expect("a count is a number"))
    }

    /// Returns once the line says this number.
    pub async fn counts(&self, sample: &str, number: u64) {
        let counting = async {
            while self.count(sample) != number {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, counting).await.expect("it was counted");
    }

    /// Tells the router to stop; [`Mesh::stopped`] waits for it.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// The router's report of how it left.
    pub async fn stopped(mut self) -> drain::Report {
        self.stop.cancel();
        let report = self.router.join_next().await.expect("the router ran");
        self.store.close().await;
        report.expect("the router did not panic").expect("the router leaves in good order")
    }
}

/// A request that asks `text`.
pub fn question(text: &str) -> v1::DispatchRequest {
    let query = v1::Query { text: text.into(), ..Default::default() };
    v1::DispatchRequest { query: Some(query), ..Default::default() }
}

fn config(dir: &Path, name: &str, settings: &str) -> router::Config {
    let file = dir.join("mesh.yaml");
    // The experts are started by the tests; one file is named because a mesh names its experts.
    std::fs::write(dir.join("none.yaml"), "").expect("a temporary file can be written");
    std::fs::write(&file, yaml(name, settings)).expect("a temporary file can be written");
    let overlay = Overlay { set: vec!["gate.encoder=words".into()], ..Overlay::default() };
    router::Config::load(&file, &overlay)
        .unwrap_or_else(|mistakes| panic!("the settings of a test are right: {mistakes}"))
}

fn yaml(name: &str, settings: &str) -> String {
    format!("name: {name}\nmodels: .\nexperts: [none.yaml]\nsettle: 0s\ngrace: 5s\n{settings}\n")
}
