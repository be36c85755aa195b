//! A real etcd on free ports of loopback: one member or three, killed, restarted, compacted and restored at will.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_mesh::registry::Record;
use etcd_client::{Client, ConnectOptions, GetOptions};
use tempfile::TempDir;
use tokio::process::Command;

use super::{Process, free_port, until};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// A port that is free now may be somebody else's a moment later.
const STARTS: usize = 5;
const TIMEOUT: Duration = Duration::from_secs(2);

/// A cluster. Its data goes with it.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    dir: TempDir,
    logs: PathBuf,
    /// How often it was restored: each life has its data in a directory of its own.
    life: usize,
}

#[derive(Debug)]
struct Member {
    name: String,
    client: u16,
    peer: u16,
    /// `None` while it is down.
    process: Option<Process>,
}

/// An instance as etcd holds it.
#[derive(Debug, Clone)]
pub struct Announced {
    pub key: String,
    /// Of the lease that keeps the key.
    pub lease: i64,
    /// The revision at which the key came to be.
    pub created: i64,
    pub record: Record,
}

/// One of the programs that `make setup` puts into `.tools/bin`.
pub fn tool(name: &str) -> PathBuf {
    let path = Path::new(ROOT).join(".tools/bin").join(name);
    assert!(path.exists(), "{} is missing: run `make setup` first", path.display());
    path
}

impl Etcd {
    /// Starts a cluster of `members`, and waits until it answers.
    pub async fn start(members: usize, logs: &Path) -> Self {
        for _ in 0..STARTS {
            let names = (0..members).map(|at| format!("etcd-{at}"));
            let member = |name| Member { name, client: free_port(), peer: free_port(), process: None };
            let members = names.map(member).collect();
            let dir = TempDir::new().expect("a temporary directory can be made");
            let mut etcd = Self { members, dir, logs: logs.to_owned(), life: 0 };
            for at in 0..etcd.members.len() {
                etcd.start_member(at);
            }
            if etcd.answers_or_ends().await {
                return etcd;
            }
        }
        panic!("etcd did not start {STARTS} times; the logs in {} say why", logs.display());
    }

