//! `retrieve`: the passages of the expert's knowledge that are most like the query, each with its best sentence.

use std::{path::Path, sync::Arc};

use consilium_engine::Engine;
use futures::{StreamExt, stream, stream::BoxStream};

use super::{Answer, Body, Confidence, Context, Delta, Encoder, Failure, Query, Task, Timings, encoder::Encoded};
use crate::{
    Error,
    knowledge::{Index, Knowledge},
    metrics::{Tally, VectorSource},
    spans,
};

#[derive(Debug)]
pub(super) struct Retrieve {
    encoder: Encoder,
    knowledge: Arc<Knowledge>,
    top: usize,
    tally: Arc<Tally>,
}

impl Retrieve {
    pub(super) async fn open(
        engine: Engine,
        knowledge: &Path,
        top: usize,
        tally: &Arc<Tally>,
    ) -> Result<Retrieve, Error> {
        let encoder = Encoder::new(engine)?;
        let knowledge = Arc::new(Knowledge::open(knowledge, encoder.clone(), Arc::clone(tally)).await?);
        Ok(Retrieve { encoder, knowledge, top, tally: Arc::clone(tally) })
    }

    async fn retrieve(&self, query: Query, context: Context) -> Result<Delta, Failure> {
        let encoded = self.vector(query, context).await?;
        // Taken once: passages and revision of one answer come from the same state, whatever is reloaded meanwhile.
        let index = self.knowledge.current();
        Ok(Delta::Done(self.found(&index, &encoded), encoded.timings))
    }

    async fn vector(&self, query: Query, context: Context) -> Result<Encoded, Failure> {
        match query.vector {
            // The gate's vector saves a run of the model. Of longer texts only the encoder can say whether they were cut.
            Some(vector) if self.encoder.accept(&vector) && self.encoder.reads_whole(&query.text) => {
                self.tally.vector(VectorSource::Router);
                Ok(Encoded { vector, truncated: false, timings: Timings::default() })
            }
            _ => {
                let encoded = self.encoder.encode(&query.text, context).await?;
                self.tally.vector(VectorSource::Model);
                Ok(encoded)
            }
        }
    }

    fn found(&self, index: &Index, encoded: &Encoded) -> Answer {
        let passages = spans::search().in_scope(|| index.search(&encoded.vector.values, self.top));
        let mut sources = Vec::new();
        for passage in &passages {
            if !sources.contains(&passage.source) {
                sources.push(passage.source.clone());
            }
        }
        let best = passages.first().map_or(0.0, |passage| passage.score.clamp(0.0, 1.0));
        Answer {
            body: Body::Passages(passages),
            sources,
            confidence: Some(Confidence { value: best, calibrated: false }),
            truncated: encoded.truncated,
            knowledge_revision: Some(index.revision()),
        }
    }
}

impl Task for Retrieve {
    fn answer(self: Arc<Self>, query: Query, context: Context) -> BoxStream<'static, Result<Delta, Failure>> {
        stream::once(async move { self.retrieve(query, context).await }).boxed()
    }

    fn knowledge(&self) -> Option<&Arc<Knowledge>> {
        Some(&self.knowledge)
    }
}
