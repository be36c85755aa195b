//! What may stand on the command line. Nothing is done here; every command gets its own struct.

mod feedback;
mod gate;
mod question;
mod router;
mod slo;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, builder::Resettable};

pub(crate) use self::{
    feedback::Feedback,
    gate::{Apply, Eval, Gate, GateCommand, Place, Probe, Reset, Show},
    question::Question,
    router::Router,
    slo::{Format, Rules, Slo, SloCommand},
};

use crate::environment;

/// Variables named `CONSILIUM_…` that are this program's own, and therefore no settings of a mesh.
pub(crate) const OWN_VARIABLES: [&str; 6] = [
    "CONSILIUM_ROUTER",
    "CONSILIUM_CA",
    "CONSILIUM_CERTIFICATE",
    "CONSILIUM_KEY",
    "CONSILIUM_ONNXRUNTIME",
    "CONSILIUM_LOG",
];

/// A mesh of small expert models: one question in, the right expert's answer out.
#[derive(Debug, Parser)]
#[command(name = "consilium", version, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 what was asked for failed; 2 asked or configured wrongly. Where --json asks a \
                          router, an error is a JSON document too, on standard error.";

impl Cli {
    /// This process's command line, and its environment: what is set to nothing there is not set. Like [`Parser::parse`],
    /// ends the process where they are wrong.
    pub fn read() -> Self {
        let mut definition = without_empty_variables(Self::command());
        let matches = definition.get_matches_mut();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut definition).exit());
        if let Some(router) = cli.command.router() {
            router.without_what_was_not_meant(innermost(&matches));
        }
        cli
    }
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_env() {
        Some(name) if environment::is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    });
    command.mut_subcommands(without_empty_variables)
}

/// What was said of the command itself, and not of the program.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, matches)| innermost(matches))
}

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
    /// Ask a running mesh the questions of a file and check who answers
    Verify(Verify),
    /// Find every mistake in a mesh's files without starting it
    Check(Check),
    /// Measure a gate, hold it to what its mesh expects, or set it while it runs
    Gate(Gate),
    /// Look at model directories and verify them, or fetch models
    Models(Models),
    /// Hold experts to their objectives
    Slo(Slo),
}

impl Command {
    /// The router that it asks, where it asks one.
    fn router(&mut self) -> Option<&mut Router> {
        match self {
            Command::Ask(args) => Some(&mut args.question.router),
            Command::Explain(args) => Some(&mut args.question.router),
            Command::Feedback(args) => Some(&mut args.router),
            Command::Experts(args) if args.instead.is_none() => Some(&mut args.router),
            Command::Verify(args) => Some(&mut args.router),
            _ => None,
        }
    }

    /// Whether it asks a router for a program that reads JSON, and errors are for that program too.
    pub(crate) fn is_for_programs(&self) -> bool {
        match self {
            Command::Ask(args) => args.json,
            Command::Explain(args) => args.json,
            Command::Feedback(args) => args.json,
            Command::Experts(args) => args.json && args.instead.is_none(),
            Command::Verify(args) => args.json,
            Command::Up(_)
            | Command::Demo(_)
            | Command::Gate(_)
            | Command::Models(_)
            | Command::Check(_)
            | Command::Slo(_) => false,
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
pub(crate) struct Verify {
    /// The questions and who should answer them, one a line as in a mesh's demo.jsonl
    #[arg(value_name = "QUESTIONS")]
    pub(crate) questions: PathBuf,
    #[command(flatten)]
    pub(crate) router: Router,
    /// How long to wait for a router that is not there yet or not ready, for the experts of the questions, and for the
    /// first answer; 0s not to wait
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = wait)]
    pub(crate) wait: Duration,
    /// How long an answer may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) deadline: Duration,
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
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Models {
    #[command(subcommand)]
    pub(crate) instead: Option<ModelsCommand>,
    /// Model directories, or directories of them
    #[arg(required = true)]
    pub(crate) directories: Vec<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// What can be done about models beside looking at them.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Download models, and verify every byte before they are there
    #[command(after_help = FETCHED)]
    Fetch(Fetch),
}

const FETCHED: &str = "The hash is the SHA-256 of the model's manifest.json, which is the model's digest: `consilium models DIR \
                       --json` shows it. The manifest names every other file with its size and hash. A model that is there \
                       and right is left alone, one that differs is replaced as a whole, and none is ever there in part. \
                       HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE count. A URL may hold user:password@ or a signature; \
                       mind that everybody on a machine may see the arguments of its processes.";

#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// Where the models go, each into a directory of its name
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) into: PathBuf,
    /// A model: what it is to be called, the URL of the directory with its manifest.json, and the hash of that file
    // As text: what clap complains of it repeats, and there may be a password in a URL.
    #[arg(required = true, value_name = "NAME=URL@sha256:HASH")]
    pub(crate) models: Vec<String>,
    /// How long a file may take, all tries together
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Far beyond what any router grants, and short enough for the wire.
const MAX_DEADLINE: Duration = Duration::from_hours(24);

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// A wait may be none.
fn wait(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= MAX_DEADLINE => Ok(duration),
        _ => Err("expected a duration of up to a day, such as 0s, 30s or 2m".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() && duration <= MAX_DEADLINE => Ok(duration),
        _ => Err("expected a duration above zero and up to a day, such as 500ms or 2s".to_owned()),
    }
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
    fn models_are_looked_at_unless_they_are_to_be_fetched() {
        let Command::Models(look) = parse(&["models", "a", "b", "--json"]).unwrap() else { panic!("another command") };
        assert!(look.json && look.instead.is_none() && look.directories.len() == 2);
        let fetch = ["models", "fetch", "--into", "m", "a=http://x/a@sha256:0", "b=http://x/b@sha256:1", "--json"];
        let Command::Models(Models { instead: Some(ModelsCommand::Fetch(fetch)), directories, .. }) =
            parse(&fetch).unwrap()
        else {
            panic!("another command")
        };
        assert!(fetch.json && fetch.models.len() == 2 && directories.is_empty());
        assert!(!parse(&["models", "./fetch", "--json"]).unwrap().is_for_programs());
        for wrong in [&["models"][..], &["models", "fetch"], &["models", "fetch", "a=http://x@sha256:0"]] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn a_wait_may_be_none_and_is_half_a_minute_unless_it_is_said() {
        let wait = |arguments: &[&str]| match parse(&[&["verify", "q.jsonl"], arguments].concat())? {
            Command::Verify(verify) => Ok::<_, clap::Error>(verify.wait),
            _ => panic!("another command"),
        };
        assert_eq!(wait(&[]).unwrap(), Duration::from_secs(30));
        assert_eq!(wait(&["--wait", "0s"]).unwrap(), Duration::ZERO);
        assert_eq!(wait(&["--wait", "2days"]).unwrap_err().exit_code(), 2);
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
            (["--router", "grpc://localhost:7600"], "http://host:port"),
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
