//! A mesh in which nobody speaks plaintext: callers and router, router and experts, and all of them and etcd know each other
//! by certificates.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_mesh::dial::{self, ClientTls, Target};
use consilium_proto::{
    client::catalog_service_client::CatalogServiceClient,
    v1::{self, instance::State},
};
use tempfile::TempDir;
use tokio::process::Command;
use tonic::transport::Channel;

use super::{
    EXPERT, Expert, MESH, Manner, Process, Router,
    authority::{Authority, Certificate, Secret, caller},
    files, free_port,
    router::listed,
    start::{ANY_PORT, Start},
    tool, until,
};

const LEASE: Duration = Duration::from_secs(15);
/// What servers are known by.
const ROUTER: &str = "router.test";
const EXPERTS: &str = "experts.test";
const ETCD: &str = "etcd.test";

/// A running mesh of a router and two instances of [`EXPERT`]. Everything in it ends with it.
#[derive(Debug)]
pub struct Secured {
    pub router: Router,
    experts: Vec<Expert>,
    _general: Expert,
    _etcd: Process,
    url: String,
    /// Of the router, of the experts, of etcd.
    secrets: [Secret; 3],
    logs: PathBuf,
    dir: TempDir,
}

/// Everybody's certificates, of one authority.
struct Issued([Certificate; 3]);

impl Issued {
    fn by(authority: &Authority) -> Self {
        Self([ROUTER, EXPERTS, ETCD].map(|name| authority.issue(name)))
    }
}

impl Secured {
    /// Starts everything with certificates of `authority`, and returns when the router routes to `a` and `b`. `next` is whose
    /// certificates will come later: etcd reads only once whom it believes.
    pub async fn start(logs: &Path, authority: &Authority, next: &Authority) -> Self {
        let dir = TempDir::new().expect("a temporary directory can be made");
        files::clinic(dir.path());
        let Issued(own) = Issued::by(authority);
        let secrets = [
            Secret::new(dir.path().join(ROUTER), &own[0], &[authority]),
            Secret::new(dir.path().join(EXPERTS), &own[1], &[authority]),
            Secret::new(dir.path().join(ETCD), &own[2], &[authority, next]),
        ];
        let (etcd, url) = start_etcd(dir.path(), &secrets[2], logs);
        let (urls, manner) = ([url.clone()], router_manner(&secrets[0]));
        let start = Start { mesh: MESH, dir: dir.path(), logs, urls: &urls, lease: LEASE, manner: &manner };
        let command = start.router_command(&dir.path().join("router.table"));
        let process = Process::listening("router", command, logs).await;
        let tls = caller(authority, &authority.issue("caller.test"), ROUTER);
        let router = Router::through(process, |address| channel(address, &tls)).await;
        let manner = expert_manner(&secrets[1]);
        let start = Start { manner: &manner, ..start };
        let (general, a, b) = tokio::join!(
            start.expert("general", "general", ANY_PORT),
            start.expert(EXPERT, "a", ANY_PORT),
            start.expert(EXPERT, "b", ANY_PORT),
        );
        let known = |table: &v1::Catalog| {
            let general = table.experts.iter().find(|expert| expert.name == "general");
            let is_serving = |known: &v1::Instance| known.state() == State::Serving;
            general.is_some_and(|general| general.instances.iter().any(is_serving))
        };
        router.until("the fallback is there", known).await;
        let logs = logs.to_owned();
        let mesh = Self { router, experts: vec![a, b], _general: general, _etcd: etcd, url, secrets, logs, dir };
        mesh.routed(2).await;
        mesh
    }

    /// Gives everybody new certificates of `authority`, and others to believe.
    pub fn renew(&mut self, authority: &Authority, believed: &[&Authority]) {
        for (secret, own) in self.secrets.iter_mut().zip(Issued::by(authority).0) {
            secret.replace(&own, believed);
        }
    }

    /// Returns once the router and every instance let in a caller who shows a certificate of `shown` and believes those of
    /// `believed`.
    pub async fn known(&self, believed: &Authority, shown: &Authority) {
        let own = shown.issue("caller.test");
        let look = async || self.all(|address, name| answers(channel(address, &caller(believed, &own, name)))).await;
        until("everybody lets in the caller", async || look().await.then_some(())).await;
    }

