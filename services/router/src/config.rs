//! `mesh.yaml`: what the router of a mesh is like, and where the mesh's models and experts are described. Raw as
//! written → checked; the rest of the crate sees only the checked form.

mod gate;

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_gate::{Options as GateOptions, Settings as GateSettings};
use consilium_mesh::{
    config::{self, DNS_LABEL, Mistake, Mistakes, Overlay, Source, is_dns_label},
    limits::MAX_MESSAGE_BYTES,
    registry,
    serve::Web,
    telemetry, tls,
};
use humantime::format_duration;
use serde::{Deserialize, Serialize};

use crate::feedback;

const DEFAULT_LISTEN: &str = "127.0.0.1:7600";
const DEFAULT_ADMIN: &str = "127.0.0.1:7601";
const DEFAULT_DEADLINE: Duration = Duration::from_secs(2);
const DEFAULT_MAX_DEADLINE: Duration = Duration::from_secs(30);
const DEFAULT_SETTLE: Duration = Duration::from_secs(2);
const DEFAULT_GRACE: Duration = Duration::from_secs(20);
/// Long enough to cost nothing, short enough that routers which were added in the morning have work by noon.
const DEFAULT_MAX_CONNECTION_AGE: Duration = Duration::from_mins(30);
/// Below, a client would connect more than it calls; above, never is what is meant.
const CONNECTION_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(30 * 24);
/// A client's metadata and a short text fit; so much of memory is one client's at the most.
const MESSAGE_BYTES: RangeInclusive<usize> = 64 * 1024..=1024 * 1024 * 1024;
/// Of `grace`, for the calls that run.
const LEAST_FOR_CALLS: Duration = Duration::from_secs(1);

/// A mesh, checked. Paths are complete: they no longer depend on where `mesh.yaml` lies.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// A DNS label.
    pub name: String,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    /// For requests that bring no deadline.
    #[serde(with = "config::duration")]
    pub default_deadline: Duration,
    /// What a request may ask for at the most.
    #[serde(with = "config::duration")]
    pub max_deadline: Duration,
    /// Bytes of one request, and of one that is passed on to an expert. A reply may have four times as many.
    pub max_message_bytes: usize,
    /// How long a draining process keeps serving while others take notice.
    #[serde(with = "config::duration")]
    pub settle: Duration,
    /// The bound of a whole drain.
    #[serde(with = "config::duration")]
    pub grace: Duration,
    /// Lets tools list the services and their messages.
    pub reflection: bool,
    /// The directory that holds one directory for each model.
    pub models: PathBuf,
    /// The files that describe the experts, sorted. None for a router of its own, which meets its experts in the
    /// registry.
    pub experts: Vec<PathBuf>,
    /// Where instances meet.
    pub registry: registry::Settings,
    pub gate: GateOptions,
    /// The same with what the gate's files say.
    #[serde(skip)]
    pub gate_settings: GateSettings,
    /// What callers may say about answers.
    pub feedback: feedback::Settings,
    /// For browsers; without it the router speaks HTTP/2 only.
    pub web: Option<Web>,
    /// After this long, give or take a tenth, a client is asked to connect anew, so that it finds routers that were added
    /// meanwhile. Calls that run are not touched. Zero: never.
    #[serde(with = "config::duration")]
    pub max_connection_age: Duration,
    /// Where traces go.
    pub traces: telemetry::Settings,
    /// The router's certificate, and whose it believes of experts.
    pub tls: tls::Settings,
    /// Where all this was read.
    #[serde(skip)]
    pub(crate) origin: Origin,
}

/// What a configuration was read from, and can be read from again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// `mesh.yaml`
    pub(crate) path: PathBuf,
    pub(crate) overlay: Overlay,
}

impl Config {
    /// Reads `mesh.yaml`, with `overlay` on top.
    ///
    /// # Errors
    /// Every mistake that shows without the experts; [`Config::check_experts`] finds the others in a mesh that runs
    /// with its experts, [`Config::check_alone`] in a router of its own.
    pub fn load(path: &Path, overlay: &Overlay) -> Result<Self, Mistakes> {
        Self::read(&Source::read(path)?, Origin { path: path.to_owned(), overlay: overlay.clone() })
    }