    /// One URL for each member, down or not.
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(Member::url).collect()
    }

    pub fn ports(&self) -> Vec<u16> {
        self.members.iter().map(|member| member.client).collect()
    }

    /// Starts a member on the data that it left.
    pub fn start_member(&mut self, at: usize) {
        let cluster: Vec<_> =
            self.members.iter().map(|member| format!("{}=http://127.0.0.1:{}", member.name, member.peer)).collect();
        let data = self.data(at);
        let member = &mut self.members[at];
        let client = member.url();
        let peer = format!("http://127.0.0.1:{}", member.peer);
        let mut command = Command::new(tool("etcd"));
        command.args(["--name", &member.name, "--log-level", "warn"]).arg("--data-dir").arg(data);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"]);
        member.process = Some(Process::spawn(&member.name, command, &self.logs));
    }

    /// SIGKILL. Its data stays.
    pub async fn kill_member(&mut self, at: usize) {
        if let Some(mut process) = self.members[at].process.take() {
            process.kill().await;
        }
    }

    pub async fn kill_all(&mut self) {
        for at in 0..self.members.len() {
            self.kill_member(at).await;
        }
    }

    pub fn start_all(&mut self) {
        for at in 0..self.members.len() {
            self.start_member(at);
        }
    }

    /// Returns once a majority answers, and how long that took.
    pub async fn answers(&self) -> Duration {
        until("etcd answers", async || self.read_anything().await.then_some(())).await.1
    }

    /// A client of a member that runs.
    pub async fn client(&self) -> Client {
        let at = self.members.iter().position(|member| member.process.is_some()).expect("a member runs");
        self.client_of(at).await
    }

    async fn client_of(&self, at: usize) -> Client {
        let options = ConnectOptions::new().with_connect_timeout(TIMEOUT).with_timeout(TIMEOUT);
        Client::connect([self.members[at].url()], Some(options)).await.expect("etcd can be connected to")
    }

    /// The live instances of an expert, in the order of their ids.
    pub async fn announced(&self, mesh: &str, expert: &str) -> Vec<Announced> {
        let prefix = format!("consilium/{mesh}/experts/{expert}/");
        let get = async || {
            let options = GetOptions::new().with_prefix();
            self.client().await.get(prefix.as_str(), Some(options)).await.ok()
        };
        // It may be electing a leader just now.
        let (found, _) = until("etcd can be read", get).await;
        let read = |kv: &etcd_client::KeyValue| Announced {
            key: kv.key_str().expect("a key is text").to_owned(),
            lease: kv.lease(),
            created: kv.create_revision(),
            record: Record::decode(expert, kv.value_str().expect("a value is text")).expect("a value is a record"),
        };
        found.kvs().iter().map(read).collect()
    }

    /// Writes `keys` keys that concern nobody, and forgets everything before the newest revision. Returns that.
    pub async fn compact(&self, keys: usize) -> i64 {
        let revision = self.write_filler(keys).await;
        self.client().await.compact(revision, None).await.expect("etcd compacts");
        revision
    }

    /// Writes `keys` keys outside of any mesh; returns the revision after them.
    pub async fn write_filler(&self, keys: usize) -> i64 {
        let mut client = self.client().await;
        let mut revision = 0;
        for key in 0..keys {
            let written = client.put(format!("filler/{key}"), "x", None).await.expect("etcd can be written");
            revision = written.header().map_or(0, etcd_client::ResponseHeader::revision);
        }
        revision
    }

    pub async fn revoke(&self, lease: i64) {
        self.client().await.lease_revoke(lease).await.expect("a lease can be revoked");
    }

    pub async fn delete(&self, key: &str) {
        self.client().await.delete(key, None).await.expect("a key can be deleted");
    }

    /// The member that leads.
    pub async fn leader(&self) -> usize {
        let look = async || {
            let status = self.client().await.status().await.ok()?;
            for at in (0..self.members.len()).filter(|at| self.members[*at].process.is_some()) {
                let own = self.client_of(at).await.status().await.ok()?;
                if own.header()?.member_id() == status.leader() {
                    return Some(at);
                }
            }
            None
        };
        until("a member leads", look).await.0
    }

    /// Hands the lead to the next member.
    pub async fn move_leader(&self) {
        let leader = Box::pin(self.leader()).await;
        let next = (leader + 1) % self.members.len();
        let id = self.client_of(next).await.status().await.expect("a member tells its state");
        let id = id.header().expect("an answer has a header").member_id();
        self.client_of(leader).await.move_leader(id).await.expect("the lead can be handed over");
    }

    /// Saves what it holds into `file`.
    pub async fn save(&self, file: &Path) {
        let mut command = Command::new(tool("etcdctl"));
        command.args(["--endpoints", &self.members[0].url(), "snapshot", "save"]).arg(file);
        run(command).await;
    }

    /// Goes back to what `file` holds: killed, restored into new data, started on the same ports.
    pub async fn restore(&mut self, file: &Path) {
        assert_eq!(self.members.len(), 1, "only a single member is restored here");
        self.kill_all().await;
        self.life += 1;
        let member = &self.members[0];
        let peer = format!("http://127.0.0.1:{}", member.peer);
        let mut command = Command::new(tool("etcdutl"));
        command.args(["snapshot", "restore"]).arg(file).arg("--data-dir").arg(self.data(0));
        command.args(["--name", &member.name, "--initial-cluster", &format!("{}={peer}", member.name)]);
        command.args(["--initial-advertise-peer-urls", &peer]);
        run(command).await;
        self.start_all();
    }

    fn data(&self, at: usize) -> PathBuf {
        self.dir.path().join(format!("{}-{}", self.members[at].name, self.life))
    }

    /// Whether it answers; false when a member has ended instead, whose port was taken.
    async fn answers_or_ends(&mut self) -> bool {
        let look = async || {
            let ended = |member: &mut Member| member.process.as_mut().is_none_or(|process| !process.is_alive());
            if self.members.iter_mut().any(ended) {
                return Some(false);
            }
            self.read_anything().await.then_some(true)
        };
        until("etcd answers", look).await.0
    }

    async fn read_anything(&self) -> bool {
        let Some(at) = self.members.iter().position(|member| member.process.is_some()) else { return false };
        let options = ConnectOptions::new().with_connect_timeout(TIMEOUT).with_timeout(TIMEOUT);
        match Client::connect([self.members[at].url()], Some(options)).await {
            // Linearizable, so it needs a leader and a majority.
            Ok(mut client) => client.get("anything", None).await.is_ok(),
            Err(_) => false,
        }
    }
}

impl Member {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }
}

async fn run(mut command: Command) {
    let output = command.output().await.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
