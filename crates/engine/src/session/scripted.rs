//! A [`Session`] that follows a script instead of a model: a run of `b` units takes `a + c·b`, or as long as a test holds
//! it. What it answers tells whose rows it saw.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{RunError, Session, Stop};
use consilium_tensor::{Tensor, dimension};

/// A row with this token id fails the run that it is in.
pub(crate) const POISON: i64 = 2;
/// A row with this token id makes the session panic.
pub(crate) const BOMB: i64 = 3;

/// What all sessions of a scripted engine share with the test.
pub(crate) struct Script {
    /// `a`: the cost of a run of nothing.
    pub(crate) base: Duration,
    /// `c`: the cost of each padded unit.
    pub(crate) per_unit: Duration,
    pub(crate) seen: watch::Sender<Seen>,
    pub(crate) held: Mutex<bool>,
    pub(crate) changed: Condvar,
}

/// What has happened so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// `(rows, length)` of every run that began.
    pub(crate) runs: Vec<(usize, usize)>,
    /// How many were stopped before their end.
    pub(crate) stopped: usize,
}

impl Script {
    pub(crate) fn hold(&self, held: bool) {
        *self.lock() = held;
        self.changed.notify_all();
    }

    /// Waits as long as the script says; `false` if it was stopped.
    fn wait(&self, units: usize, stop: &Stop) -> bool {
        let took = self.base + self.per_unit * u32::try_from(units).unwrap_or(u32::MAX);
        let mut held = self.lock();
        while *held && !stop.is_raised() {
            held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + took;
        while !stop.is_raised() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            held = self.changed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct ScriptedSession(pub(crate) Arc<Script>);

impl Session for ScriptedSession {
    /// For every row the sum of its ids and how many are no padding, as FP32 `[rows, 2]`.
    fn run(&mut self, inputs: &[Tensor], stop: &Stop) -> Result<Vec<Tensor>, RunError> {
        let ids = inputs.first().ok_or_else(|| RunError("no input".to_owned()))?;
        let size = |at: usize| ids.shape.get(at).and_then(|size| usize::try_from(*size).ok()).unwrap_or(1);
        let (rows, length) = (size(0), size(1));
        self.0.seen.send_modify(|seen| seen.runs.push((rows, length)));

        let script = Arc::clone(&self.0);
        stop.on_raise(move || {
            // With the lock, so that the session is either before its look at the flag or already waiting.
            drop(script.lock());
            script.changed.notify_all();
        });
        if !self.0.wait(rows * length, stop) {
            self.0.seen.send_modify(|seen| seen.stopped += 1);
            return Err(RunError("stopped".to_owned()));
        }

        let values: Vec<i64> = ids.data.as_chunks().0.iter().copied().map(i64::from_le_bytes).collect();
        if values.contains(&POISON) {
            return Err(RunError("poisoned".to_owned()));
        }
        assert!(!values.contains(&BOMB), "as the script says");
        let answers: Vec<f32> = values
            .chunks(length.max(1))
            .flat_map(|row| [row.iter().sum::<i64>() as f32, row.iter().filter(|id| **id != 0).count() as f32])
            .collect();
        Ok(vec![Tensor::fp32("row", vec![dimension(rows), 2], &answers)])
    }
}
