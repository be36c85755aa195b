//! Which raw models an expert serves, by name, and in which state each of them is. Everything here reads a table that is
//! replaced whole; what replaces it at run time is in `control`, how models lie on disk in `repository`.

pub(crate) mod control;
pub(crate) mod repository;
mod served;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use consilium_engine::{Call, Engine, EngineOptions, Error as EngineError, Store, Tensor, TensorOutput};
use consilium_mesh::{inference::Readiness, registry::ModelRef};

use self::repository::Version;
pub(crate) use self::served::Served;
use crate::{
    Error,
    config::{Load, Repository},
    task::Failure,
};

/// The models of one expert. `default()` has none.
#[derive(Debug, Default)]
pub(crate) struct Models {
    /// The one that answers under the expert's own name.
    default: Option<String>,
    /// Where models come from that are not a part of the expert's version.
    repository: Option<PathBuf>,
    table: ArcSwap<Table>,
}

/// Every model that was heard of, by name.
type Table = BTreeMap<String, Entry>;

/// A model: what answers, and what is being done about it. With neither it is there and was never loaded.
#[derive(Clone, Debug, Default)]
struct Entry {
    serving: Option<Arc<Served>>,
    change: Option<Change>,
}

/// What is being done with a version of a model, or how that went if it did not go well.
#[derive(Clone, Debug)]
struct Change {
    version: String,
    state: Readiness,
}

/// What loads models.
#[derive(Clone, Debug)]
pub(crate) struct Loader {
    pub(crate) store: Store,
    pub(crate) options: EngineOptions,
}

/// Why nobody answers for a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    #[error("no such model is served here")]
    Unknown,
    #[error("this version of the model is not served here; version {in_use} is")]
    Version { in_use: String },
    #[error(
        "none of this expert's models answers under its own name: call one of them over the Open Inference Protocol, as \
         `<expert>.<model>`"
    )]
    NoDefault,
    #[error("the model is not available: {0}")]
    Unavailable(String),
}

/// A line of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) state: Readiness,
}

const NEVER_LOADED: &str = "not loaded";

impl Models {
    /// The one model that is a part of the expert's version.
    pub(crate) fn packaged(engine: Engine) -> Models {
        let (name, version) = (engine.manifest().name.clone(), engine.manifest().version.clone());
        let served = Served::new(name.clone(), version, engine);
        let table = Table::from([(name.clone(), Entry::of(served))]);
        Models { default: Some(name), repository: None, table: ArcSwap::from_pointee(table) }
    }

    /// Those of a repository, loaded one after the other.
    ///
    /// # Errors
    /// [`Error::Unreadable`] for the directory, [`Error::Models`] for every model that cannot be loaded; then none is.
    pub(crate) async fn open(repository: &Repository, loader: &Loader) -> Result<Models, Error> {
        let Repository { dir, default, load, control: _ } = repository;
        let found = look(dir).await.map_err(|source| Error::Unreadable { path: dir.clone(), source })?;
        if !found.configured.is_empty() {
            let models = found.configured.join(", ");
            tracing::info!(models, "config.pbtxt is not read: what a model takes and gives is in its model.onnx");
        }
        let (mut table, mut failed) = (Table::new(), Vec::new());
        if let Load::These(these) = load {
            // There when the configuration was read, and gone since.
            failed.extend(these.iter().filter(|name| !found.models.contains_key(*name)).map(|name| {
                let problem = "is no longer in the repository".to_owned();
                (name.clone(), EngineError::Model { name: name.clone(), problem, source: None })
            }));
        }
        for (name, version) in &found.models {
            let entry = if load.wants(name) {
                match loader.load(name, version).await {
                    Ok(served) => Entry::of(served),
                    Err(error) => {
                        failed.push((name.clone(), error));
                        continue;
                    }
                }
            } else {
                Entry::default()
            };
            table.insert(name.clone(), entry);
        }
        if !failed.is_empty() {
            for served in table.into_values().filter_map(|entry| entry.serving) {
                loader.store.unload(served.engine.clone()).await;
            }
            return Err(Error::Models { failed });
        }
        Ok(Models { default: default.clone(), repository: Some(dir.clone()), table: ArcSwap::from_pointee(table) })
    }

