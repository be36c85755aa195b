//! What may stand on the command line. Nothing is done here; every command gets its own struct.

mod feedback;
mod question;
mod slo;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

pub(crate) use self::{
    feedback::Feedback,
    question::Question,
    slo::{Format, Rules, Slo, SloCommand},
};

/// Variables named `CONSILIUM_…` that are this program's own, and therefore no settings of a mesh.
pub(crate) const OWN_VARIABLES: [&str; 3] = ["CONSILIUM_ROUTER", "CONSILIUM_ONNXRUNTIME", "CONSILIUM_LOG"];

/// A mesh of small expert models: one question in, the right expert's answer out.
#[derive(Debug, Parser)]
#[command(name = "consilium", version, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 what was asked for failed; 2 asked or configured wrongly. Where --json asks a \
                          router, an error is a JSON document too, on standard error.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole mesh, router and experts, in this process
    Up(Up),
    /// Run a mesh, ask it its demo questions and check who answered
    Demo(Demo),
    /// Ask a running mesh
    Ask(Ask),
    /// Show whom a running mesh would ask, and why, without asking anybody
    Explain(Explain),
    /// Tell a running mesh how good one of its answers was
    Feedback(Feedback),
    /// List the experts of a running mesh, or retire one
    Experts(Experts),
    /// Look at model directories and verify them
    Models(Models),
    /// Find every mistake in a mesh's files without starting it
    Check(Check),
    /// Hold experts to their objectives
    Slo(Slo),
}

impl Command {
    /// Whether it asks a router for a program that reads JSON, and errors are for that program too.
    pub(crate) fn is_for_programs(&self) -> bool {
        match self {
            Command::Ask(args) => args.json,
            Command::Explain(args) => args.json,
            Command::Feedback(args) => args.json,
            Command::Experts(args) => args.json && args.instead.is_none(),
            Command::Up(_) | Command::Demo(_) | Command::Models(_) | Command::Check(_) | Command::Slo(_) => false,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The mesh to run
    pub(crate) mesh: PathBuf,
    /// Where the router listens, instead of what the file says
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where /livez, /readyz and /metrics are, instead of what the file says
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,
    /// Let the system pick every port
    #[arg(long, conflicts_with_all = ["listen", "admin"])]
    pub(crate) ephemeral: bool,
    #[command(flatten)]
    pub(crate) etcd: Etcd,
    /// Change a setting of the mesh file, for example gate.top_k=2; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print the settings in effect, defaults included, and do nothing else
    #[arg(long)]
    pub(crate) print_config: bool,
    #[command(flatten)]
    pub(crate) runtime: Runtime,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The mesh to run; its questions are in demo.jsonl beside it
    pub(crate) mesh: PathBuf,
    #[command(flatten)]
    pub(crate) runtime: Runtime,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// For the commands that run a mesh in this process.
#[derive(Debug, Args)]
pub(crate) struct Runtime {
    /// The ONNX Runtime library, libonnxruntime.so; found beside this program or in .tools/lib when not given
    #[arg(long, value_name = "FILE", env = "CONSILIUM_ONNXRUNTIME")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// A collector that takes traces, by OTLP over gRPC; OTEL_EXPORTER_OTLP_ENDPOINT counts where no setting says one
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    #[command(flatten)]
    pub(crate) log: Log,
    /// Keep no counters and no histograms, to measure what they cost
    #[arg(long, hide = true)]
    pub(crate) no_metrics: bool,
}

impl Runtime {
    /// Where traces go, as `--set` would have it. Set to nothing is how deployments leave a variable out.
    pub(crate) fn setting(&self) -> Option<String> {
        let otlp = self.otlp.as_deref().filter(|url| !url.is_empty())?;
        Some(format!("traces.endpoint={}", serde_json::json!(otlp)))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// How much to log to standard error: error, warn, info, debug or trace
    #[arg(long = "log", value_name = "LEVEL", env = "CONSILIUM_LOG", default_value = "warn")]
    pub(crate) level: String,
}

#[derive(Debug, Args)]
pub(crate) struct Etcd {
    /// A member of the etcd that the mesh meets at, instead of what the file says; may be repeated
    #[arg(long = "etcd", value_name = "URL", value_delimiter = ',')]
    pub(crate) endpoints: Vec<String>,
}

impl Etcd {
    /// As `--set` would have it.
    pub(crate) fn setting(&self) -> Option<String> {
        // A list in JSON is one in YAML, whatever is in it.
        let given = !self.endpoints.is_empty();
        given.then(|| format!("registry.etcd.endpoints={}", serde_json::json!(self.endpoints)))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) question: Question,
    /// Show what happens as it happens
    #[arg(long)]
    pub(crate) stream: bool,
    /// Print one JSON document instead of text; with --stream, one event a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) question: Question,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Experts {
    #[command(subcommand)]
    pub(crate) instead: Option<ExpertsCommand>,
    #[command(flatten)]
    pub(crate) router: Router,
    /// Keep watching, and show the list again whenever it changes
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print one JSON document instead of text; with --watch, one a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// What can be done about experts beside listing them.
#[derive(Debug, Subcommand)]
pub(crate) enum ExpertsCommand {
    /// Forget an expert, or a version of it, that nobody serves any more
    Retire(Retire),
}

/// `--version` is the expert's here, and not the program's.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub(crate) struct Retire {
    /// The expert
    #[arg(value_name = "NAME")]
    pub(crate) expert: String,
    /// Only this version of it; every version when not given
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<String>,
    /// The mesh; its file says which etcd it meets at
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh: PathBuf,
    #[command(flatten)]
    pub(crate) etcd: Etcd,
    /// Change a setting of the mesh file, for example registry.etcd.tls.ca=ca.pem; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) log: Log,
}

#[derive(Debug, Args)]
pub(crate) struct Models {
    /// Model directories, or directories of them
    #[arg(required = true)]
    pub(crate) directories: Vec<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The mesh to check
    pub(crate) mesh: PathBuf,
    /// Change a setting of the mesh file, for example gate.top_k=2; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Router {
    /// The router of the mesh
    #[arg(
        long = "router",
        value_name = "ADDRESS",
        env = "CONSILIUM_ROUTER",
        default_value = "http://127.0.0.1:7600",
        value_parser = host_and_port
    )]
    pub(crate) address: String,
}

/// Far beyond what any router grants, and short enough for the wire.
const MAX_DEADLINE: Duration = Duration::from_hours(24);

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() && duration <= MAX_DEADLINE => Ok(duration),
        _ => Err("expected a duration above zero and up to a day, such as 500ms or 2s".to_owned()),
    }
}

