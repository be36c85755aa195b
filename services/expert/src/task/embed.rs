//! `embed`: a text's vector.

use std::sync::Arc;

use consilium_engine::Engine;
use futures::{StreamExt, stream, stream::BoxStream};

use super::{Answer, Body, Context, Delta, Encoder, Failure, Query, Task};
use crate::Error;

#[derive(Debug)]
pub(super) struct Embed {
    encoder: Encoder,
}

impl Embed {
    pub(super) fn new(engine: Engine) -> Result<Embed, Error> {
        Ok(Embed { encoder: Encoder::new(engine)? })
    }

    async fn embed(&self, query: &Query, context: Context) -> Result<Delta, Failure> {
        let encoded = self.encoder.encode(&query.text, context).await?;
        let answer = Answer {
            body: Body::Embedding(encoded.vector),
            sources: Vec::new(),
            confidence: None,
            truncated: encoded.truncated,
            knowledge_revision: None,
        };
        Ok(Delta::Done(answer, encoded.timings))
    }
}

impl Task for Embed {
    fn answer(self: Arc<Self>, query: Query, context: Context) -> BoxStream<'static, Result<Delta, Failure>> {
        stream::once(async move { self.embed(&query, context).await }).boxed()
    }
}
