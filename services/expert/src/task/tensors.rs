//! `tensors`: the model's raw inputs and outputs.

use std::sync::Arc;

use consilium_engine::{Call, Engine};
use futures::{StreamExt, stream, stream::BoxStream};

use super::{Answer, Body, Context, Delta, Failure, Query, Task};

#[derive(Debug)]
pub(super) struct Tensors {
    engine: Engine,
}

impl Tensors {
    /// Every model has raw inputs; a text model's are the token ids.
    pub(super) fn new(engine: Engine) -> Tensors {
        Tensors { engine }
    }

    async fn run(&self, query: Query, context: Context) -> Result<Delta, Failure> {
        let output = self.engine.tensors(query.tensors, Call { deadline: context.deadline }).await?;
        let answer = Answer {
            body: Body::Tensors(output.tensors),
            sources: Vec::new(),
            confidence: None,
            truncated: false,
            knowledge_revision: None,
        };
        Ok(Delta::Done(answer, output.timings.into()))
    }
}

impl Task for Tensors {
    fn answer(self: Arc<Self>, query: Query, context: Context) -> BoxStream<'static, Result<Delta, Failure>> {
        stream::once(async move { self.run(query, context).await }).boxed()
    }
}
