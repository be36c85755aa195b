//! What a model has done since it was loaded, as `ModelStatistics` tells it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use consilium_proto::inference::{self as oip, InferBatchStatistics, InferStatistics, StatisticDuration};

/// Counts the calls of one model. Shared by reference; counting takes no lock for long.
#[derive(Debug, Default)]
pub struct Statistics(Mutex<Counts>);

/// One call that was answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Call {
    /// Rows or queries in it.
    pub inferences: u64,
    /// From the request to the reply.
    pub total: Duration,
    pub queue: Duration,
    /// Reading the inputs, tokenizing included.
    pub input: Duration,
    pub infer: Duration,
    /// Making the reply.
    pub output: Duration,
}

#[derive(Debug, Default)]
struct Counts {
    answered: u64,
    failed: u64,
    failed_for: Duration,
    /// All calls together.
    sum: Call,
    last: Option<SystemTime>,
}

impl Statistics {
    pub fn answered(&self, call: Call) {
        let mut counts = self.counts();
        counts.answered += 1;
        counts.last = Some(SystemTime::now());
        let sum = &mut counts.sum;
        sum.inferences = sum.inferences.saturating_add(call.inferences);
        for (sum, one) in [
            (&mut sum.total, call.total),
            (&mut sum.queue, call.queue),
            (&mut sum.input, call.input),
            (&mut sum.infer, call.infer),
            (&mut sum.output, call.output),
        ] {
            *sum = sum.saturating_add(one);
        }
    }

    pub fn failed(&self, total: Duration) {
        let mut counts = self.counts();
        counts.failed += 1;
        counts.failed_for = counts.failed_for.saturating_add(total);
    }

    /// `batches`: size, how many there were, and the time of all of them; empty where only calls are counted, each of
    /// which then counts as a batch.
    pub fn message(&self, name: &str, version: &str, batches: &[(u64, u64, Duration)]) -> oip::ModelStatistics {
        let counts = self.counts();
        let each = |sum: Duration| Some(duration(counts.answered, sum));
        let none = Some(StatisticDuration::default());
        let batch = |&(size, count, took): &(u64, u64, Duration)| InferBatchStatistics {
            batch_size: size,
            // An engine fills and empties a batch in the time that it is told for running it.
            compute_input: Some(duration(count, Duration::ZERO)),
            compute_infer: Some(duration(count, took)),
            compute_output: Some(duration(count, Duration::ZERO)),
        };
        let executions = batches.iter().fold(0u64, |sum, (_, count, _)| sum.saturating_add(*count));
        oip::ModelStatistics {
            name: name.to_owned(),
            version: version.to_owned(),
            last_inference: counts.last.map_or(0, milliseconds),
            inference_count: counts.sum.inferences,
            execution_count: if batches.is_empty() { counts.answered } else { executions },
            // Clients take the differences of these: perf_analyzer gives up unless `queue` has counted every request.
            inference_stats: Some(InferStatistics {
                success: each(counts.sum.total),
                fail: Some(duration(counts.failed, counts.failed_for)),
                queue: each(counts.sum.queue),
                compute_input: each(counts.sum.input),
                compute_infer: each(counts.sum.infer),
                compute_output: each(counts.sum.output),
                cache_hit: none,
                cache_miss: none,
            }),
            batch_stats: batches.iter().map(batch).collect(),
            ..oip::ModelStatistics::default()
        }
    }

    /// What several instances of a mesh say, added up by name and version. Memory and the statistics of single replies,
    /// which no server of ours tells, are left out.
    pub fn sum(messages: impl IntoIterator<Item = oip::ModelStatistics>) -> Vec<oip::ModelStatistics> {
        let mut sums: BTreeMap<(String, String), oip::ModelStatistics> = BTreeMap::new();
        for message in messages {
            let sum = sums.entry((message.name.clone(), message.version.clone())).or_default();
            add(sum, message);
        }
        sums.into_values().collect()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Whoever panicked in here left numbers behind, and numbers are always whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(sum: &mut oip::ModelStatistics, one: oip::ModelStatistics) {
    (sum.name, sum.version) = (one.name, one.version);
    sum.last_inference = sum.last_inference.max(one.last_inference);
    sum.inference_count = sum.inference_count.saturating_add(one.inference_count);
    sum.execution_count = sum.execution_count.saturating_add(one.execution_count);
    let (stats, other) = (sum.inference_stats.get_or_insert_default(), one.inference_stats.unwrap_or_default());
    for (sum, one) in [
        (&mut stats.success, other.success),
        (&mut stats.fail, other.fail),
        (&mut stats.queue, other.queue),
        (&mut stats.compute_input, other.compute_input),
        (&mut stats.compute_infer, other.compute_infer),
        (&mut stats.compute_output, other.compute_output),
        (&mut stats.cache_hit, other.cache_hit),
        (&mut stats.cache_miss, other.cache_miss),
    ] {
        add_duration(sum, one);
    }
    for batch in one.batch_stats {
        let at = sum.batch_stats.partition_point(|known| known.batch_size < batch.batch_size);
        match sum.batch_stats.get_mut(at) {
            Some(known) if known.batch_size == batch.batch_size => {
                add_duration(&mut known.compute_input, batch.compute_input);
                add_duration(&mut known.compute_infer, batch.compute_infer);
                add_duration(&mut known.compute_output, batch.compute_output);
            }
            _ => sum.batch_stats.insert(at, batch),
        }
    }
}

fn add_duration(sum: &mut Option<StatisticDuration>, one: Option<StatisticDuration>) {
    let (sum, one) = (sum.get_or_insert_default(), one.unwrap_or_default());
    sum.count = sum.count.saturating_add(one.count);
    sum.ns = sum.ns.saturating_add(one.ns);
}

fn duration(count: u64, sum: Duration) -> StatisticDuration {
    StatisticDuration { count, ns: u64::try_from(sum.as_nanos()).unwrap_or(u64::MAX) }
}

fn milliseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
