//! The model store: every model of the process once, whatever number of experts use it, on one budget of cores.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use consilium_metrics::Page;
use ort::environment::Environment;
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::task::{JoinSet, spawn_blocking};

use crate::bare;

use crate::cores::{self, Cores};
use crate::cost::{CostTable, Unit};
use crate::engine::{Engine, EngineOptions, Parts};
use crate::error::Error;
use crate::loads::Loads;
use crate::package::{Package, Source};
use crate::queue::Bounds;
use crate::runtime;
use crate::session::{Session, ort as onnx_session};
use crate::tokenize::Tokenizer;
use crate::warmup::{self, Warmth};

/// How a store is opened.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// The ONNX Runtime library. `None`: whatever the system's dynamic loader finds under its usual name.
    pub onnxruntime: Option<PathBuf>,
    /// Cores that all models together may keep busy. `None`: the container's quota, else all there are.
    pub cores: Option<NonZeroUsize>,
    /// Where the models count. By default a page that nobody reads.
    pub metrics: Page,
}

/// All models of the process. Cheap to clone; every clone is the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    environment: Environment,
    cores: NonZeroUsize,
    gate: Arc<Cores>,
    metrics: Page,
    /// By model digest; of a bare directory also by the name that it was given.
    engines: Loads<Engine>,
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
        let StoreOptions { onnxruntime, cores, metrics } = options;
        let environment = runtime::load(onnxruntime.as_deref())?;
        let cores = cores.unwrap_or_else(cores::available);
        Ok(Self(Arc::new(Inner {
            environment,
            cores,
            gate: Arc::new(Cores::new(cores)),
            metrics,
            engines: Loads::default(),
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
        let _open = self.enter().await?;
        let dir = dir.to_owned();
        let source = blocking(move || Source::open(&dir)).await?;
        self.share(source.digest.clone(), options, move || source.read()).await
    }

    /// The same for a directory that has a `model.onnx` and need not have a manifest: without one, what the graph says of
    /// its inputs and outputs is what there is, and `name` and `version` are what it is called. The external data files
    /// that the model names must lie in the directory. A model that is already there, by the digest of its files and what
    /// it is called, is given as it is.
    ///
    /// `Err(Manifest)` also lists every input and output that no tensor of the Open Inference Protocol fits: sequences,
    /// maps, and elements that have no datatype there.
    pub async fn load_bare(
        &self,
        dir: &Path,
        name: &str,
        version: &str,
        options: EngineOptions,
    ) -> Result<Engine, Error> {
        let dir_of_manifest = dir.to_owned();
        if blocking(move || Ok(bare::has_manifest(&dir_of_manifest))).await? {
            return self.load(dir, options).await;
        }
        let _open = self.enter().await?;
        let (dir, name, version) = (dir.to_owned(), name.to_owned(), version.to_owned());
        let package = blocking(move || bare::read(&dir, &name, &version)).await?;
        // An engine tells its name and version, so equal files of two names are two models.
        let key = format!("{} {} {}", package.digest, package.manifest.name, package.manifest.version);
        self.share(key, options, move || Ok(package)).await
    }

    /// Undoes one load; every load is to be undone by one unload. The last one refuses new work ([`Error::Closed`], also
    /// through clones that others hold), finishes what is queued, waits for the threads and gives the memory back. A load
    /// of the same model that has begun keeps it.
    pub async fn unload(&self, engine: Engine) {
        if let Some(last) = self.0.engines.end(|loaded| loaded.is(&engine)) {
            last.refuse();
            drop(engine);
            // Joining threads blocks, and so does dropping the last clone.
            let closed = spawn_blocking(move || last.close()).await;
            if let Err(error) = closed {
                tracing::error!(%error, "closing an engine panicked");
            }
        }
    }

    /// The core budget.
    pub fn cores(&self) -> NonZeroUsize {
        self.0.cores
    }

    /// Refuses new work, finishes what is queued, and waits for every thread.
    pub async fn close(&self) {
        *self.0.closed.write().await = true;
        let engines = self.0.engines.all();
        // All of them first: an expert that uses two models should not be half closed for long.
        engines.iter().for_each(Engine::refuse);
        let mut closing = JoinSet::new();
        for engine in engines {
            closing.spawn_blocking(move || engine.close());
        }
        closing.join_all().await;
    }

    /// Held while loading, so that closing sees every engine there will ever be.
    async fn enter(&self) -> Result<RwLockReadGuard<'_, bool>, Error> {
        let closed = self.0.closed.read().await;
        if *closed { Err(Error::Closed) } else { Ok(closed) }
    }

    /// The engine of that key, which the first who asks starts from what `read` gives.
    async fn share(
        &self,
        key: String,
        options: EngineOptions,
        read: impl FnOnce() -> Result<Package, Error> + Send + 'static,
    ) -> Result<Engine, Error> {
        let load = self.0.engines.begin(key);
        let inner = Arc::clone(&self.0);
        let start = || blocking(move || inner.start(&read()?, &options));
        let engine = load.cell.get_or_try_init(start).await?.clone();
        load.keep();
        Ok(engine)
    }
}

impl Inner {
    fn start(&self, package: &Package, options: &EngineOptions) -> Result<Engine, Error> {
        let tokenizer = package.manifest.tokenizer.as_ref();
        let tokenizer = tokenizer
            .map(|entry| Tokenizer::from_bytes(package.file(&entry.file), entry))
            .transpose()
            .map_err(|problem| package.refused(vec![problem]))?;
        let tokens = package.token_table()?;
        let tokenizer = if tokens.is_some() { tokenizer.map(Tokenizer::with_plain_text) } else { tokenizer };
        let (unit, max_waiting, batch_units) = match tokenizer {
            Some(_) => (Unit::Tokens, options.queue_tokens, options.batch_tokens.max(1)),
            None => (Unit::Rows, options.queue_rows, options.batch_rows.max(1)),
        };
        let (executors, threads) = share_out(self.cores, options.executors);
        let loaded = onnx_session::load(&self.environment, package, executors, threads)?;
        let (manifest, mut sessions) = (loaded.manifest, loaded.sessions);

        let permit = self.gate.acquire(threads);
        let warmed = warmup::run(&mut sessions, &manifest, batch_units);
        let Warmth { points, joins } = warmed.map_err(|error| Error::Model {
            name: manifest.name.clone(),
            problem: format!("the first run failed: {error}"),
            source: None,
        })?;
        drop(permit);

        tracing::info!(
            model = manifest.name,
            version = manifest.version,
            digest = package.digest,
            executors,
            threads,
            joins,
            "model ready"
        );
        Engine::start(Parts {
            digest: package.digest.clone(),
            tokenizer,
            tokens,
            sessions: sessions.into_iter().map(|session| Box::new(session) as Box<dyn Session>).collect(),
            threads,
            cores: Arc::clone(&self.gate),
            cost: CostTable { unit, points, executors, batch_units },
            bounds: Bounds { units: max_waiting, bytes: options.queue_bytes, batch_bytes: options.batch_bytes },
            joins,
            metrics: self.metrics.clone(),
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
