//! What a model has run: batches by size, their number and their time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What a model has run since it was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// By rising size.
    pub batches: Vec<BatchStatistics>,
}

/// All batches of one size that ran to their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchStatistics {
    /// Rows of tensors, or texts; 1 for a model whose inputs have no rows. Above 256, the next power of two.
    pub size: usize,
    /// How many there were.
    pub count: u64,
    /// Of all of them together.
    pub took: Duration,
}

/// Sizes up to this are told apart. Callers choose them, and their number must stay small.
const EXACT: usize = 256;

/// Where the executors of an engine count.
#[derive(Debug, Default)]
pub(crate) struct Runs(Mutex<BTreeMap<usize, (u64, Duration)>>);

impl Runs {
    pub(crate) fn count(&self, size: usize, took: Duration) {
        let size = if size > EXACT { size.checked_next_power_of_two().unwrap_or(usize::MAX) } else { size };
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, sum) = runs.entry(size).or_default();
        *count += 1;
        *sum += took;
    }

    pub(crate) fn so_far(&self) -> Statistics {
        let runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let batches = runs.iter().map(|(&size, &(count, took))| BatchStatistics { size, count, took });
        Statistics { batches: batches.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_by_size_and_there_are_few_sizes() {
        let runs = Runs::default();
        assert_eq!(runs.so_far(), Statistics::default());
        for millis in [1, 3] {
            runs.count(4, Duration::from_millis(millis));
        }
        runs.count(1, Duration::from_millis(2));
        let entry = |size, count, millis| BatchStatistics { size, count, took: Duration::from_millis(millis) };
        assert_eq!(runs.so_far().batches, [entry(1, 1, 2), entry(4, 2, 4)]);
        (1..100_000).chain([usize::MAX]).for_each(|size| runs.count(size, Duration::ZERO));
        assert!(runs.so_far().batches.len() < 300);
    }
}
