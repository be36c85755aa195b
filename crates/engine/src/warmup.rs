//! The first runs of a model: one of every size that it will see, so that memory is there, kernels are chosen, and the
//! cost of a run is known before the first caller waits for one. And the runs that show whether requests may run together.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use tokio::time::Instant;

use crate::batch;
use crate::made_up::{self, Sizes};
use crate::manifest::{Manifest, TokenizerEntry};
use crate::prove::{self, Verdict};
use crate::rows;
use crate::session::{RunError, Session, Stop};
use crate::threads::Threads;
use consilium_tensor::Tensor;

/// No more repetitions after this. A text model is always run at all sizes once: it takes about half a second for a
/// 22-million-parameter encoder on two cores.
const BUDGET: Duration = Duration::from_millis(700);

/// Repetitions of each size while the budget lasts; the fastest counts, since noise only adds.
const REPEATS: usize = 3;

/// A model of kind `tensors` is run at no larger size after this: it may be any model.
const LARGER_UNTIL: Duration = Duration::from_secs(3);

/// A model of kind `tensors` may even loop for ever on input that means nothing to it. After this its runs are ended: they
/// hold cores that others wait for. For the sizes, and for the further sessions.
const LIMIT: Duration = Duration::from_secs(10);

/// As `LIMIT`, for the runs that decide whether requests run together. Clients see that, so it should depend on the model
/// and not on the machine: it is forty rows at most, and enough for nearly a second each.
const DECIDED_WITHIN: Duration = Duration::from_secs(30);

/// What the first runs have shown.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Warmth {
    /// `(units, milliseconds)`, by rising units.
    pub(crate) points: Vec<(usize, f64)>,
    /// Requests of raw tensors may run together.
    pub(crate) joins: bool,
}

/// Warms up all sessions of a model; measures the first. `Err`: a text model that does not run. One of kind `tensors`
/// may refuse made-up input, since only the caller knows what sizes and values it takes.
pub(crate) fn run<S: Session>(sessions: &mut [S], manifest: &Manifest, batch_units: usize) -> Result<Warmth, RunError> {
    match &manifest.tokenizer {
        Some(tokenizer) => text(sessions, manifest, tokenizer, batch_units),
        None => Ok(tensors(sessions, manifest, batch_units)),
    }
}

fn text<S: Session>(
    sessions: &mut [S],
    manifest: &Manifest,
    tokenizer: &TokenizerEntry,
    batch_units: usize,
) -> Result<Warmth, RunError> {
    let stop = Stop::default();
    let sizes = token_sizes(manifest, tokenizer, batch_units);
    let started = Instant::now();
    let mut points = Vec::new();
    for (at, session) in sessions.iter_mut().enumerate() {
        // The largest size is enough for the second executor of a model that was measured on the first.
        let sizes = if at == 0 { &sizes[..] } else { sizes.split_at(sizes.len().saturating_sub(1)).1 };
        for (units, inputs) in sizes {
            let took = fastest(session, inputs, started, &stop)?;
            if at == 0 {
                points.push((*units, millis(took)));
            }
        }
    }
    // A text model's outputs are rows by its manifest, and it is the recipe that proves it.
    Ok(Warmth { points, joins: manifest.batches() })
}

fn tensors<S: Session>(sessions: &mut [S], manifest: &Manifest, batch_rows: usize) -> Warmth {
    let mut warmth = Warmth::default();
    if let Err(error) = stages(sessions, manifest, batch_rows, &mut warmth) {
        tracing::warn!(model = manifest.name, %error, "warm-up ended early: cannot start a thread");
    }
    warmth
}

/// Each with a limit of its own, and what one has found stays whatever becomes of the next.
fn stages<S: Session>(
    sessions: &mut [S],
    manifest: &Manifest,
    batch_rows: usize,
    warmth: &mut Warmth,
) -> io::Result<()> {
    let Some((first, others)) = sessions.split_first_mut() else { return Ok(()) };
    warmth.points = within(LIMIT, |stop| sweep(first, manifest, batch_rows, stop))?;
    let Some((largest, _)) = warmth.points.last() else { return Ok(()) };
    if manifest.batches() {
        warmth.joins = within(DECIDED_WITHIN, |stop| joins(first, manifest, batch_rows, stop))?;
    }
    within(LIMIT, |stop| touch(others, manifest, *largest, stop))
}

fn within<T>(limit: Duration, stage: impl FnOnce(&Stop) -> T) -> io::Result<T> {
    let (stop, _watch) = Watch::start(limit)?;
    Ok(stage(&stop))
}

/// Runs 1, 2, 4, … rows, up to a batch, as long as that is quick and the model takes them.
fn sweep(session: &mut dyn Session, manifest: &Manifest, batch_rows: usize, stop: &Stop) -> Vec<(usize, f64)> {
    let started = Instant::now();
    let mut points = Vec::new();
    for rows in row_counts(manifest, batch_rows) {
        if started.elapsed() >= LARGER_UNTIL {
            break;
        }
        let inputs = blank(manifest, rows).ok_or_else(|| RunError(made_up::TOO_LARGE.to_owned()));
        match inputs.and_then(|inputs| fastest(session, &inputs, started, stop)) {
            Ok(took) => points.push((rows, millis(took))),
            Err(error) => {
                log_end(&manifest.name, rows, &error, stop);
                break;
            }
        }
    }
    points
}