/// `http://host:port` or `host:port` → `host:port`.
fn host_and_port(text: &str) -> Result<String, String> {
    const EXPECTED: &str = "expected http://host:port, for example http://127.0.0.1:7600";
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let (host, port) = address.rsplit_once(':').ok_or(EXPECTED)?;
    let bad = host.is_empty() || host.contains(['/', '@', ' ']) || port.parse::<u16>().is_err();
    if bad { Err(EXPECTED.to_owned()) } else { Ok(address.to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
        Cli::try_parse_from(["consilium"].iter().chain(arguments)).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn experts_are_listed_unless_something_else_is_asked_for() {
        let Command::Experts(list) = parse(&["experts", "--watch"]).unwrap() else { panic!("another command") };
        assert!(list.watch && list.instead.is_none());
        let retire =
            ["experts", "retire", "general", "--version", "2", "--mesh", "m.yaml", "--etcd", "http://a:1,http://b:1"];
        let Command::Experts(Experts { instead: Some(ExpertsCommand::Retire(retire)), .. }) = parse(&retire).unwrap()
        else {
            panic!("another command")
        };
        assert_eq!((retire.expert.as_str(), retire.version.as_deref()), ("general", Some("2")));
        let setting = r#"registry.etcd.endpoints=["http://a:1","http://b:1"]"#;
        assert_eq!(retire.etcd.setting().as_deref(), Some(setting));
        for wrong in
            [&["experts", "--watch", "retire", "general", "--mesh", "m.yaml"][..], &["experts", "retire", "general"]]
        {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn a_collector_is_a_setting_unless_it_is_nothing() {
        let setting = |url| match parse(&["demo", "mesh.yaml", "--otlp", url]).unwrap() {
            Command::Demo(demo) => demo.runtime.setting(),
            _ => panic!("another command"),
        };
        assert_eq!(setting("http://a:1").as_deref(), Some(r#"traces.endpoint="http://a:1""#));
        assert_eq!(setting(""), None);
    }

    #[test]
    fn errors_are_for_programs_where_replies_are() {
        assert!(parse(&["ask", "may I?", "--stream", "--json"]).unwrap().is_for_programs());
        assert!(parse(&["experts", "--json"]).unwrap().is_for_programs());
        assert!(parse(&["feedback", "token", "helpful=true", "--json"]).unwrap().is_for_programs());
        assert!(!parse(&["explain", "may I?"]).unwrap().is_for_programs());
        // Asks nobody: what is wrong with a file is for whoever wrote it.
        assert!(!parse(&["check", "mesh.yaml", "--json"]).unwrap().is_for_programs());
    }

    #[test]
    fn wrong_arguments_are_refused_with_what_was_expected() {
        for (arguments, expected) in [
            (["--attribute", "audience"], "KEY=VALUE"),
            (["--label", "=x"], "KEY=VALUE"),
            (["--deadline", "soon"], "500ms"),
            (["--deadline", "0s"], "above zero"),
            (["--router", "https://localhost:7600"], "http://host:port"),
            (["--router", "localhost"], "http://host:port"),
            (["--combine", "vote"], "best, all"),
            (["--pin", "general"], "KEY=VALUE"),
            (["--priority", "first"], "critical, interactive, batch, background"),
        ] {
            let error = parse(&[&["ask", "may I?"][..], &arguments].concat()).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
        let error = parse(&["up", "mesh.yaml", "--ephemeral", "--listen", "127.0.0.1:1"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
    }
}
