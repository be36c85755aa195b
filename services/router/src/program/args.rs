//! What may stand on the command line of `consilium-router`. Flags for settings are settings like any other: checked the
//! same way, and later than `--set`.

use std::{
    net::SocketAddr,
    path::{self, Path, PathBuf},
};

use clap::Parser;
use consilium_mesh::config::{self, Overlay};

/// Variables named `CONSILIUM_…` that are no settings of a mesh: this program's own, and the command line tool's.
const RESERVED: [&str; 3] = ["CONSILIUM_ONNXRUNTIME", "CONSILIUM_LOG", "CONSILIUM_ROUTER"];

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
    /// Where the router listens; port 0 lets the system pick one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where /livez, /readyz, /metrics and plaintext health are
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// A member of the etcd that the mesh meets at; may be repeated
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    etcd: Vec<String>,
    /// The file in which the router keeps what it knew last, so that it can start while etcd is away
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Change a setting of the mesh file, for example gate.top_k=2; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the settings in effect, defaults included, and do nothing else
    #[arg(long)]
    pub(super) print_config: bool,
    /// The ONNX Runtime library, libonnxruntime.so; found beside this program or in .tools/lib when not given
    #[arg(long, value_name = "FILE", env = "CONSILIUM_ONNXRUNTIME")]
    pub(super) onnxruntime: Option<PathBuf>,
    /// How much to log to standard error: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", env = "CONSILIUM_LOG", default_value = "info")]
    pub(super) log: String,
}

impl Args {
    /// What is laid over the mesh file.
    pub(super) fn overlay(&self) -> Overlay {
        Overlay { environment: config::environment(&RESERVED), set: self.settings() }
    }

    fn settings(&self) -> Vec<String> {
        let listen = self.listen.map(|address| format!("listen={address}"));
        let admin = self.admin.map(|address| format!("admin={address}"));
        let members: Vec<String> = self.etcd.iter().map(|url| quoted(url)).collect();
        let etcd = (!members.is_empty()).then(|| format!("registry.etcd.endpoints=[{}]", members.join(", ")));
        let table = self.table.as_deref().map(|file| format!("registry.table={}", quoted(&complete(file))));
        // A router alone starts no experts: their files need not be where it runs.
        let experts = "experts=[]".to_owned();
        [experts]
            .into_iter()
            .chain(self.set.iter().cloned())
            .chain([listen, admin, etcd, table].into_iter().flatten())
            .collect()
    }
}

/// A path on the command line starts where the shell is, one in a file where the file is.
fn complete(file: &Path) -> String {
    path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

/// A string in YAML, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
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
    fn flags_are_settings_and_come_last() {
        let line = "consilium-router m.yaml --etcd http://a:1,http://b:1 --listen [::1]:0 --set listen=x --etcd http://c:1 \
                    --table /var/it's.json";
        let args = Args::try_parse_from(line.split_whitespace()).unwrap();
        assert_eq!(
            args.settings(),
            [
                "experts=[]",
                "listen=x",
                "listen=[::1]:0",
                "registry.etcd.endpoints=['http://a:1', 'http://b:1', 'http://c:1']",
                "registry.table='/var/it''s.json'",
            ]
        );
        let args = Args::try_parse_from(["consilium-router", "m.yaml", "--table", "t.json"]).unwrap();
        let here = std::env::current_dir().unwrap().join("t.json");
        assert_eq!(args.settings(), ["experts=[]".to_owned(), format!("registry.table='{}'", here.display())]);
    }
}