fn joins(session: &mut dyn Session, manifest: &Manifest, batch_rows: usize, stop: &Stop) -> bool {
    let model = &manifest.name;
    match prove::rows_stay_apart(session, manifest, batch_rows, stop) {
        Verdict::Apart => return true,
        Verdict::Mixed(output) => {
            tracing::info!(
                model,
                output,
                "requests run one by one: made-up rows came out otherwise together than alone"
            );
        }
        Verdict::Unknown(reason) => {
            tracing::info!(
                model,
                reason,
                "requests run one by one: made-up rows do not show that they may share a run"
            );
        }
    }
    false
}

/// Runs the largest size that was measured on the sessions that were not.
fn touch<S: Session>(sessions: &mut [S], manifest: &Manifest, rows: usize, stop: &Stop) {
    let Some(inputs) = blank(manifest, rows) else { return };
    for session in sessions {
        if let Err(error) = session.run(&inputs, stop) {
            return log_end(&manifest.name, rows, &error, stop);
        }
    }
}

fn log_end(model: &str, rows: usize, error: &RunError, stop: &Stop) {
    let reason = if stop.is_raised() { "took too long".to_owned() } else { error.to_string() };
    tracing::info!(model, rows, reason, "warm-up ended early: the model did not run on so many blank rows");
}

