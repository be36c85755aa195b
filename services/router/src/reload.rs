//! Keeps the gate set as `mesh.yaml` and the files beside it say, or as the registry says in the file's place, without a
//! restart. What is wrong changes nothing: the settings in force stay, and the log says why.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use consilium_gate::{EncodeError, Error, Gate, Settings};
use consilium_mesh::{
    config::{self, Mistakes},
    files::Watch,
    health::Latch,
    registry::{Registry, Snapshot},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, check_gate},
    gate::{Policy, warn_of_bars},
    metrics::Metrics,
};

/// How often the files are looked at. What is the same at two looks in a row is taken up, so a change holds after twice
/// this and the time of a fit.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// When settings are tried again that the encoder has failed on: each time costs a fit.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What the registry's settings are called in messages.
const IN_REGISTRY: &str = "the registry's key gate";

/// Where settings come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    File,
    Registry,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Registry => "registry",
        }
    }
}

/// The one who sets the gate.
pub(crate) struct Reloader {
    /// What the router runs with.
    pub(crate) config: Config,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) policy: Arc<ArcSwap<Policy>>,
    pub(crate) metrics: Metrics,
    /// Set once the registry was heard of, and its settings, if it has any, are in force or refused.
    pub(crate) settled: Latch,
}

/// What became of settings.
enum Outcome {
    /// In force, with the files that they were read from.
    Taken,
    /// Somebody has to write them anew.
    Refused,
    /// The encoder failed in passing: the same may do another time.
    Failed,
}

impl Reloader {
    /// Until `stop`, or until the registry is gone.
    pub(crate) async fn run(self, stop: CancellationToken) {
        // On the heap, because reading and fitting are in this future.
        let _ = stop.run_until_cancelled(Box::pin(self.follow())).await;
    }