    /// Reads everything again, with `settings` in the place of the file's section `gate`, if there are any: in YAML or JSON,
    /// by themselves or below the key `gate`. The encoder stays the file's unless they name one.
    ///
    /// # Errors
    /// As with [`Config::load`]; what is wrong with the settings is said of their source.
    pub fn with_gate(&self, settings: Option<&Source>) -> Result<Self, Mistakes> {
        let origin = self.origin.clone();
        let source = Source::read(&origin.path)?;
        let Some(settings) = settings else { return Self::read(&source, origin) };
        let file = source.file.clone();
        let of_settings = |mut mistake: Mistake| {
            // What an overlay says wrong is its own mistake.
            if mistake.file == file && mistake.path.starts_with("gate") {
                mistake.file.clone_from(&settings.file);
            }
            mistake
        };
        let read = config::replace(&source, ("gate", settings), &["encoder"]).and_then(|it| Self::read(&it, origin));
        read.map_err(|mistakes| {
            let mut found = Mistakes::default();
            found.extend(mistakes.into_iter().map(of_settings));
            found
        })
    }

    fn read(source: &Source, origin: Origin) -> Result<Self, Mistakes> {
        let raw: Raw = config::parse(source, &origin.overlay)?;
        raw.check(&source.file, origin)
    }

    /// The files that the gate is set by: `mesh.yaml` and what its section `gate` names.
    pub(crate) fn gate_files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.origin.path.clone()];
        files.extend(gate::files(&self.gate));
        files
    }

    /// What the section `gate` as it is written now names, right or wrong: a file that is missing may come yet.
    pub(crate) fn files_named_now(&self, settings: Option<&Source>) -> Vec<PathBuf> {
        let read = || -> Result<Vec<PathBuf>, Mistakes> {
            let mut source = Source::read(&self.origin.path)?;
            if let Some(settings) = settings {
                source = config::replace(&source, ("gate", settings), &["encoder"])?;
            }
            let mut raw: Raw = config::parse(&source, &self.origin.overlay)?;
            gate::complete(&mut raw.gate, self.origin.path.parent().unwrap_or(Path::new("")));
            Ok(gate::files(&raw.gate).collect())
        };
        read().unwrap_or_default()
    }

    /// A mesh's name and where it meets, and nothing else of `mesh.yaml`: for whoever runs neither models nor experts.
    ///
    /// # Errors
    /// What is wrong with these two.
    pub fn meeting_place(path: &Path, overlay: &Overlay) -> Result<(String, registry::Settings), Mistakes> {
        let source = Source::read(path)?;
        let Raw { name, mut registry, .. } = config::parse(&source, overlay)?;
        let mut found = Found { file: &source.file, mistakes: Mistakes::default() };
        found.name(&name);
        found.mistakes.extend(registry.check(&source.file, path.parent().unwrap_or(Path::new(""))));
        found.mistakes.into_result()?;
        Ok((name, registry))
    }

    /// What is wrong in view of the mesh's experts: that there are none, names that rules and fallback speak of, names
    /// that clash.
    pub fn check_experts(&self, file: &str, experts: &[&str]) -> Mistakes {
        let mut found = Found { file, mistakes: Mistakes::default() };
        if experts.contains(&self.name.as_str()) {
            let expected = "a name of the mesh's own: clients address mesh and experts by name";
            found.add("name", format!("{:?} is also the name of an expert", self.name), expected);
        }
        if self.experts.is_empty() {
            found.add("experts", "missing".into(), "files that describe experts, for example [experts/*/expert.yaml]");
            // With nobody there, everything that speaks of an expert would look wrong as well.
            found.gate(&self.gate, &named(&self.gate));
        } else {
            found.gate(&self.gate, experts);
        }
        found.mistakes
    }

    /// What is wrong for a router of its own. Its experts come and go, so that their names cannot be wrong.
    pub fn check_alone(&self, file: &str) -> Mistakes {
        let mut found = Found { file, mistakes: Mistakes::default() };
        if self.registry.etcd.is_none() {
            let expected = "where the router meets its experts, for example {endpoints: [http://127.0.0.1:2379]}";
            found.add("registry.etcd", "missing".into(), expected);
        }
        found.gate(&self.gate, &named(&self.gate));
        found.mistakes
    }
}

