//! The raw form of `task` in `expert.yaml`, and all that can be wrong with it.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use consilium_mesh::config::Mistake;
use serde::{Deserialize, Serialize};

use super::{Control, Load, Repository, TaskConfig, TaskKind, TensorModels, check::Check};
use crate::{
    Error, knowledge,
    models::repository::{self, MODEL_NAME, is_model_name},
};

const DEFAULT_TOP: usize = 3;
const MAX_TOP: usize = 20;
const MAX_BATCH_ROWS: usize = 4096;

// What is expected, where it is said more than once.
const KINDS: &str = "embed, classify, retrieve or tensors";
const LAYOUT: &str = "a directory with <model>/<version>/model.onnx in it, where a version is an integer from 1";

/// As written. Everything is optional here, so that what is missing is reported together with what is wrong.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTask {
    kind: Option<String>,
    model: Option<String>,
    knowledge: Option<PathBuf>,
    top: Option<usize>,
    repository: Option<PathBuf>,
    load: Option<Vec<String>>,
    control: Option<String>,
    batch_rows: Option<usize>,
}

impl Check<'_> {
    pub(super) fn task(&mut self, raw: RawTask) -> Option<TaskConfig> {
        let kind = match raw.kind.as_deref() {
            Some("embed") => Some(TaskKind::Embed),
            Some("classify") => Some(TaskKind::Classify),
            Some("retrieve") => Some(TaskKind::Retrieve),
            Some("tensors") => Some(TaskKind::Tensors),
            Some(other) => self.wrong("task.kind", format!("`{other}` is not known"), KINDS),
            None => self.required("task.kind", None, KINDS),
        };
        if let Some(kind) = kind {
            self.meaningless(kind, &raw);
        }
        if kind == Some(TaskKind::Tensors) {
            return self.tensors(raw);
        }
        let model = self.required("task.model", raw.model, "the name of a model").and_then(|it| self.model(it));
        match kind? {
            TaskKind::Embed => Some(TaskConfig::Embed { model: model? }),
            TaskKind::Classify => Some(TaskConfig::Classify { model: model? }),
            TaskKind::Retrieve => {
                let top = self.top(raw.top.unwrap_or(DEFAULT_TOP));
                let knowledge = self.required("task.knowledge", raw.knowledge, "a file of passages");
                let knowledge = knowledge.and_then(|file| self.knowledge(&file));
                Some(TaskConfig::Retrieve { model: model?, knowledge: knowledge?, top: top? })
            }
            TaskKind::Tensors => None, // Returned above.
        }
    }

    /// Keys that another kind of task has.
    fn meaningless(&mut self, kind: TaskKind, raw: &RawTask) {
        let (retrieve, tensors) = (kind == TaskKind::Retrieve, kind == TaskKind::Tensors);
        for (field, given, means) in [
            ("task.knowledge", raw.knowledge.is_some(), retrieve),
            ("task.top", raw.top.is_some(), retrieve),
            ("task.repository", raw.repository.is_some(), tensors),
            ("task.load", raw.load.is_some(), tensors),
            ("task.control", raw.control.is_some(), tensors),
            ("task.batch_rows", raw.batch_rows.is_some(), tensors),
        ] {
            if given && !means {
                let problem = format!("means nothing to a task of kind `{}`", kind.as_str());
                self.note(field, problem, "nothing here");
            }
        }
    }

    fn tensors(&mut self, raw: RawTask) -> Option<TaskConfig> {
        let models = if let Some(dir) = raw.repository {
            let control = self.control(raw.control.as_deref());
            self.repository(&dir, raw.model, raw.load, control).map(TensorModels::Repository)
        } else {
            for (field, given) in [("task.load", raw.load.is_some()), ("task.control", raw.control.is_some())] {
                if given {
                    self.note(field, "means nothing without a repository", "nothing here, or `repository`");
                }
            }
            let model = self.required("task.model", raw.model, "the name of a model, or `repository`");
            model.and_then(|model| self.model(model)).map(TensorModels::Packaged)
        };
        let batch_rows = match raw.batch_rows {
            Some(rows) => Some(self.batch_rows(rows)?),
            None => None,
        };
        Some(TaskConfig::Tensors { models: models?, batch_rows })
    }

    fn control(&mut self, control: Option<&str>) -> Option<Control> {
        match control {
            None | Some("none") => Some(Control::None),
            Some("explicit") => Some(Control::Explicit),
            Some(other) => self.wrong("task.control", format!("`{other}` is not known"), "none or explicit"),
        }
    }

    /// The repository is read, so that what it lacks is said before anything starts.
    fn repository(
        &mut self,
        dir: &Path,
        default: Option<String>,
        load: Option<Vec<String>>,
        control: Option<Control>,
    ) -> Option<Repository> {
        let dir = self.dir.join(dir);
        let found = match repository::scan(&dir) {
            Ok(found) => found,
            Err(error) => return self.unreadable("task.repository", &dir, &error, LAYOUT),
        };
        for name in &found.misnamed {
            self.note("task.repository", format!("{}/{name} cannot be a model's name", dir.display()), MODEL_NAME);
        }
        let known: Vec<&str> = found.models.keys().map(String::as_str).collect();
        // Nothing to load is something to say: then the directory may be filled later.
        if known.is_empty() && load.as_ref().is_none_or(|load| !load.is_empty()) {
            return self.wrong("task.repository", format!("{} has no model in it", dir.display()), LAYOUT);
        }
        let default = match default {
            Some(name) if !known.contains(&name.as_str()) => self.not_there("task.model", &name, &known),
            Some(name) => Some(Some(name)),
            None => Some(match known.as_slice() {
                [only] => Some((*only).to_owned()),
                _ => None,
            }),
        };
        let load = self.load(load, &known, control);
        if let (Some(Some(default)), Some(Load::These(these)), Some(Control::None)) = (&default, &load, control)
            && !these.contains(default)
        {
            self.note(
                "task.load",
                format!("leaves out `{default}`, which nothing loads later"),
                "it, or another model",
            );
        }
        Some(Repository { dir, default: default?, load: load?, control: control? })
    }

    fn load(&mut self, load: Option<Vec<String>>, known: &[&str], control: Option<Control>) -> Option<Load> {
        let Some(load) = load else { return Some(Load::All) };
        if load.is_empty() && control == Some(Control::None) {
            let expected = "at least one model, or `control: explicit`";
            return self.wrong("task.load", "is empty, and nothing is loaded later", expected);
        }
        let mut good = true;
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, name) in load.iter().enumerate() {
            *times.entry(name).or_default() += 1;
            if !known.contains(&name.as_str()) {
                self.not_there::<()>(&format!("task.load[{index}]"), name, known);
                good = false;
            }
        }
        for (name, _) in times.into_iter().filter(|(_, times)| *times > 1) {
            self.note("task.load", format!("names {name:?} more than once"), "each model once");
            good = false;
        }
        good.then_some(Load::These(load))
    }

    fn not_there<T>(&mut self, field: &str, name: &str, known: &[&str]) -> Option<T> {
        let expected = match known {
            [] => "a model of the repository, which has none".to_owned(),
            known => format!("a model of the repository: {}", known.join(", ")),
        };
        self.wrong(field, format!("{name:?} is not in the repository"), expected)
    }

    fn batch_rows(&mut self, rows: usize) -> Option<NonZeroUsize> {
        let good = NonZeroUsize::new(rows).filter(|rows| rows.get() <= MAX_BATCH_ROWS);
        if good.is_none() {
            self.note("task.batch_rows", format!("is {rows}"), format!("1 to {MAX_BATCH_ROWS}"));
        }
        good
    }

    fn model(&mut self, model: String) -> Option<String> {
        let expected = format!("the name of a directory among the models: {MODEL_NAME}");
        if is_model_name(&model) { Some(model) } else { self.wrong("task.model", "is not a model's name", expected) }
    }

    fn top(&mut self, top: usize) -> Option<usize> {
        let good = (1..=MAX_TOP).contains(&top);
        if good { Some(top) } else { self.wrong("task.top", format!("is {top}"), format!("1 to {MAX_TOP}")) }
    }

    fn knowledge(&mut self, file: &Path) -> Option<PathBuf> {
        let path = self.dir.join(file);
        let expected = "one passage a line: {id, title, text, as_of, source?}";
        match knowledge::check(&path) {
            Ok(()) => Some(path),
            Err(Error::Knowledge { mistakes, .. }) => {
                let file = path.display().to_string();
                self.mistakes.extend(mistakes.into_iter().map(|knowledge::Mistake { line, field, problem }| {
                    let file = if line == 0 { file.clone() } else { format!("{file}:{line}") };
                    Mistake { file, path: field, problem, expected: String::new() }
                }));
                None
            }
            Err(Error::Unreadable { source, .. }) => self.unreadable("task.knowledge", &path, &source, expected),
            Err(other) => self.wrong("task.knowledge", other.to_string(), expected),
        }
    }
}
