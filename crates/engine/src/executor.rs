//! The thread that owns a session: it waits for work, for cores, forms a batch, runs it, and answers every entry.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use tracing::Span;

use crate::batch::Shape;
use crate::cores::Cores;
use crate::error::Error;
use crate::manifest::Manifest;
use crate::metrics::Tally;
use crate::queue::{Batch, Entry, Input, Queue, Ran};
use crate::rows;
use crate::session::{RunError, Session, Stop};
use crate::spans;
use crate::statistics::Runs;
use consilium_tensor::Tensor;

/// One session and what it needs to run.
pub(crate) struct Executor {
    pub(crate) session: Box<dyn Session>,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) cores: Arc<Cores>,
    /// Threads that one run of the session keeps busy.
    pub(crate) threads: usize,
    pub(crate) runs: Arc<Runs>,
    pub(crate) tally: Arc<Tally>,
}

impl Executor {
    /// Runs batches until the queue is closed and empty.
    pub(crate) fn work(mut self, queue: &Queue) {
        let cores = Arc::clone(&self.cores);
        while queue.wait() {
            let permit = cores.acquire(self.threads);
            // Only now is the batch formed: everything that came while there was no core to run it may join.
            let now = Instant::now();
            let Some(mut batch) = queue.take(now) else {
                continue;
            };
            let span = self.begin(&mut batch, now);
            let answers = self.run(&batch, &span);
            drop(permit);
            // As long as it is held, the span of the request that it belongs to cannot end.
            drop(span);
            queue.finish(&batch);
            for (entry, answer) in batch.entries.into_iter().zip(answers) {
                entry.slot.answer(answer);
            }
        }
    }

    /// The waiting of the entries is over. Gives the span of what begins.
    fn begin(&self, batch: &mut Batch, now: Instant) -> Span {
        for entry in &mut batch.entries {
            entry.slot.trail.is_taken();
            self.tally.queued(now.saturating_duration_since(entry.since), entry.slot.trail.request());
        }
        let entries = &batch.entries;
        let shape = Shape::of(entries.iter().map(|entry| &entry.extent));
        spans::batch(entries.iter().map(|entry| entry.slot.trail.request()), &self.manifest, shape)
    }

    /// One answer per entry, in order. A joined batch that fails is run again one by one, so that one caller's bad
    /// input does not fail the others that happened to wait beside it.
    fn run(&mut self, batch: &Batch, span: &Span) -> Vec<Result<Ran, Error>> {
        let started = Instant::now();
        let entries: Vec<&Entry> = batch.entries.iter().collect();
        match self.run_together(&entries, &batch.stop) {
            Ok(outputs) => {
                let took = started.elapsed();
                self.ran(&entries, took, span);
                let answers = entries.iter().zip(outputs);
                answers.map(|(entry, outputs)| Ok(answer(entry, outputs, started, took, entries.len()))).collect()
            }
            Err(_) if entries.len() > 1 && !batch.stop.is_raised() => {
                spans::failed(span);
                entries.iter().map(|entry| self.run_alone(entry, &batch.stop, span)).collect()
            }
            Err(error) => {
                spans::failed(span);
                entries.iter().map(|_| Err(Error::failed(error.to_string()))).collect()
            }
        }
    }

    fn run_alone(&mut self, entry: &Entry, stop: &Stop, span: &Span) -> Result<Ran, Error> {
        let started = Instant::now();
        if entry.slot.is_abandoned() || entry.slot.deadline <= started {
            return Err(Error::DeadlineExceeded);
        }
        let mut outputs = self.run_together(&[entry], stop).map_err(|error| Error::failed(error.to_string()))?;
        let (outputs, took) = (outputs.pop().unwrap_or_default(), started.elapsed());
        self.ran(&[entry], took, span);
        Ok(answer(entry, outputs, started, took, 1))
    }

    /// These have run together, to their end.
    fn ran(&self, entries: &[&Entry], took: Duration, span: &Span) {
        let shape = Shape::of(entries.iter().map(|entry| &entry.extent));
        self.runs.count(shape.rows, took);
        self.tally.ran(shape, took, span);
    }

    /// The outputs of each entry, in order.
    fn run_together(&mut self, entries: &[&Entry], stop: &Stop) -> Result<Vec<Vec<Tensor>>, RunError> {
        let inputs = inputs(entries, &self.manifest);
        let outputs = self.guarded(&inputs, stop)?;
        // Alone, everything is its own, whatever an output's first dimension means.
        if entries.len() == 1 {
            return Ok(vec![outputs]);
        }
        let rows: Vec<usize> = entries.iter().map(|entry| entry.extent.rows).collect();
        rows::split(&outputs, &rows)
            .ok_or_else(|| RunError("an output does not have the rows of the inputs".to_owned()))
    }

    /// A panic inside the session is this run's failure, not the thread's end.
    fn guarded(&mut self, inputs: &[Tensor], stop: &Stop) -> Result<Vec<Tensor>, RunError> {
        catch_unwind(AssertUnwindSafe(|| self.session.run(inputs, stop)))
            .unwrap_or_else(|_| Err(RunError("the session panicked".to_owned())))
    }
}

fn inputs(entries: &[&Entry], manifest: &Manifest) -> Vec<Tensor> {
    let sequences: Vec<&[u32]> = entries.iter().filter_map(|entry| tokens(&entry.input)).collect();
    match &manifest.tokenizer {
        Some(tokenizer) if !sequences.is_empty() => rows::pad(&sequences, tokenizer, &manifest.inputs),
        _ => rows::join(&entries.iter().filter_map(|entry| tensors(&entry.input)).collect::<Vec<_>>()),
    }
}

fn tokens(input: &Input) -> Option<&[u32]> {
    if let Input::Tokens(ids) = input { Some(ids) } else { None }
}

fn tensors(input: &Input) -> Option<&[Tensor]> {
    if let Input::Tensors(tensors) = input { Some(tensors) } else { None }
}

fn answer(entry: &Entry, outputs: Vec<Tensor>, started: Instant, took: Duration, batch: usize) -> Ran {
    Ran {
        outputs,
        tokenizing: entry.slot.tokenizing,
        units: entry.extent.units(),
        waited: started.saturating_duration_since(entry.since),
        took,
        batch,
    }
}
