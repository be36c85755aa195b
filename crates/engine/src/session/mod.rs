//! The one place where tensors meet a model. Everything above this folder works with any [`Session`].

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use consilium_tensor::Tensor;

mod graph;
pub(crate) mod ort;
#[cfg(feature = "testing")]
pub(crate) mod scripted;
mod values;

/// A loaded model that runs one batch at a time. It is moved into its executor's thread and never leaves it.
pub(crate) trait Session: Send {
    /// Runs the graph once. `inputs` have the manifest's names and types; outputs come in the manifest's order.
    /// When `stop` is raised, the run should end early with an error; nobody will look at it.
    fn run(&mut self, inputs: &[Tensor], stop: &Stop) -> Result<Vec<Tensor>, RunError>;
}

/// Why a run failed, in words that contain nothing of what went in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunError(pub(crate) String);

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tells a running session that nobody waits for it any more.
#[derive(Default)]
pub(crate) struct Stop(Mutex<StopState>);

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct StopState {
    raised: bool,
    hook: Option<Hook>,
}

impl Stop {
    /// Ends the run. Later calls do nothing.
    pub(crate) fn raise(&self) {
        let hook = {
            let mut state = self.lock();
            state.raised = true;
            state.hook.take()
        };
        // Outside the lock: the hook is a session's code.
        if let Some(hook) = hook {
            hook();
        }
    }

    /// What to do when the stop is raised; done at once if it was already.
    pub(crate) fn on_raise(&self, hook: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        if state.raised {
            drop(state);
            hook();
        } else {
            state.hook = Some(Box::new(hook));
        }
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.lock().raised
    }

    fn lock(&self) -> MutexGuard<'_, StopState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_hook_runs_exactly_once_whichever_comes_first() {
        for raise_first in [true, false] {
            let (stop, count) = (Stop::default(), Arc::new(AtomicUsize::new(0)));
            let counted = Arc::clone(&count);
            if raise_first {
                stop.raise();
            }
            stop.on_raise(move || {
                counted.fetch_add(1, Ordering::SeqCst);
            });
            stop.raise();
            stop.raise();
            assert_eq!(count.load(Ordering::SeqCst), 1);
        }
    }
}
