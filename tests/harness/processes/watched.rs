//! A mesh and everything that looks at it: the practice, an expert that serves tensors, all of it traced and scraped by a real
//! Jaeger and a real Prometheus.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use consilium_proto::v1::{self, instance::State};
use tempfile::TempDir;

use super::{
    Collector, Expert, Jaeger, Lab, Manner, Practice, Prometheus, Watch, built,
    clinic::Options,
    lab::{over_repository, tensors},
    start::Start,
};

/// A running mesh. Everything in it ends with it.
#[derive(Debug)]
pub struct Watched {
    pub practice: Practice,
    /// An instance of [`Lab::TENSORS`].
    pub tensors: Expert,
    pub prometheus: Prometheus,
    pub jaeger: Jaeger,
    /// Stands before Jaeger, and remembers every byte that the mesh exported.
    pub collector: Collector,
    pub logs: PathBuf,
    dir: TempDir,
}

impl Watched {
    /// Starts everything, and returns when the router routes to all of them and Prometheus has looked at each.
    pub async fn start(logs: &Path) -> Self {
        let dir = TempDir::new().expect("a temporary directory can be made");
        let jaeger = Jaeger::start(logs).await;
        let collector = Collector::before(&jaeger.otlp()).await;
        // As much as it ever says: among what is looked for is what must not be said.
        let manner = Manner { log: "debug", ..Manner::default() }.traced(&collector.url());
        let practice = Practice::in_manner(logs, &manner).await;
        tensors(dir.path(), "tensors-1");
        let urls = practice.etcd.urls();
        let lease = Options::default().lease;
        let start = Start { mesh: Practice::MESH, dir: dir.path(), logs, urls: &urls, lease, manner: &manner };
        let tensors = over_repository(&start, Lab::TENSORS, "tensors-1").await;
        let serves = |table: &v1::Catalog| {
            let expert = table.experts.iter().find(|expert| expert.name == Lab::TENSORS);
            expert.is_some_and(|expert| expert.instances.iter().any(|known| known.state() == State::Serving))
        };
        practice.router.until("tensors are served", serves).await;
        let rules = dir.path().join("rules.yaml");
        write_rules(&practice.files().join("mesh.yaml"), &rules);
        let watch = Watch { targets: targets(&practice, &tensors), rules: vec![rules] };
        let prometheus = Prometheus::start(logs, &watch).await;
        prometheus.scrapes(watch.targets.len()).await;
        Self { practice, tensors, prometheus, jaeger, collector, logs: logs.to_owned(), dir }
    }

    /// The `/metrics` of every process, with its name.
    pub async fn pages(&self) -> Vec<(String, String)> {
        let mut pages = Vec::new();
        for (name, admin) in self.processes() {
            let page = super::http::get(admin, "/metrics").await;
            let (status, page) = page.unwrap_or_else(|| panic!("{name} shows no metrics"));
            assert_eq!(status, 200, "{name}");
            pages.push((name, page));
        }
        pages
    }

    /// The name and the admin address of every process.
    pub fn processes(&self) -> Vec<(String, SocketAddr)> {
        targets(&self.practice, &self.tensors)
    }

    /// What the expert of tensors keeps.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// The router, and every instance under its id.
fn targets(practice: &Practice, tensors: &Expert) -> Vec<(String, SocketAddr)> {
    let experts = practice.experts.iter().chain([tensors]).map(|expert| (expert.instance.clone(), expert.admin()));
    [("router".to_owned(), practice.router.admin())].into_iter().chain(experts).collect()
}

/// The rules of a mesh, as `consilium slo rules` prints them, but for one thing: every group is evaluated as often as
/// Prometheus is told to, those of days too, which would have to be waited for.
pub fn write_rules(mesh: &Path, into: &Path) {
    let output = Command::new(built("consilium")).args(["slo", "rules"]).arg(mesh).output().expect("it starts");
    assert!(output.status.success(), "consilium slo rules: {}", String::from_utf8_lossy(&output.stderr));
    let rules = String::from_utf8(output.stdout).expect("rules are text");
    let lines: Vec<_> = rules.lines().filter(|line| !line.trim_start().starts_with("interval: ")).collect();
    fs::write(into, lines.join("\n")).expect("a temporary file can be written");
}
