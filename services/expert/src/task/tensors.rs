//! `tensors`: the raw inputs and outputs of the model that answers under the expert's own name.

use std::sync::Arc;

use consilium_engine::Call;
use futures::{StreamExt, stream, stream::BoxStream};

use super::{Answer, Body, Context, Delta, Failure, Query, Task};
use crate::models::Models;

#[derive(Debug)]
pub(super) struct Tensors {
    models: Arc<Models>,
}

impl Tensors {
    /// Every model has raw inputs; a text model's are the token ids.
    pub(super) fn new(models: Arc<Models>) -> Tensors {
        Tensors { models }
    }

    async fn run(&self, query: Query, context: Context) -> Result<Delta, Failure> {
        let call = Call { deadline: context.deadline };
        let (_, output) = self.models.run(None, "", &query.tensors, call).await?;
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
