//! What may stand on the command line of `consilium-expert`.

use std::path::PathBuf;

use clap::Parser;
use consilium_mesh::{
    config::Overlay,
    process::{Flags, complete},
};

const AFTER_HELP: &str = "Every setting of the instance file can also come from a variable, such as \
    CONSILIUM_REGISTRY__ETCD__LEASE=15s; flags beat variables, and variables beat the file.\n\n\
    Exit codes: 0 went out of service in good order; 1 failed; 2 configured wrongly.";

/// Serves one expert of a mesh.
#[derive(Debug, Parser)]
#[command(name = "consilium-expert", version, after_help = AFTER_HELP)]
pub struct Args {
    /// What the expert is: its expert.yaml
    #[arg(value_name = "EXPERT_YAML")]
    pub(super) expert: PathBuf,
    /// How this instance of it runs: an instance.yaml
    #[arg(long, value_name = "INSTANCE_YAML")]
    pub(super) config: Option<PathBuf>,
    /// The mesh to join
    #[arg(long, value_name = "NAME")]
    mesh: Option<String>,
    /// Where routers find the expert, if that is not where it listens
    #[arg(long, value_name = "HOST:PORT")]
    announce: Option<String>,
    /// The id of this instance; a new one for every start when not given
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Where it runs, for routers that prefer what is near
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// The directory that holds one directory for each model
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    #[command(flatten)]
    pub(super) flags: Flags,
}

impl Args {
    /// What is laid over the instance file.
    pub(super) fn overlay(&self) -> Overlay {
        self.flags.overlay([
            ("mesh", self.mesh.clone()),
            ("announce", self.announce.clone()),
            ("instance", self.instance.clone()),
            ("zone", self.zone.clone()),
            ("models", self.models.as_deref().map(complete)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }
}