    /// Returns once all of them refuse who shows a certificate of `stranger`, while they let in who shows one of `believed`:
    /// a server that is gone lets in nobody.
    pub async fn refused(&self, believed: &Authority, stranger: &Authority) {
        let [friend, stranger] = [believed, stranger].map(|authority| authority.issue("caller.test"));
        let look = async || {
            self.all(async |address, name| {
                let [friend, stranger] = [&friend, &stranger].map(|own| channel(address, &caller(believed, own, name)));
                answers(friend).await && !answers(stranger).await
            })
            .await
        };
        until("everybody refuses the stranger", async || look().await.then_some(())).await;
    }

    /// Whether all servers are such, each given by its address and name.
    async fn all(&self, is_such: impl AsyncFn(SocketAddr, &'static str) -> bool) -> bool {
        for (address, name) in self.servers() {
            if !is_such(address, name).await {
                return false;
            }
        }
        true
    }

    /// One more instance; returns when the router routes to it.
    pub async fn join(&mut self, instance: &str) {
        let (urls, manner) = ([self.url.clone()], expert_manner(&self.secrets[1]));
        let (dir, logs) = (self.dir.path(), self.logs.as_path());
        let start = Start { mesh: MESH, dir, logs, urls: &urls, lease: LEASE, manner: &manner };
        self.experts.push(start.expert(EXPERT, instance, ANY_PORT).await);
        self.routed(self.experts.len()).await;
    }

    /// Whether anybody answers who is spoken to in plaintext.
    pub async fn answers_in_the_clear(&self) -> bool {
        for (address, _) in self.servers() {
            let channel = dial::channel(&Target::plain(address.to_string())).expect("an address is one");
            if answers(channel).await {
                return true;
            }
        }
        false
    }

    async fn routed(&self, instances: usize) {
        let serving = |table: &v1::Catalog| listed(table).filter(|known| known.state() == State::Serving).count();
        self.router.until("all instances serve", |table| serving(table) == instances).await;
    }

    fn servers(&self) -> impl Iterator<Item = (SocketAddr, &'static str)> {
        let experts = self.experts.iter().map(|expert| (expert.address(), EXPERTS));
        [(self.router.address(), ROUTER)].into_iter().chain(experts)
    }
}

/// Whether the server says anything, be it that it has no such service: a status with a source was made here, of a
/// connection that did not come to be.
async fn answers(channel: Channel) -> bool {
    let answer = CatalogServiceClient::new(channel).list_experts(v1::ListExpertsRequest::default()).await;
    answer.err().is_none_or(|status| std::error::Error::source(&status).is_none())
}

fn channel(address: SocketAddr, tls: &ClientTls) -> Channel {
    let target = Target { tls: Some(tls.clone()), ..Target::plain(address.to_string()) };
    dial::channel(&target).expect("the certificates are some")
}

fn router_manner(secret: &Secret) -> Manner {
    let path = |file| secret.path(file).display().to_string();
    both(secret).set(&format!("tls.ca={}", path("ca.crt"))).set(&format!("tls.expert_name={EXPERTS}"))
}

fn expert_manner(secret: &Secret) -> Manner {
    both(secret).set(&format!("server_name={EXPERTS}"))
}

/// Serves with it, asks for others', and shows it to etcd.
fn both(secret: &Secret) -> Manner {
    let [certificate, key, ca] = ["tls.crt", "tls.key", "ca.crt"].map(|file| secret.path(file).display().to_string());
    Manner::default()
        .set(&format!("tls.certificate={certificate}"))
        .set(&format!("tls.key={key}"))
        .set(&format!("tls.client_ca={ca}"))
        .set(&format!("registry.etcd.tls.certificate={certificate}"))
        .set(&format!("registry.etcd.tls.key={key}"))
        .set(&format!("registry.etcd.tls.ca={ca}"))
        .set(&format!("registry.etcd.tls.server_name={ETCD}"))
}

fn start_etcd(dir: &Path, secret: &Secret, logs: &Path) -> (Process, String) {
    let (url, peer) = (format!("https://127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
    let mut command = Command::new(tool("etcd"));
    command.args(["--name", "etcd", "--log-level", "warn"]).arg("--data-dir").arg(dir.join("data"));
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("etcd={peer}"), "--client-cert-auth"]);
    for (flag, file) in [("--cert-file", "tls.crt"), ("--key-file", "tls.key"), ("--trusted-ca-file", "ca.crt")] {
        command.arg(flag).arg(secret.path(file));
    }
    (Process::spawn("etcd", command, logs), url)
}
