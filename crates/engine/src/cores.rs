//! The core budget of the process: how many there are, and a gate that never lets more than that compute at once.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Cores that this process may use: the container's quota, the affinity mask or the machine, whichever is least. The
/// standard library reads all three on Linux, cgroups of both generations included. ONNX Runtime's own default is the
/// host's count, which in a container of two cores on a large host is many times too many.
pub(crate) fn available() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The gate. Executors of all engines share one, in the order they came, so that a run that needs every core is not
/// starved by a stream of runs that need one.
#[derive(Debug)]
pub(crate) struct Cores {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: usize,
    next: u64,
    waiting: VecDeque<u64>,
}

/// Cores in use; given back on drop.
pub(crate) struct Permit<'a> {
    cores: &'a Cores,
    count: usize,
}

impl Cores {
    pub(crate) fn new(count: NonZeroUsize) -> Self {
        let state = State { free: count.get(), next: 0, waiting: VecDeque::new() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Blocks the thread until `count` cores are free and every earlier caller has been served.
    pub(crate) fn acquire(&self, count: usize) -> Permit<'_> {
        let mut state = self.lock();
        let turn = state.next;
        state.next += 1;
        state.waiting.push_back(turn);
        while state.waiting.front() != Some(&turn) || state.free < count {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.pop_front();
        state.free -= count;
        // The next in line may need less than what is still free.
        self.changed.notify_all();
        Permit { cores: self, count }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.cores.lock().free += self.count;
        self.cores.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn count(cores: usize) -> NonZeroUsize {
        NonZeroUsize::new(cores).unwrap()
    }

    #[test]
    fn a_run_that_needs_every_core_is_served_before_those_that_came_later() {
        let cores = Cores::new(count(2));
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            let first = cores.acquire(1);
            let tell_wide = tell.clone();
            scope.spawn(|| {
                let _permit = cores.acquire(2);
                tell_wide.send("wide").unwrap();
                drop(tell_wide);
            });
            while cores.lock().waiting.is_empty() {
                thread::yield_now();
            }
            // One core is free, but the wide one came first.
            scope.spawn(|| {
                let _permit = cores.acquire(1);
                tell.send("narrow").unwrap();
                drop(tell);
            });
            while cores.lock().waiting.len() < 2 {
                thread::yield_now();
            }
            assert!(told.try_recv().is_err());
            drop(first);
        });
        assert_eq!(told.iter().collect::<Vec<_>>(), ["wide", "narrow"]);
    }
}
