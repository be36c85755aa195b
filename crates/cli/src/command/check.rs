//! `consilium check`: every mistake in a mesh's files, without starting anything.

use std::{collections::BTreeMap, path::Path};

use consilium_expert::{Needs, Repository, TaskKind};
use consilium_mesh::config;
use serde::Serialize;

use super::Exit;
use crate::{
    args,
    definition::{self, Draft},
    error::Error,
    model::{self, Model},
    page::Page,
    progress::Progress,
    question, render,
};

/// What was looked at, and what is wrong with it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) mesh: String,
    pub(crate) experts: Vec<String>,
    pub(crate) models: Vec<String>,
    pub(crate) rules: usize,
    pub(crate) mistakes: Vec<Mistake>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Mistake {
    pub(crate) file: String,
    pub(crate) path: String,
    pub(crate) problem: String,
    pub(crate) expected: String,
}

pub(crate) fn run(args: args::Check, page: &mut Page<'_>) -> Result<Exit, Error> {
    let waiting = Progress::spinner_only().step("checking");
    let report = examine(&args.mesh, args.set);
    drop(waiting);
    if args.json {
        page.json(&report)?;
    } else {
        render::check::report(page, &report)?;
    }
    Ok(if report.mistakes.is_empty() { Exit::Done } else { Exit::Wrong })
}

/// Files first, then what they mean together, then models and questions as far as it is known which.
fn examine(mesh: &Path, set: Vec<String>) -> Report {
    let draft = Draft::read(mesh, set);
    let mut mistakes: Vec<Mistake> = draft.mistakes.iter().cloned().map(Mistake::from).collect();
    let models = models(&draft, &mut mistakes);
    let questions = definition::questions(&draft.file);
    if questions.exists() && draft.mistakes.is_empty() {
        let wrong = question::load(&questions, Some(&draft.names())).err().unwrap_or_default();
        mistakes.extend(wrong.into_iter().map(Mistake::from));
    }
    Report {
        mesh: draft.config.as_ref().map(|config| config.name.clone()).unwrap_or_default(),
        experts: draft.names().into_iter().map(str::to_owned).collect(),
        models,
        rules: draft.config.as_ref().map_or(0, |config| config.gate.rules.len()),
        mistakes,
    }
}

/// Each model once, with every place that names it. Returns the names of those that are right.
fn models(draft: &Draft, mistakes: &mut Vec<Mistake>) -> Vec<String> {
    let Some(config) = &draft.config else { return Vec::new() };
    let mesh = draft.file.display().to_string();
    let mut uses = vec![Use { file: mesh, path: "gate.encoder", model: &config.gate.encoder, kind: TaskKind::Embed }];
    uses.extend(draft.experts.iter().filter_map(|(file, expert)| {
        let model = expert.task.packaged()?;
        Some(Use { file: file.display().to_string(), path: "task.model", model, kind: expert.task.kind() })
    }));
    let mut inspected: BTreeMap<&str, Model> = BTreeMap::new();
    for one in &uses {
        let model = inspected.entry(one.model).or_insert_with(|| model::inspect(&config.models.join(one.model)));
        mistakes.extend(one.mistakes(model));
    }
    let mut right: Vec<String> =
        inspected.into_iter().filter(|(_, model)| model.verified).map(|(name, _)| name.to_owned()).collect();
    for (file, expert) in &draft.experts {
        if let Needs::Repository(repository) = expert.task.needs() {
            right.extend(of_repository(file, &expert.name, repository, mistakes));
        }
    }
    right
}

/// The models that an expert would load from its own repository, as far as shows without running them. Returns the names
/// of those that are right. That there is a repository was found out with the expert's file.
fn of_repository(file: &Path, expert: &str, repository: &Repository, mistakes: &mut Vec<Mistake>) -> Vec<String> {
    let mut right = Vec::new();
    for (name, dir) in repository.at_start().unwrap_or_default() {
        let problems = consilium_engine::inspect_bare(&dir).problems;
        if problems.is_empty() {
            right.push(format!("{expert}.{name}"));
        }
        mistakes.extend(problems.into_iter().map(|problem| Mistake {
            file: file.display().to_string(),
            path: "task.repository".to_owned(),
            problem: format!("{}: {problem}", dir.display()),
            expected: "an ONNX model with tensors in and out".to_owned(),
        }));
    }
    right
}

/// A place that names a model.
struct Use<'a> {
    file: String,
    path: &'static str,
    model: &'a str,
    kind: TaskKind,
}

impl Use<'_> {
    fn mistakes(&self, model: &Model) -> Vec<Mistake> {
        let mistake = |problem: String, expected: &str| Mistake {
            file: self.file.clone(),
            path: self.path.to_owned(),
            problem,
            expected: expected.to_owned(),
        };
        let dir = model.directory.display();
        if model.card.is_none() && !model.directory.is_dir() {
            return vec![mistake(format!("{dir} is no directory"), "the name of a model that was built: `make setup`")];
        }
        let expected = "a directory whose files are what its manifest.json says";
        let mut mistakes: Vec<Mistake> =
            model.problems.iter().map(|problem| mistake(format!("{dir}: {problem}"), expected)).collect();
        if let Some(problem) = model.manifest.as_ref().and_then(|manifest| self.kind.fits(manifest).err()) {
            mistakes.push(mistake(format!("{} {problem}", self.model), &format!("a model for {}", self.kind.as_str())));
        }
        mistakes
    }
}

impl From<config::Mistake> for Mistake {
    fn from(mistake: config::Mistake) -> Self {
        let config::Mistake { file, path, problem, expected } = mistake;
        Self { file, path, problem, expected }
    }
}
