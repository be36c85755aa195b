//! Which registry a process uses, as configured: the `registry` section of `mesh.yaml` and `instance.yaml`. Without an
//! `etcd` in it the registry is in memory, for a mesh in one process.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{EtcdRegistry, MemoryRegistry, Registry};
use crate::{
    config::{self, Mistakes},
    dial::{ClientIdentity, ClientTls, is_address},
    metrics::Metrics,
};

const DEFAULT_LEASE: Duration = Duration::from_secs(15);
/// etcd itself grants nothing shorter than one and a half election timeouts, which is 2 s as it comes.
const SHORTEST_LEASE: Duration = Duration::from_secs(2);
/// A dead instance that does not answer is forgotten sooner than this at any rate.
const LONGEST_LEASE: Duration = Duration::from_hours(1);

/// Raw as written; [`Settings::check`] says whether it can be used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where instances on several machines meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdSettings>,
    /// The file in which a router keeps what it knew last, so that it can start while etcd is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<PathBuf>,
}

/// An etcd cluster and how to speak to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdSettings {
    /// `http://host:port` or, with `tls`, `https://host:port`; one for each member.
    pub endpoints: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<EtcdTls>,
    /// How long an instance stays listed after its last sign of life.
    #[serde(default = "default_lease", with = "config::duration")]
    pub lease: Duration,
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdTls {
    /// Whose certificates to believe.
    pub ca: PathBuf,
    /// This process's own, where etcd asks for one; `key` goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The name in etcd's certificate, where it is not the host of the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

fn default_lease() -> Duration {
    DEFAULT_LEASE
}

impl Settings {
    /// Completes paths, which start at `base`, and says everything that is wrong with the section `registry` of `file`.
    pub fn check(&mut self, file: &str, base: &Path) -> Mistakes {
        let mut found = Found { file, mistakes: Mistakes::default() };
        if let Some(table) = &mut self.table {
            *table = base.join(&*table);
        }
        if let Some(etcd) = &mut self.etcd {
            etcd.check(base, &mut found);
        }
        found.mistakes
    }

    /// The registry of `mesh`. Returns at once, whether or not etcd can be reached.
    ///
    /// # Errors
    /// When certificates cannot be read or used, or no thread can be started.
    pub fn open(&self, mesh: &str, metrics: &Metrics) -> Result<Arc<dyn Registry>, super::Error> {
        Ok(match &self.etcd {
            Some(etcd) => Arc::new(EtcdRegistry::open(mesh, etcd, self.table.clone(), metrics)?),
            None => Arc::new(MemoryRegistry::new(mesh).shown_on(metrics)),
        })
    }
}

impl EtcdSettings {
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), tls: None, lease: DEFAULT_LEASE }
    }

    /// Whether every member is on this machine.
    pub fn is_local(&self) -> bool {
        let host = |endpoint: &String| endpoint.parse::<http::Uri>().ok()?.host().map(str::to_owned);
        let local = |host: String| {
            host == "localhost"
                || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        };
        self.endpoints.iter().all(|endpoint| host(endpoint).is_some_and(local))
    }

    fn check(&mut self, base: &Path, found: &mut Found<'_>) {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let expected = format!("{scheme}://host:port");
        if self.endpoints.is_empty() {
            found.add("registry.etcd.endpoints", "empty".to_owned(), &expected);
        }
        for (at, endpoint) in self.endpoints.iter().enumerate() {
            let right = endpoint.split_once("://").is_some_and(|(known, rest)| known == scheme && is_address(rest));
            if !right {
                let https = self.tls.is_none() && endpoint.starts_with("https://");
                let hint = if https { "registry.etcd.tls beside it, with the ca to know it by" } else { &expected };
                found.add(&format!("registry.etcd.endpoints[{at}]"), format!("{endpoint:?}"), hint);
            }
        }
        if !(SHORTEST_LEASE..=LONGEST_LEASE).contains(&self.lease) {
            found.add("registry.etcd.lease", humantime::format_duration(self.lease).to_string(), "2s to 1h");
        }
        let Some(tls) = &mut self.tls else { return };
        if tls.certificate.is_some() != tls.key.is_some() {
            let problem = "one of certificate and key is missing".to_owned();
            found.add("registry.etcd.tls", problem, "both, or neither");
        }
        let files = [("ca", Some(&mut tls.ca)), ("certificate", tls.certificate.as_mut()), ("key", tls.key.as_mut())];
        for (name, path) in files.into_iter().filter_map(|(name, path)| Some((name, path?))) {
            *path = base.join(&*path);
            if !path.is_file() {
                let problem = format!("{} is no file", path.display());
                found.add(&format!("registry.etcd.tls.{name}"), problem, "a file in PEM");
            }
        }
    }

    /// Reads the certificates.
    ///
    /// # Errors
    /// [`super::Error::Invalid`] with the file that cannot be read.
    pub(super) fn client_tls(&self) -> Result<Option<ClientTls>, super::Error> {
        let Some(tls) = &self.tls else { return Ok(None) };
        let read = |what: &'static str, path: &Path| {
            std::fs::read(path).map_err(|error| super::Error::invalid(what, format!("{}: {error}", path.display())))
        };
        let identity = match (&tls.certificate, &tls.key) {
            (Some(certificate), Some(key)) => Some(ClientIdentity {
                certificate: read("registry.etcd.tls.certificate", certificate)?,
                key: read("registry.etcd.tls.key", key)?,
            }),
            _ => None,
        };
        let ca = read("registry.etcd.tls.ca", &tls.ca)?;
        Ok(Some(ClientTls { ca, server_name: tls.server_name.clone(), identity }))
    }
}

/// The mistakes so far.
struct Found<'a> {
    file: &'a str,
    mistakes: Mistakes,
}

impl Found<'_> {
    fn add(&mut self, path: &str, problem: String, expected: &str) {
        self.mistakes.add((self.file, path), problem, expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(yaml: &str) -> Vec<String> {
        let mut settings: Settings = serde_yaml_ng::from_str(yaml).unwrap();
        settings.check("mesh.yaml", Path::new("/mesh")).iter().map(|mistake| mistake.path.clone()).collect()
    }

    #[test]
    fn nothing_said_is_a_mesh_in_one_process() {
        let mut settings = Settings::default();
        assert!(settings.check("mesh.yaml", Path::new("/mesh")).is_empty());
        assert!(mistakes("{etcd: {endpoints: ['http://a:2379', 'http://[::1]:2379']}}").is_empty());
    }

    #[test]
    fn an_etcd_on_this_machine_is_told_from_one_elsewhere() {
        for (endpoints, local) in [
            (vec!["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"], true),
            (vec!["http://127.0.0.1:1", "http://etcd:1"], false),
            (vec!["http://10.0.0.1:1"], false),
        ] {
            assert_eq!(EtcdSettings::new(endpoints.clone()).is_local(), local, "{endpoints:?}");
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        assert_eq!(
            mistakes("{etcd: {endpoints: [a, 'http://a', 'http://a:1/x', 'https://a:1', 'http://u@a:1'], lease: 1s}}"),
            [
                "registry.etcd.endpoints[0]",
                "registry.etcd.endpoints[1]",
                "registry.etcd.endpoints[2]",
                "registry.etcd.endpoints[3]",
                "registry.etcd.endpoints[4]",
                "registry.etcd.lease",
            ]
        );
        assert_eq!(
            mistakes("{etcd: {endpoints: [], tls: {ca: none.pem, key: none.pem}}}"),
            ["registry.etcd.endpoints", "registry.etcd.tls", "registry.etcd.tls.ca", "registry.etcd.tls.key"]
        );
    }
}
