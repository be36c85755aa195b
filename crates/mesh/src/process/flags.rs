//! The flags that every program has. Flags for settings are settings like any other: checked the same way, and later than
//! `--set`.

use std::path::{self, Path, PathBuf};

use serde_json::json;

use crate::{
    config::{self, Overlay},
    metrics::Metrics,
};

/// Variables named `CONSILIUM_…` that are no settings: the programs' own, and the command line tool's.
const RESERVED: [&str; 6] = [
    "CONSILIUM_ONNXRUNTIME",
    "CONSILIUM_LOG",
    "CONSILIUM_ROUTER",
    "CONSILIUM_CA",
    "CONSILIUM_CERTIFICATE",
    "CONSILIUM_KEY",
];

#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Where it listens; port 0 lets the system pick one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where /livez, /readyz, /metrics and plaintext health are
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// A member of the etcd that the mesh meets at; may be repeated
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    etcd: Vec<String>,
    /// A collector that takes traces, by OTLP over gRPC; OTEL_EXPORTER_OTLP_ENDPOINT counts where no setting says one
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// Change a setting, for example settle=5s; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the settings in effect, defaults included, and do nothing else
    #[arg(long)]
    pub print_config: bool,
    /// The ONNX Runtime library, libonnxruntime.so; found beside this program or in .tools/lib when not given
    #[arg(long, value_name = "FILE", env = "CONSILIUM_ONNXRUNTIME")]
    pub onnxruntime: Option<PathBuf>,
    /// How much to log to standard error: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", env = "CONSILIUM_LOG", default_value = "info")]
    pub log: String,
    /// Keep no counters and no histograms, to measure what they cost
    #[arg(long, hide = true)]
    no_metrics: bool,
}

impl Flags {
    /// The process's metrics, as they are to be kept.
    pub fn metrics(&self) -> Metrics {
        consilium_metrics::set_recording(!self.no_metrics);
        Metrics::new()
    }

    /// What is laid over a program's file. `own` are the settings behind flags of its own.
    pub fn overlay<'a>(&self, own: impl IntoIterator<Item = (&'a str, Option<String>)>) -> Overlay {
        Overlay { environment: config::environment(&RESERVED), set: self.settings(own), standard: config::standard() }
    }

    fn settings<'a>(&self, own: impl IntoIterator<Item = (&'a str, Option<String>)>) -> Vec<String> {
        let ours = [
            ("listen", self.listen.clone()),
            ("admin", self.admin.clone()),
            // Set to nothing is how deployments leave a variable out.
            ("traces.endpoint", self.otlp.clone().filter(|url| !url.is_empty())),
        ];
        // In quotes, so that an instance called 7 is not taken for a number. JSON's are YAML's as well.
        let given = ours.into_iter().chain(own).filter_map(|(key, text)| Some(format!("{key}={}", json!(text?))));
        let etcd = (!self.etcd.is_empty()).then(|| format!("registry.etcd.endpoints={}", json!(self.etcd)));
        self.set.iter().cloned().chain(given).chain(etcd).collect()
    }
}

/// A path on the command line starts where the shell is; one in a file, where the file is.
pub fn complete(path: &Path) -> String {
    path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn flags_are_settings_and_come_last() {
        let line = "program --etcd http://a:1,http://b:1 --listen [::1]:0 --set listen=x --etcd http://[::1]:1 \
                    --otlp http://c:1";
        let program = Program::try_parse_from(line.split(' ')).unwrap();
        let own = [("instance", Some("7".to_owned())), ("zone", None), ("registry.table", Some("it's".to_owned()))];
        assert_eq!(
            program.flags.settings(own),
            [
                "listen=x",
                r#"listen="[::1]:0""#,
                r#"traces.endpoint="http://c:1""#,
                r#"instance="7""#,
                r#"registry.table="it's""#,
                r#"registry.etcd.endpoints=["http://a:1","http://b:1","http://[::1]:1"]"#,
            ]
        );
        assert_eq!(program.flags.log, "info");
        let unset = Program::try_parse_from(["program", "--otlp", ""]).unwrap();
        assert_eq!(unset.flags.settings([]), Vec::<String>::new());
    }

    #[test]
    fn a_relative_path_starts_where_the_shell_is() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(complete(Path::new("t.json")), here.join("t.json").display().to_string());
        assert_eq!(complete(Path::new("/t.json")), "/t.json");
    }
}
