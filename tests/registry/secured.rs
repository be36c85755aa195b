//! etcd behind TLS, and an etcd that wants to know who asks.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
};

use consilium_mesh::registry::{Error, EtcdRegistry, EtcdSettings, EtcdTls, Registry};
use consilium_tests::processes::{Process, tool};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{card, instance, logs, open, record, until};

/// An authority, and certificates of it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate can be made");
        let dir = dir.join(name);
        std::fs::create_dir(&dir).expect("a directory can be made");
        std::fs::write(dir.join("ca.pem"), issuer.pem()).expect("a file can be written");
        Self { issuer, dir }
    }

    fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Certificate and key for `host`.
    fn issue(&self, host: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new([host.to_owned()]).expect("it is a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be made");
        let paths = (self.dir.join(format!("{host}.pem")), self.dir.join(format!("{host}.key")));
        std::fs::write(&paths.0, certificate.pem()).expect("a file can be written");
        std::fs::write(&paths.1, key.serialize_pem()).expect("a file can be written");
        paths
    }
}

fn start(dir: &Path, authority: &Authority, extra: &[&str]) -> (Process, String) {
    let port = || TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port is free").port();
    let (url, peer) = (format!("https://127.0.0.1:{}", port()), format!("http://127.0.0.1:{}", port()));
    let (certificate, key) = authority.issue("etcd.test");
    let mut command = Command::new(tool("etcd"));
    command.args(["--name", "secured", "--log-level", "warn"]).arg("--data-dir").arg(dir.join("data"));
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("secured={peer}")]);
    command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key).args(extra);
    (Process::spawn("etcd-secured", command, &logs()), url)
}

fn settings(url: &str, ca: PathBuf, identity: Option<(PathBuf, PathBuf)>) -> EtcdSettings {
    let (certificate, key) = identity.unzip();
    let tls = EtcdTls { ca, certificate, key, server_name: Some("etcd.test".into()) };
    EtcdSettings { tls: Some(tls), ..EtcdSettings::new([url]) }
}

async fn announces(registry: &EtcdRegistry) {
    let _registration = registry.register(card("labs"), record("labs", "a")).await.expect("it is taken");
    until(registry, |known| instance(known, "labs", "a").is_some()).await;
}

#[tokio::test]
async fn etcd_is_known_by_its_certificate_and_knows_its_clients_by_theirs() {
    let dir = TempDir::new().expect("a temporary directory can be made");
    let ours = Authority::new(dir.path(), "ours");
    let ca = ours.ca().display().to_string();
    let mutual = ["--client-cert-auth", "--trusted-ca-file", &ca];
    let (_etcd, url) = start(dir.path(), &ours, &mutual);
    let known = settings(&url, ours.ca(), Some(ours.issue("expert.test")));
    announces(&open("clinic", &known, None)).await;

    // Everybody else stays outside, and does not get an answer from a registry that is only said to be one.
    let others = Authority::new(dir.path(), "others");
    for stranger in [
        settings(&url, ours.ca(), None),
        settings(&url, ours.ca(), Some(others.issue("expert.test"))),
        settings(&url, others.ca(), Some(ours.issue("expert.test"))),
    ] {
        let registry = open("elsewhere", &stranger, None);
        let refused = registry.retire("labs", "1").await.expect_err("there is no connection");
        assert!(matches!(refused, Error::Unavailable(_)), "{refused}");
    }
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_refused_at_once() {
    let dir = TempDir::new().expect("a temporary directory can be made");
    let broken = dir.path().join("broken.pem");
    std::fs::write(&broken, "no certificate").expect("a file can be written");
    for ca in [broken, dir.path().join("missing.pem")] {
        let settings = settings("https://127.0.0.1:9", ca, None);
        let opened = EtcdRegistry::open("clinic", &settings, None, &consilium_mesh::metrics::Metrics::new());
        assert!(opened.expect_err("there is no certificate").to_string().contains("registry.etcd"));
    }
}