fn fastest(session: &mut dyn Session, inputs: &[Tensor], started: Instant, stop: &Stop) -> Result<Duration, RunError> {
    let mut fastest = Duration::MAX;
    for repeat in 0..REPEATS {
        if repeat > 0 && started.elapsed() > BUDGET {
            break;
        }
        let run = Instant::now();
        session.run(inputs, stop)?;
        fastest = fastest.min(run.elapsed());
    }
    Ok(fastest)
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn blank(manifest: &Manifest, rows: usize) -> Option<Vec<Tensor>> {
    made_up::blank(&manifest.inputs, Sizes { rows, inner: 1 })
}

fn row_counts(manifest: &Manifest, batch_rows: usize) -> impl Iterator<Item = usize> {
    let most = if manifest.batches() { batch_rows.max(1) } else { 1 };
    let steps = std::iter::successors(Some(1usize), |rows| rows.checked_mul(2)).take_while(move |step| *step < most);
    steps.chain([most])
}

/// Padding of every bucket's length, and a full batch of the longest, with their tokens.
fn token_sizes(manifest: &Manifest, tokenizer: &TokenizerEntry, batch_units: usize) -> Vec<(usize, Vec<Tensor>)> {
    let longest = tokenizer.max_tokens;
    let singles = batch::buckets(longest).map(|length| (1, length));
    let full = Some((batch_units / longest, longest)).filter(|(rows, _)| *rows > 1);
    singles
        .chain(full)
        .map(|(rows, length)| {
            let ids = vec![tokenizer.pad_id; length];
            (rows * length, rows::pad(&vec![&ids[..]; rows], tokenizer, &manifest.inputs))
        })
        .collect()
}

/// Raises a stop when time is up, unless it is dropped before.
struct Watch {
    /// Dropped first: it tells the thread, for which the next field waits.
    _over: Sender<()>,
    _thread: Threads,
}

impl Watch {
    fn start(limit: Duration) -> io::Result<(Arc<Stop>, Self)> {
        let stop = Arc::new(Stop::default());
        let (over, told) = bounded::<()>(0);
        let thread = Threads::default();
        let raised = Arc::clone(&stop);
        thread.start("warm-up-watch".to_owned(), move || {
            if told.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                raised.raise();
            }
        })?;
        Ok((stop, Self { _over: over, _thread: thread }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Gives `y` as wide as asked for, notes how many rows it got, and fails beyond a number of them.
    struct Counting {
        rows: Vec<i64>,
        most: i64,
    }

    impl Session for Counting {
        fn run(&mut self, inputs: &[Tensor], _stop: &Stop) -> Result<Vec<Tensor>, RunError> {
            let rows = inputs[0].shape.first().copied().unwrap_or(1);
            self.rows.push(rows);
            if rows > self.most {
                return Err(RunError("too many".to_owned()));
            }
            // Of a tensors model the first element of every row.
            let width = inputs[0].elements().unwrap() / rows as usize;
            let y = inputs[0]
                .to_fp32()
                .map_or_else(|| vec![0.0; rows as usize], |x| x.into_iter().step_by(width).collect());
            Ok(vec![Tensor::fp32("y", vec![rows], &y)])
        }
    }

    fn manifest(kind: &str, input: &serde_json::Value) -> Manifest {
        let mut manifest = json!({
            "schema": 1, "name": "m", "version": "1", "kind": kind, "model": "f",
            "files": [{"path": "f", "size": 1, "sha256": "a".repeat(64)}],
            "inputs": [input], "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
            "licence": "Apache-2.0", "source": "made for tests",
        });
        if kind == "text" {
            manifest["tokenizer"] = json!({"file": "f", "max_tokens": 100, "vocab_size": 9, "pad_id": 0});
        }
        Manifest::parse(manifest.to_string().as_bytes()).unwrap()
    }

    fn tensors_of(shape: &[i64]) -> Manifest {
        manifest("tensors", &json!({"name": "x", "datatype": "FP32", "shape": shape}))
    }

    fn warm(manifest: &Manifest, batch_units: usize, most: i64) -> (Result<Warmth, RunError>, Vec<Counting>) {
        let mut sessions = vec![Counting { rows: vec![], most }, Counting { rows: vec![], most }];
        (run(&mut sessions, manifest, batch_units), sessions)
    }

    fn units(warmth: &Warmth) -> Vec<usize> {
        warmth.points.iter().map(|(units, _)| *units).collect()
    }

    #[test]
    fn a_text_model_is_run_at_every_bucket_and_at_a_full_batch() {
        let manifest = manifest("text", &json!({"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]}));
        let (warmth, sessions) = warm(&manifest, 1024, 10);
        let warmth = warmth.unwrap();
        assert_eq!((units(&warmth), warmth.joins), (vec![8, 16, 32, 64, 100, 1000], true));
        assert!(sessions[1].rows.iter().all(|rows| *rows == 10), "{:?}", sessions[1].rows);
        assert_eq!(units(&warm(&manifest, 150, 10).0.unwrap()), [8, 16, 32, 64, 100]);
        assert!(warm(&manifest, 1024, 0).0.is_err());
    }

    #[test]
    fn a_tensors_model_is_run_by_rows_if_it_has_any() {
        let (warmth, sessions) = warm(&tensors_of(&[-1, 2]), 6, 6);
        let warmth = warmth.unwrap();
        assert_eq!((units(&warmth), warmth.joins), (vec![1, 2, 4, 6], true));
        assert_eq!(sessions[1].rows, [6]);
        let warmth = warm(&tensors_of(&[3]), 6, 6).0.unwrap();
        assert_eq!((units(&warmth), warmth.joins), (vec![1], false));
    }

    #[test]
    fn a_tensors_model_that_runs_one_row_and_no_more_keeps_what_was_measured() {
        for batch_rows in [2, 6] {
            let (warmth, sessions) = warm(&tensors_of(&[-1, 2]), batch_rows, 1);
            let warmth = warmth.unwrap();
            assert_eq!((units(&warmth), warmth.joins), (vec![1], false));
            assert_eq!(sessions[1].rows, [1]);
        }
    }

    #[test]
    fn what_further_sessions_do_changes_nothing_of_what_clients_see() {
        let mut sessions = [6, 0].map(|most| Counting { rows: vec![], most });
        let warmth = run(&mut sessions, &tensors_of(&[-1, 2]), 6).unwrap();
        assert_eq!((units(&warmth), warmth.joins), (vec![1, 2, 4, 6], true));
        assert_eq!(sessions[1].rows, [6]);
    }

    /// Runs one row, and has no time for more while the sizes are tried.
    struct Slow {
        inner: Counting,
        slow: bool,
    }

    impl Session for Slow {
        fn run(&mut self, inputs: &[Tensor], stop: &Stop) -> Result<Vec<Tensor>, RunError> {
            if self.slow && inputs[0].shape[0] > 1 {
                self.slow = false;
                stop.raise();
            }
            if stop.is_raised() {
                return Err(RunError("terminated".to_owned()));
            }
            self.inner.run(inputs, stop)
        }
    }

    #[test]
    fn requests_are_joined_on_a_slow_machine_as_on_a_fast_one() {
        let mut sessions = [Slow { inner: Counting { rows: vec![], most: 6 }, slow: true }];
        let warmth = run(&mut sessions, &tensors_of(&[-1, 2]), 6).unwrap();
        assert_eq!((units(&warmth), warmth.joins), (vec![1], true));
    }

    #[test]
    fn a_tensors_model_that_does_not_run_on_made_up_input_is_served_all_the_same() {
        assert_eq!(warm(&tensors_of(&[-1, 2]), 6, 0).0.unwrap(), Warmth::default());
        // Neither does one whose inputs are too large to be made up.
        let (warmth, sessions) = warm(&tensors_of(&[-1, 1 << 40]), 6, 6);
        assert_eq!(warmth.unwrap(), Warmth::default());
        assert!(sessions.iter().all(|session| session.rows.is_empty()));
    }

    #[test]
    fn a_watch_raises_its_stop_and_ends_when_it_is_dropped() {
        let (stop, watch) = Watch::start(Duration::ZERO).unwrap();
        let (tell, told) = bounded(1);
        stop.on_raise(move || tell.send(()).unwrap());
        told.recv().unwrap();
        drop(watch);
        let (stop, watch) = Watch::start(Duration::from_hours(1)).unwrap();
        drop(watch);
        assert!(!stop.is_raised());
    }
}
