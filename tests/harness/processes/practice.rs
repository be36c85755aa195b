//! The mesh that is shipped, `meshes/clinic`, as an operator would run it: etcd, a router and its five experts, all of them
//! processes of their own. Beside them scripted experts in the same etcd, served from here, for what real ones cannot be
//! made to show on demand. Nobody asks those unless a request names them.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_mesh::{
    errors::Refusal,
    metrics::Metrics,
    registry::{Card, EtcdRegistry, EtcdSettings},
};
use consilium_proto::v1::{self, instance::State};
use serde_json::Value;
use tempfile::TempDir;
use tonic::Code;

use super::{
    Authority, Etcd, Expert, Process, Router,
    clinic::Options,
    files, free_port,
    start::{ANY_PORT, Manner, ORDINARY, Start},
};
use crate::{Behaviour, Scripted, Stumbled, models};

const FILES: &str = "meshes/clinic";
/// The experts of the mesh's files, one of them twice: expert and instance.
const INSTANCES: [(&str, &str); 6] = [
    ("care-coordination", "care-coordination-1"),
    ("clinical-documentation", "clinical-documentation-1"),
    ("diagnostic-reasoning", "diagnostic-reasoning-1"),
    ("drug-interactions", "drug-interactions-1"),
    ("drug-interactions", "drug-interactions-2"),
    ("general", "general-1"),
];

/// A running mesh. Everything in it ends with it.
#[derive(Debug)]
pub struct Practice {
    pub router: Router,
    /// The router answers pages of this port of loopback.
    pub page_port: u16,
    /// The real ones, in the order of their names.
    pub experts: Vec<Expert>,
    pub etcd: Etcd,
    scripted: Vec<Scripted>,
    journal: PathBuf,
    _registry: EtcdRegistry,
    dir: TempDir,
}

impl Practice {
    pub const MESH: &str = "clinic";
    /// Streams [`Practice::STORY`], then answers.
    const STORYTELLER: &str = "storyteller";
    const STORY: [&str; 3] = ["Once upon a time ", "there was a gate ", "that knew whom to ask."];
    /// Streams [`Practice::STORY`], then fails with `MODEL_FAILED`.
    const BREAKER: &str = "breaker";
    /// Answers with what it received.
    const MIRROR: &str = "mirror";
    /// Never answers.
    const SLEEPER: &str = "sleeper";
    /// Two instances. The first attempt of each request fails with `QUEUE_FULL`, the second answers.
    const STUMBLER: &str = "stumbler";
    /// Known by its card, and nobody serves it any more.
    const ABSENT: &str = "absent";

    /// Starts everything, and returns when the router routes to all of them.
    pub async fn start(logs: &Path) -> Self {
        Self::in_manner(logs, &ORDINARY).await
    }

    /// The same, with every process in this manner.
    pub async fn in_manner(logs: &Path, manner: &Manner) -> Self {
        let dir = TempDir::new().expect("a temporary directory can be made");
        let etcd = Etcd::start(1, logs).await;
        let urls = etcd.urls();
        // A copy: tests change what experts know, and what a router keeps belongs nowhere near files under version control.
        // It lies where its own files say that it does: two levels below the models.
        let files = dir.path().join(FILES);
        files::copy(&shipped(), &files);
        fs::create_dir_all(dir.path().join("models")).expect("a temporary directory can be made");
        symlink(models(), dir.path().join("models/build")).expect("a temporary directory can have links");
        let lease = Options::default().lease;
        let start = Start { mesh: Self::MESH, dir: &files, logs, urls: &urls, lease, manner };
        let mut experts = Vec::new();
        for (expert, instance) in INSTANCES {
            let yaml = files.join("experts").join(expert).join("expert.yaml");
            let command = start.expert_command(&yaml, instance, ANY_PORT);
            experts.push(Expert::new(expert, instance, Process::listening(instance, command, logs).await));
        }
        let mut command = start.router_command(&dir.path().join("router.table"));
        let (key_file, journal) = (dir.path().join("feedback.key"), dir.path().join("feedback.jsonl"));
        for (setting, file) in [("key_file", &key_file), ("journal", &journal)] {
            command.arg("--set").arg(format!("feedback.{setting}={}", file.display()));
        }
        // Nobody here serves TLS. The router shows until when its authority is good all the same.
        let ca = dir.path().join("ca.crt");
        files::write(&ca, &Authority::new().pem());
        command.arg("--set").arg(format!("tls.ca={}", ca.display())).args(["--set", "tls.plaintext_experts=true"]);
        let page_port = free_port();
        command.arg("--set").arg(format!("web.origins=[http://127.0.0.1:{page_port}]"));
        let router = Router::new(Process::listening("router", command, logs).await).await;
        let registry = EtcdRegistry::open(Self::MESH, &EtcdSettings::new(&urls), None, &Metrics::new())
            .expect("the addresses of etcd are right");
        let (scripted, absent) = script(&registry).await;
        let practice = Self { router, page_port, experts, etcd, scripted, journal, _registry: registry, dir };
        practice.complete(absent).await;
        practice
    }

