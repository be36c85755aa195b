//! A peak-sensitive, exponentially weighted moving average of latencies. Pure: the time is an argument.
//!
//! The rule is Finagle's: a sample above the estimate replaces it at once, one below it is blended in, and the weight
//! of the past decays with time. Reading does not write, so that a picker may look at every instance for free.

use std::time::Duration;

use tokio::time::Instant;

/// How long until an old sample counts for 1/e of a new one.
const DECAY: Duration = Duration::from_secs(5);

/// The estimate of one instance's latency.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeakEwma {
    seconds: f64,
    at: Instant,
}

impl PeakEwma {
    /// Starts from `seed`: zero would send every caller to whoever joined last.
    pub(crate) fn new(seed: Duration, now: Instant) -> Self {
        Self { seconds: seed.as_secs_f64(), at: now }
    }

    /// Takes a sample that ended at `now`.
    pub(crate) fn add(&mut self, sample: Duration, now: Instant) {
        let sample = sample.as_secs_f64();
        self.seconds = if sample > self.seconds {
            sample
        } else {
            let past = self.weight(now);
            self.seconds.mul_add(past, sample * (1.0 - past))
        };
        self.at = now;
        debug_assert!(self.seconds.is_finite(), "an estimate is a finite number of seconds");
    }

    /// The estimate as it was sampled last, seconds.
    pub(crate) fn sampled(&self) -> f64 {
        self.seconds
    }

    /// The estimate at `now`, seconds. While nothing is sampled it fades towards `best`, the best that anybody comparable
    /// was sampled at: an instance that was slow once is tried again, however fast the others are. (Fading towards half
    /// the objective kept it out for good while the others answered in a tenth of that.)
    pub(crate) fn at(&self, now: Instant, best: f64) -> f64 {
        if self.seconds <= best {
            return self.seconds;
        }
        best + (self.seconds - best) * self.weight(now)
    }

    fn weight(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at);
        (-age.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEST: f64 = 0.01;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[tokio::test]
    async fn a_peak_counts_at_once_and_is_forgiven_slowly() {
        let start = Instant::now();
        let mut ewma = PeakEwma::new(ms(20), start);
        ewma.add(ms(500), start);
        assert!((ewma.at(start, BEST) - 0.5).abs() < 1e-9);

        ewma.add(ms(20), start + DECAY);
        let expected = 0.5 * (-1.0_f64).exp() + 0.02 * (1.0 - (-1.0_f64).exp());
        assert!((ewma.at(start + DECAY, BEST) - expected).abs() < 1e-9);
    }

    #[tokio::test]
    async fn without_samples_a_slow_one_becomes_as_good_as_the_best_and_not_better() {
        let start = Instant::now();
        let slow = PeakEwma::new(ms(1000), start);
        let later = slow.at(start + 20 * DECAY, BEST);
        assert!((later - BEST).abs() < 1e-6, "{later}");
        let quick = PeakEwma::new(ms(2), start);
        assert!((quick.at(start + 20 * DECAY, BEST) - 0.002).abs() < 1e-9);
    }
}