/// What is wrong with the gate's options by themselves, and, where the mesh has no other `experts`, with the names in them.
pub(crate) fn check_gate(gate: &GateOptions, file: &str, experts: Option<&[&str]>) -> Mistakes {
    let mut found = Found { file, mistakes: Mistakes::default() };
    match experts {
        Some(experts) => found.gate(gate, experts),
        None => found.gate(gate, &named(gate)),
    }
    found.mistakes
}

/// The experts that the gate's options speak of.
fn named(gate: &GateOptions) -> Vec<&str> {
    let of_rules = gate.rules.iter().flat_map(|rule| [&rule.require, &rule.prefer, &rule.forbid]).flatten();
    let of_cascades = gate.cascade.iter().flat_map(|cascade| &cascade.experts);
    gate.fallback.iter().chain(gate.bars.keys()).chain(of_rules).chain(of_cascades).map(String::as_str).collect()
}

/// As written. What may be left out is optional here, so that everything wrong is reported together.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    name: String,
    #[serde(default)]
    listen: Option<String>,
    #[serde(default)]
    admin: Option<String>,
    #[serde(default, with = "config::duration::option")]
    default_deadline: Option<Duration>,
    #[serde(default, with = "config::duration::option")]
    max_deadline: Option<Duration>,
    #[serde(default)]
    max_message_bytes: Option<usize>,
    #[serde(default, with = "config::duration::option")]
    settle: Option<Duration>,
    #[serde(default, with = "config::duration::option")]
    grace: Option<Duration>,
    #[serde(default)]
    reflection: Option<bool>,
    #[serde(default)]
    models: Option<PathBuf>,
    #[serde(default)]
    experts: Vec<String>,
    #[serde(default)]
    registry: registry::Settings,
    #[serde(default)]
    gate: GateOptions,
    #[serde(default)]
    feedback: feedback::Settings,
    #[serde(default)]
    web: Option<Web>,
    #[serde(default, with = "config::duration::option")]
    max_connection_age: Option<Duration>,
    #[serde(default)]
    traces: telemetry::Settings,
    #[serde(default)]
    tls: tls::Settings,
}

