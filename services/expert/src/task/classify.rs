//! `classify`: labels with probabilities, a set for each head of the model.

use std::sync::Arc;

use consilium_engine::{Call, Engine, Kind, Manifest, Output};
use futures::{StreamExt, stream, stream::BoxStream};

use super::{Answer, Body, Confidence, Context, Delta, Failure, Head, Label, Query, Task};
use crate::Error;

/// How far a head's probabilities may sum from 1: int8 and fp16 graphs round.
const SUM_TOLERANCE: f64 = 0.02;

#[derive(Debug)]
pub(super) struct Classify {
    engine: Engine,
    heads: Vec<Labels>,
}

/// An output of the model, and what its columns mean.
#[derive(Debug)]
pub(super) struct Labels {
    output: Arc<str>,
    names: Vec<Arc<str>>,
}

/// Every output that has labels; or why the model is no classifier.
pub(super) fn heads(manifest: &Manifest) -> Result<Vec<Labels>, &'static str> {
    if manifest.kind != Kind::Text {
        return Err("takes tensors; a classifier takes text");
    }
    let labelled = manifest.outputs.iter().filter_map(|output| {
        let names = manifest.labels.get(&output.name)?;
        let names = names.iter().map(|name| name.as_str().into()).collect();
        Some(Labels { output: output.name.as_str().into(), names })
    });
    let heads: Vec<Labels> = labelled.collect();
    if heads.is_empty() { Err("names no labels in its manifest") } else { Ok(heads) }
}

impl Classify {
    /// `Err` when the model takes no text or names no labels. Outputs without labels are left alone.
    pub(super) fn new(engine: Engine) -> Result<Classify, Error> {
        let heads = heads(engine.manifest()).map_err(|problem| Error::unfit(&engine, problem))?;
        Ok(Classify { engine, heads })
    }

    async fn classify(&self, query: &Query, context: Context) -> Result<Delta, Failure> {
        let output = self.engine.text(&query.text, Call { deadline: context.deadline }).await?;
        let heads: Vec<Head> =
            self.heads.iter().map(|labels| labels.read(&output.outputs)).collect::<Result<_, _>>()?;
        // The first head is what the expert was asked for; the others come along.
        let top = heads.first().and_then(|head| head.labels.first());
        let confidence = top.map(|label| Confidence { value: label.probability, calibrated: false });
        let answer = Answer {
            body: Body::Classification(heads),
            sources: Vec::new(),
            confidence,
            truncated: output.truncated,
            knowledge_revision: None,
        };
        Ok(Delta::Done(answer, output.timings.into()))
    }
}

impl Task for Classify {
    fn answer(self: Arc<Self>, query: Query, context: Context) -> BoxStream<'static, Result<Delta, Failure>> {
        stream::once(async move { self.classify(&query, context).await }).boxed()
    }
}

impl Labels {
    /// One head's labels, most probable first; of equal ones the first in the manifest.
    fn read(&self, outputs: &[Output]) -> Result<Head, Failure> {
        let wrong = |problem| Failure::output(&self.output, problem);
        let row = outputs.iter().find(|output| output.name == self.output).ok_or_else(|| wrong("is missing"))?;
        if row.values.len() != self.names.len() {
            return Err(wrong("has not one value for each label"));
        }
        let sum: f64 = row.values.iter().map(|&value| f64::from(value)).sum();
        let in_range = row.values.iter().all(|value| (0.0..=1.0).contains(value));
        if !in_range || (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(wrong("is not a distribution; the graph should end in a softmax"));
        }
        let mut labels: Vec<Label> = self
            .names
            .iter()
            .zip(&row.values)
            .map(|(name, &value)| Label { name: Arc::clone(name), probability: f64::from(value) })
            .collect();
        labels.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        Ok(Head { name: Arc::clone(&self.output), labels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[f32]) -> Result<Vec<(String, f64)>, Failure> {
        let labels = Labels { output: "mood".into(), names: vec!["calm".into(), "glad".into(), "sad".into()] };
        let head = labels.read(&[Output { name: "mood".into(), values: values.to_vec() }])?;
        Ok(head.labels.into_iter().map(|label| (label.name.to_string(), label.probability)).collect())
    }

    #[test]
    fn labels_come_most_probable_first() {
        let labels = read(&[0.25, 0.5, 0.25]).unwrap();
        assert_eq!(labels, [("glad".to_owned(), 0.5), ("calm".to_owned(), 0.25), ("sad".to_owned(), 0.25)]);
    }

    #[test]
    fn what_is_no_distribution_is_no_answer() {
        for values in [&[f32::NAN, 0.5, 0.5][..], &[3.0, -1.0, -1.0], &[0.5, 0.5], &[0.2, 0.2, 0.2], &[]] {
            assert!(matches!(read(values), Err(Failure::Output { .. })), "{values:?}");
        }
    }
}
