//! `instance.yaml`: how one instance of an expert runs. What the expert is stands in `expert.yaml` and is the same for all
//! of its instances. Raw as written → checked.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use consilium_mesh::{
    config::{self, DNS_LABEL, Mistakes, Overlay, Source, is_dns_label},
    drain, limits,
    registry::{self, Track},
    telemetry, tls,
};
use humantime::format_duration;
use serde::{Deserialize, Serialize};

use crate::{Announcement, Config, Options, announce::is_announceable};

const DEFAULT_SETTLE: Duration = Duration::from_secs(2);
const DEFAULT_GRACE: Duration = Duration::from_secs(20);
/// Of `grace`, for telling etcd, which may take its time twice, and for the calls that run.
const LEAST_FOR_THE_REST: Duration = Duration::from_secs(5);

/// Less is too small for answers of the usual size; more is beyond what gRPC's own clients are built for.
const MESSAGE_BYTES: RangeInclusive<usize> = 64 << 10..=1 << 30;

// What is expected, where it is said more than once.
const ADDRESS: &str = "an IP address and a port, for example 127.0.0.1:7700";
const HOST: &str = "host:port or a host, at which routers reach this instance, for example 10.0.0.7:7700 or 10.0.0.7";

/// How an instance runs, checked. Paths are complete: they no longer depend on where the file lies.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    /// Which mesh it joins, a DNS label; `None` only without an etcd to join it at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mesh: Option<String>,
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
    /// `host:port` or a host alone, where that is not where it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) announce: Option<String>,
    /// Its id; made up for each start where it is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<String>,
    pub(super) zone: String,
    /// The name in its certificate, where that is not the host of the address.
    pub(super) server_name: String,
    pub(super) track: Track,
    /// The directory that holds one directory for each model.
    pub(super) models: PathBuf,
    /// How long it keeps serving while routers take notice that it goes.
    #[serde(with = "config::duration")]
    pub(super) settle: Duration,
    /// The bound of a whole drain.
    #[serde(with = "config::duration")]
    pub(super) grace: Duration,
    /// Lets tools list the services and their messages.
    pub(super) reflection: bool,
    /// The largest message that it takes or sends.
    pub(super) max_message_bytes: usize,
    pub(super) registry: registry::Settings,
    /// Where traces go.
    pub(super) traces: telemetry::Settings,
    /// The certificate that it serves with.
    pub(super) tls: tls::Settings,
}

impl Settings {
    /// Reads `file`, where there is one, with `overlay` on top.
    ///
    /// # Errors
    /// Every mistake in them.
    pub(super) fn load(file: Option<&Path>, overlay: &Overlay) -> Result<Self, Mistakes> {
        let nothing = || Ok(Source { file: "command line".to_owned(), text: String::new() });
        let source = file.map_or_else(nothing, Source::read)?;
        let raw: Raw = config::parse(&source, overlay)?;
        raw.check(&source.file, file.and_then(Path::parent).unwrap_or(Path::new("")))
    }

    /// The same, for `Service`.
    pub(super) fn options(&self, expert: Config) -> Options {
        let mut options = Options::new(expert, &self.models);
        options.serve.reflection = self.reflection;
        options.serve.limits.max_message_bytes = self.max_message_bytes;
        options.serve.callers = self.traces.callers;
        options.announcement = Announcement {
            address: self.announce.clone(),
            instance: self.instance.clone(),
            track: self.track,
            zone: self.zone.clone(),
            server_name: self.server_name.clone(),
        };
        options.drain = drain::Options { settle: self.settle, budget: self.grace, ..drain::Options::default() };
        options
    }
}

/// As written. Everything is optional here, so that everything wrong is reported together.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    mesh: Option<String>,
    listen: Option<String>,
    admin: Option<String>,
    announce: Option<String>,
    instance: Option<String>,
    zone: Option<String>,
    server_name: Option<String>,
    track: Option<String>,
    models: Option<PathBuf>,
    #[serde(default, with = "config::duration::option")]
    settle: Option<Duration>,
    #[serde(default, with = "config::duration::option")]
    grace: Option<Duration>,
    reflection: Option<bool>,
    max_message_bytes: Option<usize>,
    #[serde(default)]
    registry: registry::Settings,
    #[serde(default)]
    traces: telemetry::Settings,
    #[serde(default)]
    tls: tls::Settings,
}

