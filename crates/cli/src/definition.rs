//! The files of a mesh, read and checked together: `mesh.yaml` and every `expert.yaml` that it names. Nothing is
//! started or loaded here.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    path::{Path, PathBuf},
};

use consilium_engine::EngineOptions;
use consilium_mesh::config::{self, Mistake, Mistakes, Overlay, Source};
use serde_json::Value;

use crate::args::OWN_VARIABLES;

/// A mesh as its files describe it, free of mistakes.
#[derive(Clone, Debug)]
pub struct Definition {
    /// `mesh.yaml`
    pub file: PathBuf,
    pub config: consilium_router::Config,
    /// In the order of their files.
    pub experts: Vec<consilium_expert::Config>,
}

/// What could be read of a mesh whose files may be wrong.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) file: PathBuf,
    /// `None` where `mesh.yaml` is wrong.
    pub(crate) config: Option<consilium_router::Config>,
    /// Those that are right, with their files.
    pub(crate) experts: Vec<(PathBuf, consilium_expert::Config)>,
    pub(crate) mistakes: Mistakes,
}

impl Definition {
    /// Reads `mesh.yaml`, `set` (`key=value` each) and `CONSILIUM_…` variables on top of it, the standard ones of
    /// OpenTelemetry below it, and the experts' files.
    ///
    /// # Errors
    /// Every mistake in all of them.
    pub fn load(file: &Path, set: Vec<String>) -> Result<Self, Mistakes> {
        let Draft { file, config, experts, mistakes } = Draft::read(file, set);
        match config {
            Some(config) if mistakes.is_empty() => {
                Ok(Self { file, config, experts: experts.into_iter().map(|(_, expert)| expert).collect() })
            }
            _ => Err(mistakes),
        }
    }

    /// All packaged models that the mesh uses, the gate's encoder first, each once: its name, its directory, and how the
    /// first who uses it wants it run.
    pub fn models(&self) -> Vec<(&str, PathBuf, EngineOptions)> {
        let experts = self.experts.iter().filter_map(|expert| {
            let name = expert.task.packaged()?;
            Some((name, expert.task.engine(EngineOptions::default())))
        });
        let all = std::iter::once((self.config.gate.encoder.as_str(), EngineOptions::default())).chain(experts);
        let mut seen = BTreeSet::new();
        all.filter(|(name, _)| seen.insert(*name))
            .map(|(name, options)| (name, self.config.models.join(name), options))
            .collect()
    }
}

impl Draft {
    pub(crate) fn read(file: &Path, set: Vec<String>) -> Self {
        let overlay = Overlay { environment: config::environment(&OWN_VARIABLES), set, standard: config::standard() };
        let mut mistakes = Mistakes::default();
        let config = mistakes.take(consilium_router::Config::load(file, &overlay));
        let files = match &config {
            Some(config) => config.experts.clone(),
            None => experts_of_a_broken_mesh(file, &overlay),
        };
        let mut experts = Vec::new();
        for path in &files {
            if let Some(expert) = mistakes.take(consilium_expert::Config::load(path)) {
                experts.push((path.clone(), expert));
            }
        }
        let mut draft = Self { file: file.to_owned(), config, experts, mistakes };
        // With an expert missing, everything that speaks of it would look wrong as well.
        if draft.experts.len() == files.len() {
            draft.compare();
        }
        draft
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.experts.iter().map(|(_, expert)| expert.name.as_str()).collect()
    }

    /// What is wrong only when the files are seen together.
    fn compare(&mut self) {
        let mut found = Mistakes::default();
        let mut first: BTreeMap<&str, &Path> = BTreeMap::new();
        for (path, expert) in &self.experts {
            match first.entry(&expert.name) {
                Entry::Vacant(entry) => {
                    entry.insert(path);
                }
                Entry::Occupied(entry) => found.push(twice(path, &expert.name, entry.get())),
            }
        }
        if let Some(config) = &self.config {
            let names: Vec<&str> = first.into_keys().collect();
            found.extend(config.check_experts(&self.file.display().to_string(), &names));
            for (path, expert) in &self.experts {
                found.extend(undeclared(config, expert, path));
            }
        }
        self.mistakes.extend(found);
    }
}

/// The questions that `consilium demo` asks a mesh.
pub(crate) fn questions(mesh: &Path) -> PathBuf {
    mesh.with_file_name("demo.jsonl")
}

/// The experts' files of a mesh whose own file is wrong, as far as they can be made out: their mistakes should not have
/// to wait for the next run. What is wrong with the patterns themselves has been said by then.
fn experts_of_a_broken_mesh(file: &Path, overlay: &Overlay) -> Vec<PathBuf> {
    let tree: Option<Value> = Source::read(file).and_then(|source| config::parse(&source, overlay)).ok();
    let patterns = tree.as_ref().and_then(|tree| tree.get("experts")?.as_array()).into_iter().flatten();
    let base = file.parent().unwrap_or(Path::new(""));
    let paths = patterns.filter_map(Value::as_str).filter_map(|it| glob::glob(&base.join(it).to_string_lossy()).ok());
    let files: BTreeSet<PathBuf> = paths.flatten().filter_map(Result::ok).collect();
    files.into_iter().collect()
}

fn twice(path: &Path, name: &str, first: &Path) -> Mistake {
    Mistake {
        file: path.display().to_string(),
        path: "name".into(),
        problem: format!("{name:?} is the expert of {} already", first.display()),
        expected: "a name of its own".into(),
    }
}

/// Dimensions and values that an expert serves and the mesh does not know: nobody could ever ask for them.
fn undeclared(config: &consilium_router::Config, expert: &consilium_expert::Config, path: &Path) -> Vec<Mistake> {
    let mistake = |at: String, problem: String, expected: String| Mistake {
        file: path.display().to_string(),
        path: at,
        problem,
        expected,
    };
    let mut mistakes = Vec::new();
    for (name, values) in &expert.serves {
        let Some(dimension) = config.gate.dimensions.get(name) else {
            let declared: Vec<&str> = config.gate.dimensions.keys().map(String::as_str).collect();
            let expected = format!("one of the mesh's dimensions: {}", listed(&declared));
            mistakes.push(mistake(format!("serves.{name}"), "is no dimension of the mesh".into(), expected));
            continue;
        };
        for value in values.iter().filter(|value| !dimension.declares(value)) {
            let known: Vec<&str> = dimension.names().collect();
            let expected = format!("one of {}", listed(&known));
            mistakes.push(mistake(format!("serves.{name}"), format!("{value:?} is none of its values"), expected));
        }
    }
    mistakes
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none are declared".to_owned() } else { names.join(", ") }
}
