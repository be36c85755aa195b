//! What a client's model name stands for, and what is told of every model without running it.

use consilium_mesh::inference::{Model, Readiness, index_entry, text_model};
use consilium_proto::inference::{ModelStatistics, repository_index_response::ModelIndex};

use super::Inference;
use crate::{
    Reads, Unserved,
    models::{Served, control::Control},
    server::Ready,
    status::Refused,
};

/// What answers under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named<'a> {
    /// The expert itself: texts in, answers out.
    Texts,
    /// One of its raw models, `None` for the default one.
    Raw(Option<&'a str>),
}

/// A line of the index under the name that clients use.
pub(super) struct Line {
    name: String,
    version: String,
    pub(super) state: Readiness,
}

impl Line {
    pub(super) fn entry(&self) -> ModelIndex {
        index_entry(&self.name, &self.version, &self.state)
    }
}

impl Inference {
    /// `<expert>` or `<expert>.<model>`; the expert's name has no dot in it.
    pub(super) fn named<'a>(&self, name: &'a str) -> Result<Named<'a>, Unserved> {
        let rest = name.strip_prefix(self.identity.expert.as_str()).ok_or(Unserved::Unknown)?;
        match (rest.strip_prefix('.'), self.identity.reads) {
            (Some(model), _) => Ok(Named::Raw(Some(model))),
            (None, _) if !rest.is_empty() => Err(Unserved::Unknown),
            (None, Reads::Text) => Ok(Named::Texts),
            (None, Reads::Tensors) => Ok(Named::Raw(None)),
        }
    }

    /// The version of the model of texts. Clients read it as an integer.
    pub(super) fn text_version(&self) -> &str {
        let version = self.identity.version.as_str();
        if version.parse::<i64>().is_ok_and(|number| number >= 0) { version } else { "1" }
    }

    pub(super) fn check_text_version(&self, asked: &str) -> Result<(), Unserved> {
        let in_use = self.text_version();
        if asked.is_empty() || asked == in_use { Ok(()) } else { Err(Unserved::Version { in_use: in_use.to_owned() }) }
    }

    pub(super) fn model(&self, name: &str, version: &str) -> Result<Model, Refused> {
        let ready = self.ready()?;
        match self.named(name)? {
            Named::Texts => {
                self.check_text_version(version)?;
                Ok(text_model(name, self.text_version()))
            }
            Named::Raw(model) => Ok(ready.models.get(model, version)?.model(name)),
        }
    }

    /// Of the model `name`, or of all if that is empty.
    pub(super) fn statistics(&self, name: &str, version: &str) -> Result<Vec<ModelStatistics>, Refused> {
        let ready = self.ready()?;
        if name.is_empty() {
            // A default model counts once, under its own name.
            let raw = ready.models.serving();
            let raw = raw.iter().map(|served| raw_statistics(&self.raw_name(&served.name), served));
            return Ok(self.has_texts().then(|| self.text_statistics(ready)).into_iter().chain(raw).collect());
        }
        match self.named(name)? {
            Named::Texts => {
                self.check_text_version(version)?;
                Ok(vec![self.text_statistics(ready)])
            }
            Named::Raw(model) => Ok(vec![raw_statistics(name, &*ready.models.get(model, version)?)]),
        }
    }

    /// Every name there is; a default model has two.
    pub(super) async fn index(&self) -> Result<Vec<Line>, Refused> {
        let ready = self.ready()?;
        let expert = &self.identity.expert;
        let mut lines = Vec::new();
        if self.has_texts() {
            let version = self.text_version().to_owned();
            lines.push(Line { name: expert.clone(), version, state: Readiness::Ready });
        }
        let raw = ready.models.index(ready.control.is_some()).await;
        let default = ready.models.default_model().filter(|_| !self.has_texts());
        let named_twice = raw.iter().filter(|line| Some(line.model.as_str()) == default);
        lines.extend(named_twice.cloned().map(|line| Line {
            name: expert.clone(),
            version: line.version,
            state: line.state,
        }));
        lines.extend(raw.into_iter().map(|line| Line {
            name: self.raw_name(&line.model),
            version: line.version,
            state: line.state,
        }));
        Ok(lines)
    }

    /// What loads and unloads the model `name`, and what that is called there.
    pub(super) fn control<'a>(&'a self, name: &'a str) -> Result<(&'a Control, &'a str), Refused> {
        let ready = self.ready()?;
        let model = match self.named(name)? {
            Named::Texts => None,
            Named::Raw(Some(model)) => Some(model),
            Named::Raw(None) => Some(ready.models.default_model().ok_or(Unserved::NoDefault)?),
        };
        match (model, &ready.control) {
            (Some(model), Some(control)) => Ok((control, model)),
            _ if ready.models.are_packaged() => {
                Err(Refused::ControlOff("its model is part of the expert's version: a new model is a new version"))
            }
            _ => Err(Refused::ControlOff(
                "loading and unloading are off: `control: explicit` in expert.yaml allows them",
            )),
        }
    }

    fn has_texts(&self) -> bool {
        self.identity.reads == Reads::Text
    }

    fn raw_name(&self, model: &str) -> String {
        format!("{}.{model}", self.identity.expert)
    }

    fn text_statistics(&self, ready: &Ready) -> ModelStatistics {
        ready.texts.message(&self.identity.expert, self.text_version(), &[])
    }
}

fn raw_statistics(name: &str, served: &Served) -> ModelStatistics {
    let batches = served.engine.statistics().batches;
    let batches: Vec<_> = batches.iter().map(|batch| (batch.size as u64, batch.count, batch.took)).collect();
    served.statistics.message(name, &served.version, &batches)
}
