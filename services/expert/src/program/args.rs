//! What may stand on the command line of `consilium-expert`. Flags for settings are settings like any other: checked
//! the same way, and later than `--set`.

use std::path::{self, PathBuf};

use clap::Parser;
use consilium_mesh::config::{self, Overlay};

/// Variables named `CONSILIUM_…` that are no settings of an instance: this program's own, and the command line tool's.
const RESERVED: [&str; 3] = ["CONSILIUM_ONNXRUNTIME", "CONSILIUM_LOG", "CONSILIUM_ROUTER"];

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
    /// Where the expert listens; port 0 lets the system pick one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where /livez, /readyz, /metrics and plaintext health are
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
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
    /// A member of the etcd that the mesh meets at; may be repeated
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    etcd: Vec<String>,
    /// Change a setting of the instance file, for example settle=5s; may be repeated
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
    /// What is laid over the instance file.
    pub(super) fn overlay(&self) -> Overlay {
        Overlay { environment: config::environment(&RESERVED), set: self.settings() }
    }

    fn settings(&self) -> Vec<String> {
        // A path on the command line starts where the shell is, one in a file where the file is.
        let complete = |dir: &PathBuf| path::absolute(dir).unwrap_or_else(|_| dir.clone()).display().to_string();
        let models = self.models.as_ref().map(complete);
        let flags = [
            ("mesh", &self.mesh),
            ("listen", &self.listen),
            ("admin", &self.admin),
            ("announce", &self.announce),
            ("instance", &self.instance),
            ("zone", &self.zone),
            ("models", &models),
        ];
        // In quotes, so that an instance called 7 is not taken for a number. JSON's are YAML's as well.
        let given =
            flags.into_iter().filter_map(|(key, text)| Some(format!("{key}={}", serde_json::json!(text.as_ref()?))));
        let etcd = (!self.etcd.is_empty()).then(|| format!("registry.etcd.endpoints={}", serde_json::json!(self.etcd)));
        self.set.iter().cloned().chain(given).chain(etcd).collect()
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
    fn flags_are_settings_and_come_last() {
        let line =
            "consilium-expert e.yaml --etcd http://a:1,http://b:1 --instance 7 --set instance=8 --etcd http://[::1]:1";
        let args = Args::try_parse_from(line.split(' ')).unwrap();
        let etcd = r#"registry.etcd.endpoints=["http://a:1","http://b:1","http://[::1]:1"]"#;
        assert_eq!(args.settings(), ["instance=8", "instance=\"7\"", etcd]);
        assert_eq!((args.log.as_str(), args.config), ("info", None));
    }
}