impl Raw {
    fn check(mut self, file: &str, base: &Path) -> Result<Settings, Mistakes> {
        let mut found = Found { file, mistakes: Mistakes::default() };
        found.mesh(self.mesh.as_deref(), &self.registry);
        let listen = found.address("listen", self.listen.as_deref());
        let admin = found.address("admin", self.admin.as_deref());
        if listen == admin && listen.port() != 0 {
            found.add("admin", format!("{admin} is where the expert listens"), "an address of its own");
        }
        found.announce(self.announce.as_deref(), listen);
        found.instance(self.instance.as_deref());
        let track = found.track(self.track.as_deref());
        let models = found.models(base, self.models);
        let max_message_bytes = found.max_message_bytes(self.max_message_bytes);
        let settle = self.settle.unwrap_or(DEFAULT_SETTLE);
        let grace = self.grace.unwrap_or(DEFAULT_GRACE);
        if settle + LEAST_FOR_THE_REST > grace {
            let problem = format!("{} after a settle of {}", format_duration(grace), format_duration(settle));
            found.add("grace", problem, "at least 5s more than settle: etcd may take 4s, running calls get the rest");
        }
        if self.registry.table.is_some() {
            found.add("registry.table", "means nothing to an expert".into(), "nothing here: routers keep a table");
        }
        found.mistakes.extend(self.registry.check(file, base));
        found.mistakes.extend(self.traces.check(file));
        let router_only = [
            ("tls.ca", self.tls.ca.is_some()),
            ("tls.expert_name", self.tls.expert_name.take().is_some()),
            ("tls.plaintext_experts", std::mem::take(&mut self.tls.plaintext_experts)),
        ];
        for (path, _) in router_only.into_iter().filter(|(_, is_there)| *is_there) {
            found.add(path, "means nothing to an expert".into(), "nothing here: experts call nobody");
        }
        found.mistakes.extend(self.tls.check(file, base));
        found.mistakes.into_result()?;
        Ok(Settings {
            mesh: self.mesh,
            listen,
            admin,
            announce: self.announce,
            instance: self.instance,
            zone: self.zone.unwrap_or_default(),
            server_name: self.server_name.unwrap_or_default(),
            track,
            models,
            settle,
            grace,
            reflection: self.reflection.unwrap_or(true),
            max_message_bytes,
            registry: self.registry,
            traces: self.traces,
            tls: self.tls,
        })
    }
}

/// The mistakes so far. A value that is wrong is replaced by one that does no harm: nobody sees it.
struct Found<'a> {
    file: &'a str,
    mistakes: Mistakes,
}

