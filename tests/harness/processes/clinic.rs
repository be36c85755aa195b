//! The mesh under test: etcd, a router, three instances of one expert and a fallback, all of them processes of their own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use consilium_proto::v1::{self, instance::State};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    Etcd, Expert, Ledger, Load, Process, Proxy, Router, Tally, files,
    load::RATE,
    router::listed,
    start::{ANY_PORT, ORDINARY, Start},
    until,
};

pub const MESH: &str = "clinic";
/// The expert that all questions are for.
pub const EXPERT: &str = "drug-interactions";

/// What a mesh is started with.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Of etcd.
    pub members: usize,
    /// Whether the router reaches etcd over cables that can be pulled.
    pub cables: bool,
    /// How long an instance stays registered that gives no sign of life.
    pub lease: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { members: 1, cables: false, lease: Duration::from_secs(15) }
    }
}

/// A running mesh. Everything in it ends with it.
#[derive(Debug)]
pub struct Clinic {
    pub router: Router,
    /// The instances of [`EXPERT`], by id.
    pub experts: BTreeMap<String, Expert>,
    /// One for each member of etcd, where they were asked for.
    pub cables: Vec<Proxy>,
    pub etcd: Etcd,
    pub ledger: Arc<Ledger>,
    _general: Expert,
    logs: PathBuf,
    lease: Duration,
    dir: TempDir,
}

impl Clinic {
    /// Starts everything, and returns when the router routes to the three instances `a`, `b` and `c`.
    pub async fn start(logs: &Path, options: Options) -> Self {
        let dir = TempDir::new().expect("a temporary directory can be made");
        files::clinic(dir.path());
        let etcd = Etcd::start(options.members, logs).await;
        let mut cables = Vec::new();
        if options.cables {
            for port in etcd.ports() {
                cables.push(Proxy::to(port).await);
            }
        }
        let urls = if options.cables { cables.iter().map(Proxy::url).collect() } else { etcd.urls() };
        let table = dir.path().join("router.table");
        let direct = etcd.urls();
        let start = Start { mesh: MESH, dir: dir.path(), logs, urls: &direct, lease: options.lease, manner: &ORDINARY };
        let over_cables = Start { urls: &urls, ..start };
        let (router, general, a, b, c) = tokio::join!(
            over_cables.router("router", &table),
            start.expert("general", "general", ANY_PORT),
            start.expert(EXPERT, "a", ANY_PORT),
            start.expert(EXPERT, "b", ANY_PORT),
            start.expert(EXPERT, "c", ANY_PORT),
        );
        let experts = [a, b, c].map(|expert| (expert.instance.clone(), expert)).into();
        let ledger = Arc::default();
        let (logs, lease) = (logs.to_owned(), options.lease);
        let clinic = Self { router, experts, cables, etcd, ledger, _general: general, logs, lease, dir };
        let known = |table: &v1::Catalog| table.experts.iter().any(|expert| expert.name == "general");
        clinic.router.until("the fallback is there", known).await;
        clinic.router.until_right(&clinic.right().await).await;
        clinic
    }

    /// Where a router keeps its table.
    pub fn table(&self, router: &str) -> PathBuf {
        self.dir.path().join(format!("{router}.table"))
    }

    /// One more router, on the table that is at `table(name)`.
    pub async fn another_router(&self, name: &str) -> Router {
        self.starting(&self.etcd.urls()).router(name, &self.table(name)).await
    }

    /// One more router, at an address of its own and with settings of its own, as `key=value`. Returns when it routes like
    /// the first one.
    pub async fn another_router_at(&self, name: &str, address: &str, settings: &[&str]) -> Router {
        let urls = self.etcd.urls();
        let mut command = self.starting(&urls).router_command_at(&self.table(name), address);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let router = Router::new(Process::listening(name, command, &self.logs).await).await;
        router.until_right(&self.right().await).await;
        router
    }

    /// A load through the first router, counted in the mesh's ledger. Returns when it runs steadily.
    pub async fn load(&self) -> Load {
        let load = Load::start(&self.router.channel, &self.ledger);
        self.steady().await;
        load
    }

