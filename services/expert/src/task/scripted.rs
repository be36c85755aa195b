//! A task that does what a test tells it to. For tests of everything around tasks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::Semaphore;

use super::{Answer, Body, Context, Delta, Failure, Query, Task, Timings, Vector};

/// Says its pieces of text, then answers once it is released.
#[derive(Debug)]
pub(crate) struct Scripted {
    texts: Vec<&'static str>,
    /// One permit for each call that has begun.
    pub(crate) begun: Semaphore,
    /// One permit for each call that may end.
    pub(crate) released: Semaphore,
    pub(crate) abandoned: AtomicBool,
}

impl Scripted {
    pub(crate) fn new(texts: &[&'static str]) -> Arc<Scripted> {
        Arc::new(Scripted {
            texts: texts.to_vec(),
            begun: Semaphore::new(0),
            released: Semaphore::new(0),
            abandoned: AtomicBool::new(false),
        })
    }
}

impl Task for Scripted {
    fn answer(self: Arc<Self>, _query: Query, _context: Context) -> BoxStream<'static, Result<Delta, Failure>> {
        let texts = stream::iter(self.texts.clone()).map(|text| Ok(Delta::Text(text.to_owned())));
        let done = async move {
            let mut unfinished = Unfinished { task: self, finished: false };
            unfinished.task.begun.add_permits(1);
            if let Ok(permit) = unfinished.task.released.acquire().await {
                permit.forget();
            }
            unfinished.finished = true;
            let vector = Vector { model_digest: "scripted".into(), values: vec![1.0] };
            let answer = Answer {
                body: Body::Embedding(vector),
                sources: Vec::new(),
                confidence: None,
                truncated: false,
                knowledge_revision: None,
            };
            Ok(Delta::Done(answer, Timings::default()))
        };
        texts.chain(stream::once(done)).boxed()
    }
}

struct Unfinished {
    task: Arc<Scripted>,
    finished: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.task.abandoned.fetch_or(!self.finished, Ordering::SeqCst);
    }
}