impl Found<'_> {
    fn add(&mut self, path: &str, problem: String, expected: &str) {
        self.mistakes.add((self.file, path), problem, expected);
    }

    fn mesh(&mut self, mesh: Option<&str>, registry: &registry::Settings) {
        match mesh {
            Some(name) if !is_dns_label(name) => self.add("mesh", format!("{name:?}"), DNS_LABEL),
            None if registry.etcd.is_some() => self.add("mesh", "missing".into(), "the name of the mesh to join"),
            Some(_) | None => {}
        }
    }

    fn address(&mut self, path: &str, text: Option<&str>) -> SocketAddr {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let Some(text) = text else { return any };
        text.parse().unwrap_or_else(|_| {
            self.add(path, format!("{text:?} is no address"), ADDRESS);
            any
        })
    }

    /// Found here and not when the models are loaded: nobody can call a wildcard.
    fn announce(&mut self, announce: Option<&str>, listen: SocketAddr) {
        match announce {
            Some(address) if !is_announceable(address) => self.add("announce", format!("{address:?}"), HOST),
            None if listen.ip().is_unspecified() => {
                self.add("announce", format!("missing, and nobody can call {listen}"), HOST);
            }
            Some(_) | None => {}
        }
    }

    fn instance(&mut self, instance: Option<&str>) {
        if let Some(id) = instance.filter(|id| !registry::is_name(id)) {
            self.add("instance", format!("{id:?}"), registry::NAME);
        }
    }

    fn track(&mut self, track: Option<&str>) -> Track {
        match track {
            None | Some("live") => Track::Live,
            Some("canary") => Track::Canary,
            Some("shadow") => Track::Shadow,
            Some(other) => {
                self.add("track", format!("{other:?}"), "live, canary or shadow");
                Track::default()
            }
        }
    }

    fn max_message_bytes(&mut self, bytes: Option<usize>) -> usize {
        let bytes = bytes.unwrap_or(limits::MAX_MESSAGE_BYTES);
        if !MESSAGE_BYTES.contains(&bytes) {
            let expected = format!("{} to {}", MESSAGE_BYTES.start(), MESSAGE_BYTES.end());
            self.add("max_message_bytes", format!("{bytes}"), &expected);
        }
        bytes
    }

    fn models(&mut self, base: &Path, models: Option<PathBuf>) -> PathBuf {
        const EXPECTED: &str = "the directory that holds the models";
        let Some(models) = models else {
            self.add("models", "missing".into(), EXPECTED);
            return PathBuf::new();
        };
        let models = base.join(models);
        if !models.is_dir() {
            self.add("models", format!("{} is no directory", models.display()), EXPECTED);
        }
        models
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `instance.yaml` in a directory that holds the directory `models`.
    fn load(yaml: &str, set: &[&str]) -> Result<Settings, Mistakes> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("models")).unwrap();
        let file = dir.path().join("instance.yaml");
        std::fs::write(&file, yaml).unwrap();
        let set = set.iter().map(|&set| set.to_owned()).collect();
        Settings::load(Some(&file), &Overlay { set, ..Overlay::default() })
    }

    fn wrong(yaml: &str) -> Vec<String> {
        load(yaml, &[]).unwrap_err().into_iter().map(|mistake| mistake.path).collect()
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let settings = load("models: models", &[]).unwrap();
        assert_eq!((settings.listen.to_string().as_str(), settings.admin.port()), ("127.0.0.1:0", 0));
        assert_eq!((settings.settle, settings.grace), (DEFAULT_SETTLE, DEFAULT_GRACE));
        assert_eq!((settings.track, settings.mesh, settings.instance), (Track::Live, None, None));
        assert_eq!(settings.max_message_bytes, 8 << 20);
        assert!(settings.reflection && settings.models.is_absolute() && settings.registry.etcd.is_none());
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        assert_eq!(
            wrong(
                "{mesh: Clinic, listen: here, admin: there, announce: 'host:0', instance: a/b, track: cannary, \
                 models: none, max_message_bytes: 65535, settle: 3s, grace: 3s, registry: {table: t, etcd: {endpoints: [x]}}, \
                 traces: {endpoint: x, ratio: 2}}"
            ),
            [
                "mesh",
                "listen",
                "admin",
                "announce",
                "instance",
                "track",
                "models",
                "max_message_bytes",
                "grace",
                "registry.table",
                "registry.etcd.endpoints[0]",
                "traces.endpoint",
                "traces.ratio"
            ]
        );
        assert_eq!(wrong("{listen: '127.0.0.1:7', admin: '127.0.0.1:7'}"), ["admin", "models"]);
        assert_eq!(wrong("{models: models, modells: x, settle: soon}"), ["modells", "settle"]);
        assert_eq!(wrong("{models: models, registry: {etcd: {endpoints: ['http://a:1']}}}"), ["mesh"]);
    }

    #[test]
    fn a_wildcard_needs_an_address_to_announce() {
        for listen in ["0.0.0.0:0", "[::]:7700"] {
            let mistakes = load(&format!("{{models: models, listen: '{listen}'}}"), &[]).unwrap_err();
            assert_eq!(mistakes.iter().map(|mistake| mistake.path.as_str()).collect::<Vec<_>>(), ["announce"]);
            assert!(mistakes.to_string().contains(listen), "{mistakes}");
            load(&format!("{{models: models, listen: '{listen}', announce: 'a.b.svc:7700'}}"), &[]).unwrap();
        }
    }

    #[test]
    fn tls_is_a_setting_of_the_server_alone() {
        let settings = load("models: models", &[]).unwrap();
        assert!(!settings.tls.is_served());
        assert_eq!(wrong("{models: models, tls: {certificate: none.crt, ca: ca.crt}}")[0], "tls.ca");
        let wrong_here = wrong("{models: models, tls: {expert_name: a.test, plaintext_experts: true}}");
        assert_eq!(wrong_here, ["tls.expert_name", "tls.plaintext_experts"], "each once");
        assert!(wrong("{models: models, tls: {certificate: none.crt}}").contains(&"tls.key".to_owned()));
    }

    #[test]
    fn the_settings_reach_the_service() {
        let yaml = "{models: models, announce: 'a:1', instance: a-1, zone: z, server_name: a.test, track: canary, \
                    settle: 1s, grace: 9s, reflection: false, \
                    max_message_bytes: 65536, traces: {callers: linked}}";
        let settings = load(yaml, &["zone=y"]).unwrap();
        let expert = "{name: x, version: '1', summary: An expert of the tests., task: {kind: embed, model: m}, \
                      slo: {latency: 1s, objective: 0.9}}";
        let source = Source { file: "expert.yaml".to_owned(), text: expert.to_owned() };
        let options = settings.options(Config::read(&source, Path::new(""), &Overlay::default()).unwrap());
        let announcement = Announcement {
            address: Some("a:1".into()),
            instance: Some("a-1".into()),
            track: Track::Canary,
            zone: "y".into(),
            server_name: "a.test".into(),
        };
        assert_eq!(options.announcement, announcement);
        assert_eq!((options.drain.settle, options.drain.budget), (Duration::from_secs(1), Duration::from_secs(9)));
        assert!(!options.serve.reflection);
        assert_eq!(options.serve.callers, telemetry::Callers::Linked);
        assert_eq!(options.serve.limits.max_message_bytes, 64 << 10);
        assert_eq!(options.models, settings.models);
    }
}
