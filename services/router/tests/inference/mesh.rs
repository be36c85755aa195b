//! A router that really serves, with a registry in memory and a gate that goes by words.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use consilium_gate::{EncodeError, Encoded, Encoder};
use consilium_mesh::{
    config::Overlay,
    dial, drain,
    metrics::Metrics,
    registry::{Card, MemoryRegistry, Registry, Slo, testing::card},
};
use consilium_proto::{
    client::{catalog_service_client::CatalogServiceClient, grpc_inference_service_client::GrpcInferenceServiceClient},
    raw, v1,
};
use consilium_router::{Config, Error, Parts, readiness, run};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, transport::Channel};

use crate::instance::{Instance, models};

/// A running mesh called `clinic`.
pub(crate) struct Mesh {
    pub(crate) registry: Arc<MemoryRegistry>,
    pub(crate) raw: raw::Client<Channel>,
    pub(crate) typed: GrpcInferenceServiceClient<Channel>,
    pub(crate) metrics: Metrics,
    pub(crate) channel: Channel,
    stop: CancellationToken,
    router: JoinSet<Result<drain::Report, Error>>,
}

impl Mesh {
    pub(crate) async fn start(settings: &str) -> Self {
        Self::with_gate("", settings).await
    }

    /// With more settings of the gate, as they stand between the braces in `mesh.yaml`.
    pub(crate) async fn with_gate(gate: &str, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mesh.yaml");
        let dimensions = "{audience: {values: [patient, clinician], summary: who asks}}";
        let gate = format!("gate: {{encoder: words, dimensions: {dimensions}, {gate}}}");
        std::fs::write(&file, format!("name: clinic\nmodels: .\nsettle: 0s\ngrace: 5s\n{gate}\n{settings}\n")).unwrap();
        let config = Config::load(&file, &Overlay::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let registry = Arc::new(MemoryRegistry::new("clinic"));
        let (metrics, readiness) = (Metrics::new(), readiness());
        let parts = Parts {
            listener,
            registry: Arc::clone(&registry) as Arc<dyn Registry>,
            encoder: Arc::new(Words),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
        };
        let stop = CancellationToken::new();
        let mut router = JoinSet::new();
        router.spawn(run(config, parts, stop.clone()));
        readiness.ready().await;
        let channel = dial::channel(&dial::Target::plain(address)).unwrap();
        let (raw, typed) = (raw::Client::new(channel.clone()), GrpcInferenceServiceClient::new(channel.clone()));
        Self { registry, raw, typed, metrics, channel, stop, router }
    }

    /// One more instance of `labs`, which the router knows to serve.
    pub(crate) async fn labs(&self, loaded: &[&str]) -> Instance {
        self.join(labs(), loaded).await
    }

    pub(crate) async fn join(&self, card: Card, loaded: &[&str]) -> Instance {
        let instance = Instance::join(&self.registry, card, loaded).await;
        let serving = |known: &v1::Instance| known.state() == v1::instance::State::Serving;
        self.until(|catalog| {
            let mut instances = catalog.experts.iter().flat_map(|expert| &expert.instances);
            instances.any(|known| known.id == instance.id && serving(known))
        })
        .await;
        instance
    }

    pub(crate) async fn until(&self, wanted: impl Fn(&v1::Catalog) -> bool) {
        let mut catalog = CatalogServiceClient::new(self.channel.clone());
        let watched = async {
            let mut changes = catalog.watch_experts(v1::WatchExpertsRequest {}).await.unwrap().into_inner();
            while !wanted(&changes.message().await.unwrap().unwrap().catalog.unwrap()) {}
        };
        tokio::time::timeout(Duration::from_mins(1), watched).await.expect("it came to what the test waits for");
    }

    pub(crate) async fn infer(&self, request: impl Into<Bytes>) -> Result<Bytes, Status> {
        Ok(self.raw.clone().model_infer(Request::new(request.into())).await?.into_inner())
    }

    /// What a counter has counted.
    pub(crate) fn count(&self, line: &str) -> u64 {
        let page = self.metrics.encode();
        let value = page.lines().find_map(|known| known.strip_prefix(line));
        value.map_or(0, |value| value.trim().parse().unwrap())
    }

    pub(crate) async fn stopped(mut self) -> drain::Report {
        self.stop.cancel();
        self.router.join_next().await.unwrap().unwrap().unwrap()
    }
}

/// The card of `labs`: it has the models `net` and `deep`, and may be asked twice.
pub(crate) fn labs() -> Card {
    let slo = Slo { latency: Duration::from_secs(1), objective: 0.9, first_token: None };
    let examples = ["is my potassium high", "what do my blood values mean", "my sodium is low"];
    let examples = examples.map(str::to_owned).to_vec();
    Card { slo, examples, models: models(&["net", "deep"]), ..card("labs") }
}

/// Words hashed into a vector: texts are as alike as the words that they share.
struct Words;

#[tonic::async_trait]
impl Encoder for Words {
    fn digest(&self) -> &'static str {
        "words"
    }

    async fn encode(&self, text: &str, _: Instant) -> Result<Encoded, EncodeError> {
        let mut vector = vec![0.0; 512];
        vector[0] = 0.01;
        for word in text.split_whitespace() {
            let mut hasher = DefaultHasher::new();
            word.hash(&mut hasher);
            vector[usize::try_from(hasher.finish() % 512).unwrap()] += 1.0;
        }
        Ok(vector.into())
    }
}
