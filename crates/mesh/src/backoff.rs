//! How long to wait before the next try of something that failed: full jitter, so that those who lost the same peer at
//! the same moment do not come back at the same moment. (Amazon's "Exponential Backoff and Jitter", 2015.)

use std::time::Duration;

/// Grows with every failure up to a bound. The draw is an argument of the maths and comes from the caller's dice.
#[derive(Debug, Clone)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub const fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, failures: 0 }
    }

    /// How long to wait after one more failure; `draw` is from 0 up to 1. Between `shortest` and a bound that doubles from
    /// twice `shortest` up to `longest`.
    pub fn failed(&mut self, draw: f64) -> Duration {
        self.failures = self.failures.saturating_add(1).min(16);
        let bound = self.shortest.saturating_mul(1 << self.failures).min(self.longest);
        self.shortest + bound.saturating_sub(self.shortest).mul_f64(draw.clamp(0.0, 1.0))
    }

    /// It worked: the next failure starts over.
    pub fn worked(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_bound_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let longest: Vec<_> = (0..40).map(|_| backoff.failed(1.0).as_millis()).collect();
        assert_eq!(longest[..6], [200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(longest[39], 2000);
        assert_eq!(backoff.failed(0.0).as_millis(), 100, "never at once");
        assert_eq!(backoff.failed(0.5).as_millis(), 1050);
        backoff.worked();
        assert_eq!(backoff.failed(1.0).as_millis(), 200);
    }
}
