//! What may stand on the command line of `consilium-router`.

use std::path::PathBuf;

use clap::Parser;
use consilium_mesh::{
    config::Overlay,
    process::{Flags, complete},
};

const AFTER_HELP: &str = "Every setting of the mesh file can also come from a variable, such as \
    CONSILIUM_DEFAULT_DEADLINE=1s or CONSILIUM_GATE__TOP_K=2; flags beat variables, and variables beat the file.\n\n\
    Exit codes: 0 went out of service in good order; 1 failed; 2 configured wrongly.";

/// Routes the queries of a mesh to its experts.
#[derive(Debug, Parser)]
#[command(name = "consilium-router", version, after_help = AFTER_HELP)]
pub struct Args {
    /// The mesh to route for: its mesh.yaml
    #[arg(value_name = "MESH_YAML")]
    pub(super) mesh: PathBuf,
    /// The file in which the router keeps what it knew last, so that it can start while etcd is away
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    #[command(flatten)]
    pub(super) flags: Flags,
}

impl Args {
    /// What is laid over the mesh file.
    pub(super) fn overlay(&self) -> Overlay {
        let mut overlay = self.flags.overlay([("registry.table", self.table.as_deref().map(complete))]);
        // A router alone starts no experts: their files need not be where it runs.
        overlay.set.insert(0, "experts=[]".to_owned());
        overlay
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

    #[test]
    fn the_experts_of_the_file_are_left_out_unless_somebody_says_so() {
        let line = "consilium-router m.yaml --table /t.json --set experts=[x.yaml]";
        let args = Args::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(args.overlay().set, ["experts=[]", "experts=[x.yaml]", r#"registry.table="/t.json""#]);
    }
}
