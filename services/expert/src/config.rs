//! `expert.yaml`: raw as written → checked. The rest of the crate sees only the checked form. Nothing is started here,
//! but the files that the configuration names are read, so that all mistakes come out together.

mod check;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use consilium_mesh::{
    config::{Mistakes, Overlay, Source},
    registry::{Price, Slo},
};

/// An expert as configured, checked. Paths are complete: they no longer depend on where the file lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// A DNS label.
    pub name: String,
    pub version: String,
    pub summary: String,
    /// Queries that this expert should get.
    pub examples: Vec<String>,
    /// Dimension values that it serves; a dimension that is not listed is served whole.
    pub serves: BTreeMap<String, Vec<String>>,
    pub task: TaskConfig,
    pub slo: Slo,
    pub idempotent: bool,
    pub hedge: bool,
    pub price: Option<Price>,
}

/// What the expert does, and the model it does it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskConfig {
    pub kind: TaskKind,
    /// The name of a directory among the models.
    pub model: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskKind {
    Embed,
    Classify,
    /// The best `top` passages of the file `knowledge`.
    Retrieve {
        knowledge: PathBuf,
        top: usize,
    },
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
}

impl TaskKind {
    /// As in `expert.yaml` and in the card.
    pub fn as_str(&self) -> &'static str {
        match self {
            TaskKind::Embed => "embed",
            TaskKind::Classify => "classify",
            TaskKind::Retrieve { .. } => "retrieve",
            TaskKind::Tensors => "tensors",
        }
    }

    pub fn reads(&self) -> Reads {
        match self {
            TaskKind::Embed | TaskKind::Classify | TaskKind::Retrieve { .. } => Reads::Text,
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
