//! The section `tls` of `mesh.yaml` and `instance.yaml`: which files a process has its certificates in.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Error, Problem, files::Files, material::Material};
use crate::config::Mistakes;

// What is wrong, and what is expected, where it is said more than once.
const NEEDS_CA: &str = "means nothing where nobody is believed";
const CA: &str = "tls.ca beside it";

/// Files in PEM, and what is asked of experts. Without any file, a process speaks plaintext.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// This server's own, and what leads from it to its authority; `key` goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Whose certificates callers must show; without it, they need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Whose certificates to believe of those that this process calls. It shows them its own, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The name that every expert's certificate must have, whatever the records say that experts announce themselves by.
    /// Without it, that is the record's `server_name`, or the host of its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expert_name: Option<String>,
    /// Calls experts that announce no TLS in plaintext although there is a `ca`: for as long as a mesh is on its way to TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plaintext_experts: bool,
}

impl Settings {
    /// Whether a server with these settings speaks TLS.
    pub fn is_served(&self) -> bool {
        self.certificate.is_some()
    }

    /// Completes paths, which start at `base`, reads the files and says everything that is wrong with the section `tls` of
    /// `file`.
    pub fn check(&mut self, file: &str, base: &Path) -> Mistakes {
        for (_, path) in self.files_mut() {
            if let Some(path) = path {
                *path = base.join(&*path);
            }
        }
        let mut mistakes = Mistakes::default();
        if let Err(Error(problems)) = Files::read(self).and_then(|files| Material::of(&files)) {
            for Problem { setting, what, expected } in problems {
                mistakes.add((file, &format!("tls.{setting}")), what, expected);
            }
        }
        mistakes
    }

    /// What does not go together, whatever is in the files.
    pub(super) fn incomplete(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |setting, what: &str, expected| {
            problems.push(Problem { setting, what: what.to_owned(), expected });
        };
        match (&self.certificate, &self.key) {
            (Some(_), None) => add("key", "missing", "the file with the key of tls.certificate"),
            (None, Some(_)) => add("certificate", "missing", "the file with the certificate that tls.key belongs to"),
            (None, None) if self.client_ca.is_some() => {
                add("client_ca", "means nothing without TLS", "tls.certificate and tls.key beside it");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        match (&self.expert_name, &self.ca) {
            (Some(_), None) => add("expert_name", NEEDS_CA, CA),
            (Some(name), Some(_)) if ServerName::try_from(name.as_str()).is_err() => {
                add(
                    "expert_name",
                    &format!("{name:?} is no name"),
                    "a DNS name or an IP address, for example experts.test",
                );
            }
            (Some(_), Some(_)) | (None, _) => {}
        }
        if self.plaintext_experts && self.ca.is_none() {
            add("plaintext_experts", NEEDS_CA, CA);
        }
        problems
    }

    /// Each file with the name of its setting, where there is one.
    pub(super) fn files(&self) -> [(&'static str, Option<&Path>); 4] {
        let Self { certificate, key, client_ca, ca, .. } = self;
        [("certificate", certificate), ("key", key), ("client_ca", client_ca), ("ca", ca)]
            .map(|(setting, path)| (setting, path.as_deref()))
    }

    fn files_mut(&mut self) -> [(&'static str, &mut Option<PathBuf>); 4] {
        let Self { certificate, key, client_ca, ca, .. } = self;
        [("certificate", certificate), ("key", key), ("client_ca", client_ca), ("ca", ca)]
    }
}