    /// Returns when a second's requests more have been answered.
    pub async fn steady(&self) {
        let enough = self.ledger.answered() + RATE as usize;
        until("requests are answered", async || (self.ledger.answered() >= enough).then_some(())).await;
    }

    /// Ends the load a second after whatever was done, so that what comes late shows too. Every request was answered.
    pub async fn rest(&self, load: Load) -> Tally {
        self.steady().await;
        load.stop().await;
        let tally = self.ledger.tally();
        tally.assert_all_answered();
        tally
    }

    /// One more instance. It may not be routed to yet.
    pub async fn begin(&mut self, instance: &str) {
        self.begin_at(instance, ANY_PORT).await;
    }

    /// One more instance, on a port of its own choice.
    pub async fn begin_at(&mut self, instance: &str, address: &str) {
        let expert = self.starting(&self.etcd.urls()).expert(EXPERT, instance, address).await;
        self.experts.insert(instance.to_owned(), expert);
    }

    /// One more instance; returns when the router routes to it, and how long that took from its start.
    pub async fn join(&mut self, instance: &str) -> Duration {
        let since = Instant::now();
        self.begin(instance).await;
        self.routed(instance).await;
        since.elapsed()
    }

    /// Starts an expert on a subject that the mesh has not had so far. Returns when etcd lists it: the router may not have
    /// learned it yet.
    pub async fn newcomer(&self, name: &str, examples: &[&str]) -> Expert {
        files::newcomer(self.dir.path(), name, examples);
        let expert = self.starting(&self.etcd.urls()).expert(name, name, ANY_PORT).await;
        let listed = async || (!self.etcd.announced(MESH, name).await.is_empty()).then_some(());
        until("etcd lists the newcomer", listed).await;
        expert
    }

    /// Returns when the router would send this question to this expert, and how long that took.
    pub async fn routes(&self, question: &str, expert: &str) -> Duration {
        let chosen = |candidate: &v1::decision::Candidate| candidate.selected && candidate.expert == expert;
        self.router.decides(question, |decision| decision.candidates.iter().any(chosen)).await
    }

    /// Returns when the router routes to `instance` in the life that it has now, and how long that took.
    pub async fn routed(&self, instance: &str) -> Duration {
        let since = Instant::now();
        self.router.until_serving(instance, &self.experts[instance].epoch().await).await;
        since.elapsed()
    }

    /// Takes an instance out of the mesh's hands.
    pub fn take(&mut self, instance: &str) -> Expert {
        self.experts.remove(instance).unwrap_or_else(|| panic!("there is no instance {instance}"))
    }

    /// An instance with settings of its own, as `key=value`.
    pub async fn begin_with(&mut self, instance: &str, settings: &[&str]) {
        let urls = self.etcd.urls();
        let start = self.starting(&urls);
        let mut command = start.expert_command(&start.yaml(EXPERT), instance, ANY_PORT);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let process = Process::listening(instance, command, &self.logs).await;
        self.experts.insert(instance.to_owned(), Expert::new(EXPERT, instance, process));
    }

    /// What a right table says: the instances that run, each with the epoch of the life that it has now.
    pub async fn right(&self) -> BTreeMap<String, String> {
        let mut right = BTreeMap::new();
        for (instance, expert) in &self.experts {
            right.insert(instance.clone(), expert.epoch().await);
        }
        right
    }

    fn starting<'a>(&'a self, urls: &'a [String]) -> Start<'a> {
        Start { mesh: MESH, dir: self.dir.path(), logs: &self.logs, urls, lease: self.lease, manner: &ORDINARY }
    }
}

impl Router {
    /// Returns once this router routes to exactly the instances of `right`, in these lives, and how long that took.
    /// Whoever else it lists gets no calls.
    pub async fn until_right(&self, right: &BTreeMap<String, String>) -> Duration {
        let wanted = |table: &v1::Catalog| {
            let serving = listed(table).filter(|known| known.state() == State::Serving);
            serving.map(|known| (known.id.clone(), known.epoch.clone())).collect::<BTreeMap<_, _>>() == *right
        };
        self.until(&format!("it serves with exactly {right:?}"), wanted).await
    }
}
