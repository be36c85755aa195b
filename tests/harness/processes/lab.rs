//! A mesh that serves tensors, for clients of the Open Inference Protocol: etcd, a router, two instances of an expert over
//! a repository of models, one over an empty repository, and one that reads texts. All of them processes of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_proto::v1;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Etcd, Expert, Process, Router, files,
    start::{ANY_PORT, ORDINARY, Start},
};
use crate::models;

const LEASE: Duration = Duration::from_secs(15);
/// Texts that are an emergency and texts that are none: what the small classifier was made for.
const EXAMPLES: &str = "sudden chest pain and sweating\ncrushing pain in the chest\na mild cough since yesterday\n\
                        a runny nose and a mild cough\nitching skin for a week\n";

/// A running mesh called [`Lab::MESH`]. Everything in it ends with it.
#[derive(Debug)]
pub struct Lab {
    pub router: Router,
    /// Two instances of [`Lab::TENSORS`], each over a repository of its own: `a` and `b`.
    pub tensors: [Expert; 2],
    /// [`Lab::EMPTY`]: loads what it is told to.
    pub empty: Expert,
    /// [`Lab::TRIAGE`]
    pub triage: Expert,
    _etcd: Etcd,
    dir: TempDir,
}

impl Lab {
    pub const MESH: &str = "lab";
    /// Serves the models of `models/build/fixtures/repository`, `add-sub` of them under its own name.
    pub const TENSORS: &str = "tensors";
    /// Starts without a model.
    pub const EMPTY: &str = "empty";
    /// Says how urgent a text is.
    pub const TRIAGE: &str = "triage";
    /// What every expert of the mesh promises. Generous: a busy machine is not what these tests are about.
    pub const SLO: Duration = Duration::from_secs(1);

    /// Starts everything, and returns when the router routes to all of them.
    pub async fn start(logs: &Path) -> Self {
        let dir = TempDir::new().expect("a temporary directory can be made");
        write(dir.path());
        let etcd = Etcd::start(1, logs).await;
        let urls = etcd.urls();
        let start = Start { mesh: Self::MESH, dir: dir.path(), logs, urls: &urls, lease: LEASE, manner: &ORDINARY };
        let table = dir.path().join("router.table");
        let (router, a, b, empty, triage) = tokio::join!(
            start.router("router", &table),
            over_repository(&start, Self::TENSORS, "a"),
            over_repository(&start, Self::TENSORS, "b"),
            over_repository(&start, Self::EMPTY, "empty"),
            start.expert(Self::TRIAGE, "triage", ANY_PORT),
        );
        let lab = Self { router, tensors: [a, b], empty, triage, _etcd: etcd, dir };
        let serving = |table: &v1::Catalog| {
            let instances = table.experts.iter().flat_map(|expert| &expert.instances);
            instances.filter(|known| known.state() == v1::instance::State::Serving).count() == 4
        };
        lab.router.until("four instances serve", serving).await;
        lab
    }

    /// The repository of an instance: a directory for each model.
    pub fn repository(&self, instance: &str) -> PathBuf {
        repository(self.dir.path(), instance)
    }
}

fn repository(dir: &Path, instance: &str) -> PathBuf {
    dir.join("instances").join(instance).join("repository")
}

/// Instances of one expert have one `expert.yaml`, and a repository lies beside it: so each has a copy of its own beside its
/// own.
pub(super) async fn over_repository(start: &Start<'_>, expert: &str, instance: &str) -> Expert {
    let repository = repository(start.dir, instance);
    let yaml = repository.with_file_name("expert.yaml");
    fs::copy(start.yaml(expert), &yaml).expect("a temporary file can be copied");
    let command = start.expert_command(&yaml, instance, ANY_PORT);
    Expert::new(expert, instance, Process::listening(instance, command, start.logs).await)
}

fn write(dir: &Path) {
    for instance in ["a", "b"] {
        tensors(dir, instance);
    }
    let empty = json!({
        "accepts": ["tensor"],
        "task": {"kind": "tensors", "repository": "repository", "load": [], "control": "explicit"},
        "slo": slo(),
    });
    files::expert(dir, Lab::EMPTY, "Runs the models that it is told to load.", &empty);
    triage(dir);
    files::mesh(dir, Lab::MESH, &json!({"encoder": "minilm-l6"}));
    fs::create_dir_all(repository(dir, "empty")).expect("a temporary directory can be made");
}

/// Writes the expert [`Lab::TRIAGE`] into `dir`.
pub(super) fn triage(dir: &Path) {
    let triage = json!({
        "examples": "examples.txt",
        "accepts": ["text"],
        "task": {"kind": "classify", "model": "clinic-diagnostic"},
        "slo": slo(),
    });
    let triage =
        files::expert(dir, Lab::TRIAGE, "Says how urgent a complaint is, from the words of a patient.", &triage);
    files::write(&triage.join("examples.txt"), EXAMPLES);
}

/// Writes the expert [`Lab::TENSORS`] into `dir`, and the repository of one instance of it.
pub(super) fn tensors(dir: &Path, instance: &str) {
    let tensors = json!({
        "accepts": ["tensor"],
        "task": {"kind": "tensors", "repository": "repository", "model": "add-sub", "control": "explicit"},
        "slo": slo(),
    });
    files::expert(dir, Lab::TENSORS, "Adds and subtracts, and gives tensors of every kind back as they are.", &tensors);
    files::copy(&models().join("fixtures/repository"), &repository(dir, instance));
}

fn slo() -> Value {
    json!({"latency": format!("{}ms", Lab::SLO.as_millis()), "objective": 0.9})
}