    async fn follow(self) {
        let mut snapshots = self.registry.watch();
        let Some(mut of_registry) = heard(&mut snapshots).await else { return };
        // As it was never looked at: what was written since the start was read is taken up as well.
        let mut watch = Watch::default();
        let mut files = self.config.gate_files();
        let mut in_force = fingerprint(&self.config.gate_settings);
        let (mut again, mut again_at) = (of_registry.is_some(), None);
        let mut is_start = true;
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if again {
                let source = if of_registry.is_some() { Source::Registry } else { Source::File };
                let outcome = match self.read(of_registry.clone()).await {
                    Ok(mut config) => {
                        files = config.gate_files();
                        if is_start {
                            // They hold in the mesh already, and its experts may not all be known here yet.
                            config.gate_settings.trial = None;
                        }
                        self.set(config, source, &mut in_force).await
                    }
                    Err(mistakes) => {
                        files = self.files(files, of_registry.clone()).await;
                        report(&mistakes);
                        self.metrics.reloaded(source, false);
                        Outcome::Refused
                    }
                };
                again = false;
                again_at = matches!(outcome, Outcome::Failed).then(|| Instant::now() + TRY_AGAIN_AFTER);
            }
            self.settled.set();
            is_start &= again_at.is_some();
            tokio::select! {
                now = ticks.tick() => again = watch.look(files.iter().cloned()).await || again_at.is_some_and(|at| now >= at),
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = snapshots.borrow_and_update().gate.clone();
                    if now != of_registry {
                        of_registry = now;
                        again = true;
                    }
                }
            }
        }
    }

    /// The files to look at after a refusal: those in force, and those that what was refused names.
    async fn files(&self, mut files: Vec<PathBuf>, of_registry: Option<Arc<str>>) -> Vec<PathBuf> {
        let config = self.config.clone();
        let settings = of_registry.as_deref().map(in_registry);
        let named = tokio::task::spawn_blocking(move || config.files_named_now(settings.as_ref()));
        files.extend(named.await.unwrap_or_default());
        files.sort();
        files.dedup();
        files
    }

    /// Everything again as at the start, with the registry's settings in the place of the file's.
    async fn read(&self, of_registry: Option<Arc<str>>) -> Result<Config, Mistakes> {
        let config = self.config.clone();
        let settings = of_registry.as_deref().map(in_registry);
        // Files may lie on a disk that takes its time.
        let read = tokio::task::spawn_blocking(move || config.with_gate(settings.as_ref()));
        let config = read.await.map_err(|_| interrupted())??;
        self.check(&config).into_result()?;
        Ok(config)
    }

    /// What can only be wrong in view of how the router runs.
    fn check(&self, config: &Config) -> Mistakes {
        let file = config.origin.path.display().to_string();
        let snapshot = self.registry.watch().borrow().clone();
        let names: Vec<&str> = snapshot.experts.keys().map(String::as_str).collect();
        // Only a mesh that runs its own experts, and meets no others, knows all of them.
        let is_whole = !config.experts.is_empty() && config.registry.etcd.is_none();
        let mut mistakes = check_gate(&config.gate_settings.options, &file, is_whole.then_some(&*names));
        let (before, after) = (&self.config.gate.encoder, &config.gate.encoder);
        if before != after {
            let problem = format!("{after:?} instead of {before:?}");
            mistakes.add((&file, "gate.encoder"), problem, "a restart: the encoder is loaded at the start");
        }
        mistakes
    }

    async fn set(&self, config: Config, source: Source, in_force: &mut [u8; 32]) -> Outcome {
        let others = self.other_changes(&config);
        if !others.is_empty() {
            let file = config.origin.path.display();
            tracing::warn!(%file, changed = others.join(", "), "what has changed beside the gate takes a restart");
        }
        let new = fingerprint(&config.gate_settings);
        if new == *in_force {
            return Outcome::Taken;
        }
        let policy = Policy::of(&config.gate_settings.options);
        let configured = self.gate.configure(config.gate_settings).await;
        self.metrics.reloaded(source, configured.is_ok());
        match configured {
            Ok(()) => {
                self.policy.store(Arc::new(policy));
                *in_force = new;
                tracing::info!(source = source.as_str(), revision = %self.gate.revision(), "the gate goes by new settings");
                warn_of_bars(&self.gate);
                Outcome::Taken
            }
            Err(Error::Options(mistakes) | Error::Trial(mistakes)) => {
                let file = match source {
                    Source::File => config.origin.path.display().to_string(),
                    Source::Registry => IN_REGISTRY.to_owned(),
                };
                let mut found = Mistakes::default();
                for consilium_gate::Mistake { path, problem, expected } in mistakes {
                    found.add((&file, &path), problem, expected);
                }
                report(&found);
                Outcome::Refused
            }
            Err(error) => {
                let passes = matches!(error, Error::Encode(EncodeError::Failed(_) | EncodeError::DeadlineExceeded));
                let (outcome, next) =
                    if passes { (Outcome::Failed, "tried again") } else { (Outcome::Refused, "none") };
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, next, "the gate could not be set anew: the settings before stay");
                outcome
            }
        }
    }

    /// The sections beside `gate` that are not as the router runs.
    fn other_changes(&self, config: &Config) -> Vec<String> {
        let sections = |config: &Config| match serde_json::to_value(config) {
            Ok(Value::Object(sections)) => sections,
            _ => serde_json::Map::new(),
        };
        let (before, after) = (sections(&self.config), sections(config));
        let changed = after.into_iter().filter(|(name, value)| name != "gate" && before.get(name) != Some(value));
        changed.map(|(name, _)| name).collect()
    }
}

/// The registry's settings, once it was heard of; `None` when it is gone.
async fn heard(snapshots: &mut watch::Receiver<Arc<Snapshot>>) -> Option<Option<Arc<str>>> {
    snapshots.wait_for(|snapshot| snapshot.revision > 0).await.ok().map(|snapshot| snapshot.gate.clone())
}

/// Each mistake by itself: a log is searched by line.
fn report(mistakes: &Mistakes) {
    for mistake in mistakes {
        tracing::error!(%mistake, "the gate keeps its settings: the new ones are wrong");
    }
}

fn in_registry(text: &str) -> config::Source {
    config::Source { file: IN_REGISTRY.to_owned(), text: text.to_owned() }
}

fn interrupted() -> Mistakes {
    let mut mistakes = Mistakes::default();
    mistakes.add(("", ""), "the files could not be read to the end", "");
    mistakes
}

/// Tells settings apart, those that name the same files with other content too.
fn fingerprint(settings: &Settings) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |text: &[u8]| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    for part_of in [
        serde_json::to_vec(&settings.options),
        serde_json::to_vec(&settings.background),
        serde_json::to_vec(&settings.validation),
    ] {
        // Plain data, which JSON can always say.
        part(&part_of.unwrap_or_default());
    }
    hash.finalize().into()
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("origin", &self.config.origin.path).finish_non_exhaustive()
    }
}
