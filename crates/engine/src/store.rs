//! The model store: every model of the process once, whatever number of experts use it, on one budget of cores.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use tokio::sync::{OnceCell, RwLock};
use tokio::task::{JoinSet, spawn_blocking};

use crate::cores::{self, Cores};
use crate::cost::{CostTable, Unit};
use crate::engine::{Engine, EngineOptions, Parts};
use crate::error::Error;
use crate::package::{Package, Source};
use crate::runtime;
use crate::session::{RunError, Session, ort as onnx_session};
use crate::tokenize::Tokenizer;
use crate::warmup;

/// How a store is opened.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// The ONNX Runtime library. `None`: whatever the system's dynamic loader finds under its usual name.
    pub onnxruntime: Option<PathBuf>,
    /// Cores that all models together may keep busy. `None`: the container's quota, else all there are.
    pub cores: Option<NonZeroUsize>,
}

/// All models of the process. Cheap to clone; every clone is the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    environment: Environment,
    cores: NonZeroUsize,
    gate: Arc<Cores>,
    /// By model digest. A cell is filled by the first load of its model; others wait for it.
    engines: Mutex<HashMap<String, Arc<OnceCell<Engine>>>>,
    /// Loads hold it for reading, so that closing sees every engine there will ever be.
    closed: RwLock<bool>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("cores", &self.0.cores).finish_non_exhaustive()
    }
}

impl Store {
    /// Loads ONNX Runtime, once per process: a second store shares it.
    ///
    /// `Err(Runtime)` when the library cannot be loaded, or another one already is.
    pub fn open(options: StoreOptions) -> Result<Self, Error> {
        let StoreOptions { onnxruntime, cores } = options;
        let environment = runtime::load(onnxruntime.as_deref())?;
        let cores = cores.unwrap_or_else(cores::available);
        Ok(Self(Arc::new(Inner {
            environment,
            cores,
            gate: Arc::new(Cores::new(cores)),
            engines: Mutex::default(),
            closed: RwLock::new(false),
        })))
    }

    /// Verifies, loads and warms up the model in `dir`. A model that is already there, by the digest of its manifest,
    /// is given as it is, with the options of its first load; one that is being loaded is waited for.
    ///
    /// `executors` sessions of `cores / executors` threads each serve it. By default there is one per two cores: a second
    /// thread shortens a run of 128 tokens by a third, and every further one gains less than a session of its own.
    ///
    /// `Err(Manifest)` lists everything wrong with the directory, `Err(Model)` is ONNX Runtime's refusal.
    pub async fn load(&self, dir: &Path, options: EngineOptions) -> Result<Engine, Error> {
        let closed = self.0.closed.read().await;
        if *closed {
            return Err(Error::Closed);
        }
        let dir = dir.to_owned();
        let source = blocking(move || Source::open(&dir)).await?;
        let cell = {
            let mut engines = self.0.engines.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(engines.entry(source.digest.clone()).or_default())
        };
        let inner = Arc::clone(&self.0);
        let start = || blocking(move || inner.start(&source.read()?, &options));
        cell.get_or_try_init(start).await.cloned()
    }

    /// The core budget.
    pub fn cores(&self) -> NonZeroUsize {
        self.0.cores
    }

    /// Refuses new work, finishes what is queued, and waits for every thread.
    pub async fn close(&self) {
        *self.0.closed.write().await = true;
        let engines: Vec<Engine> = {
            let engines = self.0.engines.lock().unwrap_or_else(PoisonError::into_inner);
            engines.values().filter_map(|cell| cell.get().cloned()).collect()
        };
        // All of them first: an expert that uses two models should not be half closed for long.
        engines.iter().for_each(Engine::refuse);
        let mut closing = JoinSet::new();
        for engine in engines {
            closing.spawn_blocking(move || engine.close());
        }
        closing.join_all().await;
    }
}

impl Inner {
    fn start(&self, package: &Package, options: &EngineOptions) -> Result<Engine, Error> {
        let manifest = package.manifest.clone();
        let tokenizer = manifest
            .tokenizer
            .as_ref()
            .map(|entry| Tokenizer::from_bytes(package.file(&entry.file), entry))
            .transpose()
            .map_err(|problem| package.refused(vec![problem]))?;
        let (unit, max_waiting, batch_units) = match tokenizer {
            Some(_) => (Unit::Tokens, options.queue_tokens, options.batch_tokens.max(1)),
            None => (Unit::Rows, options.queue_rows, options.batch_rows.max(1)),
        };
        let (executors, threads) = share_out(self.cores, options.executors);
        let mut sessions = onnx_session::load(&self.environment, package, executors, threads)?;

        let permit = self.gate.acquire(threads);
        let failed = |error: RunError| Error::Model {
            name: manifest.name.clone(),
            problem: format!("the first run failed: {error}"),
            source: None,
        };
        let mut points = Vec::new();
        for (at, session) in sessions.iter_mut().enumerate() {
            let warmed = if at == 0 {
                warmup::sweep(session, &manifest, batch_units).map(|measured| points = measured)
            } else {
                warmup::touch(session, &manifest, batch_units)
            };
            match (warmed, unit) {
                // Only the caller knows what sizes the free inner dimensions of a tensors model may have.
                (Err(error), Unit::Rows) => {
                    tracing::warn!(model = manifest.name, %error, "no warm-up: the model refused made-up input");
                }
                (warmed, _) => warmed.map_err(failed)?,
            }
        }
        drop(permit);

        let cost = CostTable { unit, points, executors, batch_units };
        tracing::info!(
            model = manifest.name,
            version = manifest.version,
            digest = package.digest,
            executors,
            threads,
            "model ready"
        );
        Engine::start(Parts {
            digest: package.digest.clone(),
            tokenizer,
            sessions: sessions.into_iter().map(|session| Box::new(session) as Box<dyn Session>).collect(),
            threads,
            cores: Arc::clone(&self.gate),
            cost,
            max_waiting,
            manifest,
        })
    }
}

/// `(executors, threads of each)`, whose product is never more than the cores.
fn share_out(cores: NonZeroUsize, executors: Option<NonZeroUsize>) -> (usize, usize) {
    let cores = cores.get();
    let executors = executors.map_or(cores.div_ceil(2), |executors| executors.get().min(cores));
    (executors, cores / executors)
}

/// Loading reads files, hashes and compiles: seconds that must not block the async runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.unwrap_or_else(|_| Err(Error::failed("loading was interrupted")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_times_threads_never_exceeds_the_cores() {
        for cores in 1..=64 {
            let cores = NonZeroUsize::new(cores).unwrap();
            for wanted in [None, Some(1), Some(2), Some(3), Some(100)] {
                let (executors, threads) = share_out(cores, wanted.map(|n| NonZeroUsize::new(n).unwrap()));
                assert!(executors >= 1 && threads >= 1 && executors * threads <= cores.get(), "{cores} {wanted:?}");
            }
        }
        assert_eq!(share_out(NonZeroUsize::MIN, None), (1, 1));
        assert_eq!(share_out(NonZeroUsize::new(8).unwrap(), None), (4, 2));
    }
}
