//! What a run costs: the table that warm-up measures and the router's predictions are made of. Pure arithmetic.

use std::time::Duration;

/// What the engine counts work in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Padded tokens: models of kind `text`.
    Tokens,
    /// Rows of the batch axis: models of kind `tensors`.
    Rows,
}

/// Measured cost of a run by its size.
#[derive(Debug, Clone, PartialEq)]
pub struct CostTable {
    /// What `points` and `batch_units` count.
    pub unit: Unit,
    /// `(units, milliseconds)`, by rising units: one text of each length bucket, then a full batch.
    /// Empty when the model could not be run on made-up input (a tensors model with free inner dimensions may refuse it).
    pub points: Vec<(usize, f64)>,
    /// How many batches run at a time.
    pub executors: usize,
    /// The most units in one batch.
    pub batch_units: usize,
}

impl CostTable {
    /// Predicted duration of one run of `units`: linear between the points, and past the last one at its rate.
    pub fn run(&self, units: usize) -> Duration {
        let above = self.points.partition_point(|(at, _)| *at < units);
        let millis = match (above.checked_sub(1).and_then(|below| self.points.get(below)), self.points.get(above)) {
            (None, None) => 0.0,
            (None, Some((_, millis))) => *millis,
            (Some((at, millis)), None) => millis * units as f64 / (*at).max(1) as f64,
            (Some((low, from)), Some((high, to))) => from + (to - from) * (units - low) as f64 / (high - low) as f64,
        };
        Duration::from_secs_f64((millis / 1e3).max(0.0))
    }

    /// Predicted time until `units` of backlog have run: full batches, spread over the executors.
    pub fn drain(&self, units: usize) -> Duration {
        let batches = units as f64 / self.batch_units.max(1) as f64;
        self.run(self.batch_units).mul_f64(batches / self.executors.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> CostTable {
        CostTable { unit: Unit::Tokens, points: vec![(8, 4.0), (16, 6.0), (64, 18.0)], executors: 2, batch_units: 64 }
    }

    #[test]
    fn a_run_costs_what_lies_between_the_points() {
        let millis = |units| table().run(units).as_secs_f64() * 1e3;
        for (units, expected) in [(1, 4.0), (8, 4.0), (12, 5.0), (16, 6.0), (40, 12.0), (64, 18.0), (128, 36.0)] {
            assert!((millis(units) - expected).abs() < 1e-6, "{units} units: {}", millis(units));
        }
    }

    #[test]
    fn a_backlog_drains_in_full_batches_over_all_executors() {
        assert_eq!(table().drain(128), Duration::from_millis(18));
        assert_eq!(table().drain(0), Duration::ZERO);
    }

    #[test]
    fn an_empty_table_predicts_nothing_and_divides_by_nothing() {
        let empty = CostTable { points: vec![], executors: 0, batch_units: 0, ..table() };
        assert_eq!(empty.run(100), Duration::ZERO);
        assert_eq!(empty.drain(100), Duration::ZERO);
    }
}
