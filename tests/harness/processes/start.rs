//! Starting the processes of a mesh: one router or expert from the files of a directory, on ports that were free.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use super::{Expert, Process, Router, built};
use crate::models;

pub(super) const ANY_PORT: &str = "127.0.0.1:0";
/// How long a leaving process serves on. Shorter than the default of 2 s, for scenarios that wait for it often.
const SETTLE: &str = "settle=1s";

/// How the processes of a mesh are started.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    pub(super) mesh: &'a str,
    /// `mesh.yaml`, and a directory for each expert.
    pub(super) dir: &'a Path,
    pub(super) logs: &'a Path,
    /// Of etcd.
    pub(super) urls: &'a [String],
    pub(super) lease: Duration,
    pub(super) manner: &'a Manner,
}

/// How much every process of a mesh says, and what else it is told.
#[derive(Debug, Clone)]
pub struct Manner {
    pub log: &'static str,
    /// On its command line.
    pub arguments: Vec<String>,
}

/// As an operator runs a mesh.
pub(super) static ORDINARY: Manner = Manner { log: "info", arguments: Vec::new() };

impl Default for Manner {
    fn default() -> Self {
        ORDINARY.clone()
    }
}

impl Manner {
    /// With traces that go to `otlp`.
    #[must_use]
    pub fn traced(mut self, otlp: &str) -> Self {
        self.arguments.extend(["--otlp".to_owned(), otlp.to_owned()]);
        self
    }

    /// With `key=value`.
    #[must_use]
    pub fn set(mut self, setting: &str) -> Self {
        self.arguments.extend(["--set".to_owned(), setting.to_owned()]);
        self
    }
}

impl Start<'_> {
    pub(super) async fn router(&self, name: &str, table: &Path) -> Router {
        Router::new(Process::listening(name, self.router_command(table), self.logs).await).await
    }

    pub(super) fn router_command(&self, table: &Path) -> Command {
        self.router_command_at(table, ANY_PORT)
    }

    /// The same on a port of its own choice.
    pub(super) fn router_command_at(&self, table: &Path, address: &str) -> Command {
        let mut command = Command::new(built("consilium-router"));
        command.arg(self.dir.join("mesh.yaml")).arg("--table").arg(table);
        self.both(&mut command, address);
        command
    }

    pub(super) async fn expert(&self, expert: &str, instance: &str, address: &str) -> Expert {
        let command = self.expert_command(&self.yaml(expert), instance, address);
        Expert::new(expert, instance, Process::listening(instance, command, self.logs).await)
    }

    /// Where an expert is described.
    pub(super) fn yaml(&self, expert: &str) -> PathBuf {
        self.dir.join(expert).join("expert.yaml")
    }

    pub(super) fn expert_command(&self, yaml: &Path, instance: &str, address: &str) -> Command {
        let mut command = Command::new(built("consilium-expert"));
        command.arg(yaml).args(["--mesh", self.mesh, "--instance", instance]);
        command.args(["--set", &format!("registry.etcd.lease={}s", self.lease.as_secs())]);
        command.arg("--models").arg(models());
        self.both(&mut command, address);
        command
    }

    fn both(&self, command: &mut Command, address: &str) {
        command.args(["--listen", address, "--admin", ANY_PORT, "--set", SETTLE]);
        command.args(["--log", self.manner.log]).args(&self.manner.arguments);
        for url in self.urls {
            command.args(["--etcd", url]);
        }
    }
}