    /// The model that answers under the expert's own name.
    pub(crate) fn default_model(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// Whether its models are a part of the expert's version, and so never change.
    pub(crate) fn are_packaged(&self) -> bool {
        self.repository.is_none()
    }

    /// Who answers for `model`, or for the default one, in `version`, or in any if that is empty.
    pub(crate) fn get(&self, model: Option<&str>, version: &str) -> Result<Arc<Served>, Unserved> {
        let name = model.or(self.default.as_deref()).ok_or(Unserved::NoDefault)?;
        let table = self.table.load();
        let entry = table.get(name).ok_or(Unserved::Unknown)?;
        let Some(served) = &entry.serving else {
            return Err(Unserved::Unavailable(entry.why_not().to_owned()));
        };
        if version.is_empty() || version == served.version {
            Ok(Arc::clone(served))
        } else {
            Err(Unserved::Version { in_use: served.version.clone() })
        }
    }

    /// Runs a model that [`Models::get`] finds. Who comes too late for an engine that is being replaced is served by its
    /// successor.
    pub(crate) async fn run(
        &self,
        model: Option<&str>,
        version: &str,
        inputs: &[Tensor],
        call: Call,
    ) -> Result<(Arc<Served>, TensorOutput), Failure> {
        let run = |served: Arc<Served>| {
            // The data of a tensor is shared, not copied.
            let inputs = inputs.to_vec();
            async move { served.engine.tensors(inputs, call).await }
        };
        on_current(|| self.get(model, version), run).await
    }

    /// Everything that answers, by name.
    pub(crate) fn serving(&self) -> Vec<Arc<Served>> {
        self.table.load().values().filter_map(|entry| entry.serving.clone()).collect()
    }

    /// The same as others are told it.
    pub(crate) fn refs(&self) -> Vec<ModelRef> {
        self.serving().iter().map(|served| served.reference()).collect()
    }

    /// What stands for all of them where one number is wanted: the default model, else the first.
    pub(crate) fn typical(&self) -> Option<Arc<Served>> {
        self.get(None, "").ok().or_else(|| self.serving().into_iter().next())
    }

    /// Every model there is and what goes on with it. One that is being replaced has a line for either version. What lies on
    /// the disk and could be loaded is only looked for where somebody may load it.
    pub(crate) async fn index(&self, may_load: bool) -> Vec<Line> {
        let on_disk = match &self.repository {
            Some(dir) if may_load => look(dir).await.map(|found| found.models).unwrap_or_default(),
            Some(_) | None => BTreeMap::new(),
        };
        let table = self.table.load();
        let mut lines: Vec<Line> = table
            .iter()
            .flat_map(|(name, entry)| entry.lines(name, on_disk.get(name)))
            .chain(
                on_disk
                    .iter()
                    .filter(|(name, _)| !table.contains_key(*name))
                    .flat_map(|(name, version)| Entry::default().lines(name, Some(version))),
            )
            .collect();
        lines.sort_by(|a, b| a.model.cmp(&b.model));
        lines
    }

    /// Replaces the entry of `model`.
    fn put(&self, model: &str, entry: &Entry) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            table.insert(model.to_owned(), entry.clone());
            table
        });
    }

    fn entry(&self, model: &str) -> Option<Entry> {
        self.table.load().get(model).cloned()
    }
}

impl Entry {
    fn of(served: Served) -> Entry {
        Entry { serving: Some(Arc::new(served)), change: None }
    }

    fn why_not(&self) -> &str {
        match self.change.as_ref().map(|change| &change.state) {
            Some(Readiness::Loading) => "it is being loaded",
            Some(Readiness::Unloading) => "it is being unloaded",
            Some(Readiness::Unavailable(reason)) => reason,
            Some(Readiness::Ready) | None => NEVER_LOADED,
        }
    }

    fn lines(&self, model: &str, on_disk: Option<&Version>) -> Vec<Line> {
        let line = |version: &str, state| Line { model: model.to_owned(), version: version.to_owned(), state };
        let serving = self.serving.as_ref().map(|served| line(&served.version, Readiness::Ready));
        let change = self.change.as_ref().map(|change| line(&change.version, change.state.clone()));
        let mut lines: Vec<Line> = serving.into_iter().chain(change).collect();
        if lines.is_empty() {
            let version = on_disk.map(|version| version.number.to_string()).unwrap_or_default();
            lines.push(line(&version, Readiness::Unavailable(NEVER_LOADED.to_owned())));
        }
        lines
    }
}

impl Loader {
    /// Returns when the model is warm.
    async fn load(&self, name: &str, version: &Version) -> Result<Served, EngineError> {
        let number = version.number.to_string();
        let engine = self.store.load_bare(&version.dir, name, &number, self.options.clone()).await?;
        tracing::info!(model = name, version = number, digest = engine.digest(), "model loaded");
        Ok(Served::new(name.to_owned(), number, engine))
    }
}

/// `run` on what is `current`; if that closes first, on what has taken its place by then.
async fn on_current<S, T, F>(
    current: impl Fn() -> Result<Arc<S>, Unserved>,
    run: impl Fn(Arc<S>) -> F,
) -> Result<(Arc<S>, T), Failure>
where
    F: Future<Output = Result<T, EngineError>>,
{
    let mut served = current()?;
    loop {
        match run(Arc::clone(&served)).await {
            Ok(output) => return Ok((served, output)),
            Err(EngineError::Closed) => {
                let successor = current()?;
                // With the whole store, what is current is closed.
                if Arc::ptr_eq(&served, &successor) {
                    return Err(EngineError::Closed.into());
                }
                served = successor;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A disk may take its time.
async fn look(dir: &Path) -> std::io::Result<repository::Found> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || repository::scan(&dir)).await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests;
