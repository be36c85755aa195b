//! A small mesh beside others on the same etcd: one router, and either two real experts or a scripted one. For tests that
//! compare meshes which differ in nothing but how they are told to speak of themselves, or that spoil one.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_mesh::{
    metrics::Metrics,
    registry::{EtcdRegistry, EtcdSettings, Slo},
};
use consilium_proto::v1::{self, instance::State};
use serde_json::json;
use tempfile::TempDir;

use super::{
    Etcd, Expert, Lab, Router,
    clinic::Options,
    files,
    lab::{over_repository, tensors, triage},
    start::{ANY_PORT, Manner, Start},
};
use crate::{Behaviour, Scripted};

/// A running mesh. Everything in it but etcd ends with it.
#[derive(Debug)]
pub struct Outpost {
    pub router: Router,
    /// [`Lab::TENSORS`] and [`Lab::TRIAGE`], where there are real ones.
    pub experts: Vec<Expert>,
    _registry: Option<EtcdRegistry>,
    dir: TempDir,
}

impl Outpost {
    /// The scripted expert.
    pub const ORACLE: &str = "oracle";
    /// What that promises unless told otherwise: half a second, for nineteen of twenty.
    pub const LATENCY: Duration = Duration::from_millis(500);
    const OBJECTIVE: f64 = 0.95;

    /// Starts the mesh `name` with one instance of each of two experts, every process in this manner. Returns when the
    /// router routes to both.
    pub async fn start(etcd: &Etcd, name: &str, logs: &Path, manner: &Manner) -> Self {
        let dir = TempDir::new().expect("a temporary directory can be made");
        triage(dir.path());
        tensors(dir.path(), "tensors-1");
        files::mesh(dir.path(), name, &json!({"encoder": "minilm-l6"}));
        let (urls, logs) = (etcd.urls(), logs.join(name));
        let start =
            Start { mesh: name, dir: dir.path(), logs: &logs, urls: &urls, lease: Options::default().lease, manner };
        let table = table(&dir);
        let (router, tensors, triage) = tokio::join!(
            start.router("router", &table),
            over_repository(&start, Lab::TENSORS, "tensors-1"),
            start.expert(Lab::TRIAGE, "triage-1", ANY_PORT),
        );
        let outpost = Self { router, experts: vec![tensors, triage], _registry: None, dir };
        outpost.serving(2).await;
        outpost
    }

    /// Starts the mesh `name` with nobody but [`Outpost::ORACLE`], which is served from here, promises to answer within
    /// `latency`, and answers until it is told otherwise.
    pub async fn scripted(
        etcd: &Etcd,
        name: &str,
        logs: &Path,
        manner: &Manner,
        latency: Duration,
    ) -> (Self, Scripted) {
        let dir = TempDir::new().expect("a temporary directory can be made");
        let slo = json!({"latency": format!("{}ms", latency.as_millis()), "objective": Self::OBJECTIVE});
        let task = json!({"kind": "classify", "model": "clinic-diagnostic"});
        let described = json!({"examples": "examples.txt", "accepts": ["text"], "task": task, "slo": slo});
        let oracle = files::expert(dir.path(), Self::ORACLE, "Answers whatever it is asked.", &described);
        files::write(&oracle.join("examples.txt"), "what does the oracle say\nask the oracle\n");
        files::mesh(dir.path(), name, &json!({"encoder": "minilm-l6"}));
        let (urls, logs) = (etcd.urls(), logs.join(name));
        let lease = Options::default().lease;
        let start = Start { mesh: name, dir: dir.path(), logs: &logs, urls: &urls, lease, manner };
        let router = start.router("router", &table(&dir)).await;
        let registry = EtcdRegistry::open(name, &EtcdSettings::new(&urls), None, &Metrics::new());
        let registry = registry.expect("the addresses of etcd are right");
        let mut card = Scripted::card(Self::ORACLE, &["what does the oracle say", "ask the oracle"]);
        card.slo = Slo { latency, objective: Self::OBJECTIVE, first_token: None };
        let oracle = Scripted::join(&registry, card, Behaviour::Answer).await;
        let outpost = Self { router, experts: Vec::new(), _registry: Some(registry), dir };
        outpost.serving(1).await;
        (outpost, oracle)
    }

    /// The mesh's description.
    pub fn mesh_yaml(&self) -> PathBuf {
        self.dir.path().join("mesh.yaml")
    }

    async fn serving(&self, instances: usize) {
        let serving = |table: &v1::Catalog| {
            let known = table.experts.iter().flat_map(|expert| &expert.instances);
            known.filter(|known| known.state() == State::Serving).count() == instances
        };
        self.router.until("everybody serves", serving).await;
    }
}

fn table(dir: &TempDir) -> PathBuf {
    dir.path().join("router.table")
}
