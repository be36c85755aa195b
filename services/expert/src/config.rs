//! `expert.yaml`: raw as written → checked. The rest of the crate sees only the checked form. Nothing is started here,
//! but the files that the configuration names are read, so that all mistakes come out together.

mod check;
mod task;

use std::{
    collections::BTreeMap,
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use consilium_engine::EngineOptions;
use consilium_mesh::{
    config::{Mistakes, Overlay, Source},
    registry::{Price, Slo},
};

use crate::models::repository;

/// An expert as configured, checked. Paths are complete: they no longer depend on where the file lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// A DNS label.
    pub name: String,
    pub version: String,
    pub summary: String,
    /// Queries that this expert should get.
    pub examples: Vec<String>,
    /// Where they are; they may change while the expert runs.
    pub examples_file: Option<PathBuf>,
    /// Dimension values that it serves; a dimension that is not listed is served whole.
    pub serves: BTreeMap<String, Vec<String>>,
    pub task: TaskConfig,
    pub slo: Slo,
    pub idempotent: bool,
    pub hedge: bool,
    pub price: Option<Price>,
}

/// What the expert does, and with which models. Those called `model` are names of directories among the models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskConfig {
    Embed {
        model: String,
    },
    Classify {
        model: String,
    },
    /// The best `top` passages of the file `knowledge`.
    Retrieve {
        model: String,
        knowledge: PathBuf,
        top: usize,
    },
    Tensors {
        models: TensorModels,
        /// Rows that may run together, 1 for never joining requests; `None` for the engine's own default.
        batch_rows: Option<NonZeroUsize>,
    },
}

/// Where the models of a task of kind `tensors` are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TensorModels {
    /// One, a directory among the models: a part of the expert's version.
    Packaged(String),
    /// Any number, in a directory of the expert's own.
    Repository(Repository),
}

/// A directory `<model>/<version>/model.onnx`, of which the highest version of each model is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    pub dir: PathBuf,
    /// The model that answers under the expert's own name.
    pub default: Option<String>,
    /// What is loaded at the start.
    pub load: Load,
    pub control: Control,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    All,
    These(Vec<String>),
}

impl Repository {
    /// What would be loaded if the expert started now: each model's name, and the directory of its highest version.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn at_start(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let found = repository::scan(&self.dir)?.models.into_iter();
        Ok(found.filter(|(name, _)| self.load.wants(name)).map(|(name, version)| (name, version.dir)).collect())
    }
}

impl Load {
    pub(crate) fn wants(&self, model: &str) -> bool {
        match self {
            Load::All => true,
            Load::These(these) => these.iter().any(|one| one == model),
        }
    }
}

/// Whether clients may load and unload models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    None,
    Explicit,
}

/// The models of a task of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs<'a> {
    /// A directory among the models.
    Packaged(&'a str),
    Repository(&'a Repository),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    Embed,
    Classify,
    Retrieve,
    Tensors,
}

/// Which part of a query a task reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    Text,
    Tensors,
}

impl Config {
    /// Reads `expert.yaml` and the files that it names. `Err` lists every mistake of all of them.
    pub fn load(path: &Path) -> Result<Config, Mistakes> {
        Config::read(&Source::read(path)?, path.parent().unwrap_or(Path::new("")), &Overlay::default())
    }

    /// The same from a source at hand; relative paths start at `dir`.
    pub fn read(source: &Source, dir: &Path, overlay: &Overlay) -> Result<Config, Mistakes> {
        check::read(source, dir, overlay)
    }

    /// The same expert with the examples that its file has by now.
    pub(crate) fn with_examples_of_now(&self) -> Result<Config, Mistakes> {
        check::reread(self)
    }
}

impl TaskConfig {
    pub fn kind(&self) -> TaskKind {
        match self {
            TaskConfig::Embed { .. } => TaskKind::Embed,
            TaskConfig::Classify { .. } => TaskKind::Classify,
            TaskConfig::Retrieve { .. } => TaskKind::Retrieve,
            TaskConfig::Tensors { .. } => TaskKind::Tensors,
        }
    }

    /// Where its models come from.
    pub fn needs(&self) -> Needs<'_> {
        match self {
            TaskConfig::Embed { model }
            | TaskConfig::Classify { model }
            | TaskConfig::Retrieve { model, .. }
            | TaskConfig::Tensors { models: TensorModels::Packaged(model), .. } => Needs::Packaged(model),
            TaskConfig::Tensors { models: TensorModels::Repository(repository), .. } => Needs::Repository(repository),
        }
    }

    /// The directory among the models that it needs; `None` for a task with a repository of its own.
    pub fn packaged(&self) -> Option<&str> {
        match self.needs() {
            Needs::Packaged(model) => Some(model),
            Needs::Repository(_) => None,
        }
    }

    /// What `base` becomes for the models of this task.
    pub fn engine(&self, base: EngineOptions) -> EngineOptions {
        match self {
            TaskConfig::Tensors { batch_rows: Some(rows), .. } => EngineOptions { batch_rows: rows.get(), ..base },
            _ => base,
        }
    }
}

impl TaskKind {
    /// As in `expert.yaml` and in the card.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskKind::Embed => "embed",
            TaskKind::Classify => "classify",
            TaskKind::Retrieve => "retrieve",
            TaskKind::Tensors => "tensors",
        }
    }

    pub fn reads(self) -> Reads {
        match self {
            TaskKind::Embed | TaskKind::Classify | TaskKind::Retrieve => Reads::Text,
            TaskKind::Tensors => Reads::Tensors,
        }
    }
}

impl Reads {
    /// The modality, as in `accepts` of the card.
    pub fn modality(self) -> &'static str {
        match self {
            Reads::Text => "text",
            Reads::Tensors => "tensor",
        }
    }
}

#[cfg(test)]
mod tests;