    /// Where the processes keep what they keep: the router's table, its key, its journal of feedback.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the files are that describe the mesh, as they are shipped.
    pub fn files(&self) -> PathBuf {
        self.dir.path().join(FILES)
    }

    /// What the router wrote down of feedback so far, line by line.
    ///
    /// # Panics
    /// When a line is no JSON.
    pub fn journal(&self) -> Vec<Value> {
        let text = match fs::read_to_string(&self.journal) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.expect("the journal can be read"),
        };
        text.lines().map(|line| serde_json::from_str(line).expect("a line of the journal is JSON")).collect()
    }

    /// Returns when the router calls every instance but that of `absent`, which leaves, and its gate has learned them in whole.
    /// What a router tells of its table, its gate knows already, but perhaps for the time being: admitted, not calibrated.
    async fn complete(&self, absent: Scripted) {
        let serving = |table: &v1::Catalog| {
            let instances = table.experts.iter().flat_map(|expert| &expert.instances);
            instances.filter(|known| known.state() == State::Serving).count()
        };
        // Nobody's card stays behind who was never announced.
        let all = INSTANCES.len() + self.scripted.len();
        self.router.until("everybody serves", |table| serving(table) == all + 1).await;
        absent.leave().await;
        let is_left = |expert: &v1::Expert| expert.name == Self::ABSENT && expert.instances.is_empty();
        let left = |table: &v1::Catalog| table.experts.iter().any(is_left) && serving(table) == all;
        self.router.until("one of them has left", left).await;
        self.router.decides("who cooks in the ward kitchen", |decision| decision.calibrated).await;
    }
}

/// The files of the mesh, as they are shipped.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../meshes/clinic")
}

/// Everybody who is scripted joins; who is to leave again is the second.
async fn script(registry: &EtcdRegistry) -> (Vec<Scripted>, Scripted) {
    let failed = Refusal::new(Code::Internal, "MODEL_FAILED", "the model ran and failed").into_status();
    let full = Refusal::new(Code::ResourceExhausted, "QUEUE_FULL", "the queue is full")
        .with_retry_after(Duration::from_millis(20))
        .into_status();
    let stumble = Behaviour::Stumble(full, Stumbled::default());
    let story = || Practice::STORY.into();
    let mut scripted = Vec::new();
    for (expert, behaviour) in [
        (Practice::STORYTELLER, Behaviour::Stream(story())),
        (Practice::BREAKER, Behaviour::Break(story(), failed)),
        (Practice::MIRROR, Behaviour::Mirror),
        (Practice::SLEEPER, Behaviour::Hold),
        (Practice::STUMBLER, stumble.clone()),
        (Practice::STUMBLER, stumble),
    ] {
        scripted.push(Scripted::join(registry, card(expert), behaviour).await);
    }
    (scripted, Scripted::join(registry, card(Practice::ABSENT), Behaviour::Answer).await)
}

/// Its subject is its own name, which no question of the clinic is about.
fn card(expert: &str) -> Card {
    Scripted::card(expert, &[&format!("{expert} {expert}")])
}