impl Raw {
    fn check(mut self, file: &str, origin: Origin) -> Result<Config, Mistakes> {
        let base = origin.path.parent().unwrap_or(Path::new(""));
        let mut found = Found { file, mistakes: Mistakes::default() };
        found.name(&self.name);
        let listen = found.address("listen", self.listen.as_deref().unwrap_or(DEFAULT_LISTEN));
        let admin = found.address("admin", self.admin.as_deref().unwrap_or(DEFAULT_ADMIN));
        let default_deadline = found.positive("default_deadline", self.default_deadline.unwrap_or(DEFAULT_DEADLINE));
        let max_deadline = found.positive("max_deadline", self.max_deadline.unwrap_or(DEFAULT_MAX_DEADLINE));
        if default_deadline > max_deadline {
            found.add("default_deadline", "longer than max_deadline".into(), "at most max_deadline");
        }
        let max_message_bytes = self.max_message_bytes.unwrap_or(MAX_MESSAGE_BYTES);
        if !MESSAGE_BYTES.contains(&max_message_bytes) {
            let (least, most) = MESSAGE_BYTES.into_inner();
            found.add("max_message_bytes", max_message_bytes.to_string(), &format!("{least} to {most} bytes"));
        }
        let settle = self.settle.unwrap_or(DEFAULT_SETTLE);
        let grace = self.grace.unwrap_or(DEFAULT_GRACE);
        if settle.saturating_add(LEAST_FOR_CALLS) > grace {
            let problem = format!("{} after a settle of {}", format_duration(grace), format_duration(settle));
            found.add("grace", problem, "at least 1s more than settle, so that running calls get time");
        }
        let max_connection_age = self.max_connection_age.unwrap_or(DEFAULT_MAX_CONNECTION_AGE);
        if !max_connection_age.is_zero() && !CONNECTION_AGE.contains(&max_connection_age) {
            let problem = format_duration(max_connection_age).to_string();
            found.add("max_connection_age", problem, "1s to 30days, or 0s for never");
        }
        if listen == admin && listen.port() != 0 {
            found.add("admin", format!("{admin} is where the router listens"), "an address of its own");
        }
        let models = base.join(self.models.unwrap_or_else(|| "models".into()));
        if !models.is_dir() {
            found.add("models", format!("{} is no directory", models.display()), "the directory that holds the models");
        }
        if self.gate.encoder.is_empty() {
            found.add("gate.encoder", "missing".into(), "the name of a model that turns texts into vectors");
        }
        gate::complete(&mut self.gate, base);
        let gate_settings = gate::read(&self.gate, &mut |path, problem, expected| found.add(path, problem, expected));
        let experts = found.experts(base, &self.experts);
        found.mistakes.extend(self.registry.check(file, base));
        found.mistakes.extend(self.feedback.check(file, base));
        if let Some(web) = &self.web {
            found.mistakes.extend(web.check(file));
        }
        found.mistakes.extend(self.traces.check(file));
        found.mistakes.extend(self.tls.check(file, base));
        found.mistakes.into_result()?;
        Ok(Config {
            name: self.name,
            listen,
            admin,
            default_deadline,
            max_deadline,
            max_message_bytes,
            settle,
            grace,
            reflection: self.reflection.unwrap_or(true),
            models,
            experts,
            registry: self.registry,
            gate: self.gate,
            gate_settings,
            feedback: self.feedback,
            web: self.web,
            max_connection_age,
            traces: self.traces,
            tls: self.tls,
            origin,
        })
    }
}

/// The mistakes of one file so far.
struct Found<'a> {
    file: &'a str,
    mistakes: Mistakes,
}

impl Found<'_> {
    fn add(&mut self, path: &str, problem: String, expected: &str) {
        self.mistakes.add((self.file, path), problem, expected);
    }

    fn name(&mut self, name: &str) {
        if !is_dns_label(name) {
            self.add("name", format!("{name:?}"), DNS_LABEL);
        }
    }

    fn gate(&mut self, options: &GateOptions, experts: &[&str]) {
        for consilium_gate::Mistake { path, problem, expected } in options.check(experts) {
            self.add(&path, problem, &expected);
        }
    }

    fn address(&mut self, path: &str, text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|_| {
            self.add(path, format!("{text:?} is no address"), "an IP address and a port, for example 127.0.0.1:7600");
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    fn positive(&mut self, path: &str, duration: Duration) -> Duration {
        if duration.is_zero() {
            self.add(path, "zero".into(), "a duration above zero, for example 2s");
        }
        duration
    }

    /// The files that the patterns name. A pattern that names none is a mistake: a typo would lose an expert.
    fn experts(&mut self, base: &Path, patterns: &[String]) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for (at, pattern) in patterns.iter().enumerate() {
            let complete = base.join(pattern);
            let before = files.len();
            match glob::glob(&complete.to_string_lossy()) {
                Ok(paths) => files.extend(paths.filter_map(Result::ok)),
                Err(error) => {
                    self.add(&format!("experts[{at}]"), format!("{pattern:?}: {error}"), "a path, with * and ?");
                    continue;
                }
            }
            if files.len() == before {
                let problem = format!("{} names no file", complete.display());
                self.add(&format!("experts[{at}]"), problem, "at least one file");
            }
        }
        files.sort();
        files.dedup();
        files
    }
}

#[cfg(test)]
mod tests;
