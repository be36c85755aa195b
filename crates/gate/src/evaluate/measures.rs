//! The figures of an evaluation, each defined here and nowhere else. Pure: what the gate said of each row goes in.
//!
//! A row's *own* expert is the one that its file names; a row without one is for nobody. What the gate thought *best*
//! is the most probable candidate, whatever was chosen. *Answered* is a row for which an expert was chosen, the
//! fallback included; the first chosen counts.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::ranking::{auroc, recall_at_kept};
use super::reliability::{Bin, Statement, bins, ece};

/// The share of in-scope queries that the recall of the others is told at.
const KEPT: f64 = 0.95;
const TOP: usize = 3;
/// Confusions in a report, and queries with each.
const MOST_CONFUSIONS: usize = 20;
const QUERIES_SHOWN: usize = 3;

/// What the gate said of one row.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// The row's own expert.
    pub truth: Option<String>,
    /// The most probable expert and its probability as the decision states it, 0..=1; `None` where nobody is known.
    pub best: Option<(String, f64)>,
    /// How many experts are more probable than the row's own; `None` where it has none, or one that the gate does not
    /// know.
    pub ahead: Option<usize>,
    /// The probability that anybody is right: the sum over all experts.
    pub somebody: f64,
    /// The expert that was chosen.
    pub chosen: Option<String>,
    /// What answered, as in [`Tier::as_str`](crate::Tier::as_str).
    pub tier: &'static str,
    /// From query to decision, everything included.
    pub took: Duration,
    /// The decision says that its probabilities are calibrated.
    pub calibrated: bool,
    /// What was read of the dimensions that the row is labelled with.
    pub dimensions: BTreeMap<String, DimensionObservation>,
}

/// What the gate said of one dimension of one row.
#[derive(Clone, Debug, Default)]
pub struct DimensionObservation {
    /// The right value.
    pub truth: String,
    /// The most probable value and its probability, 0..=1; `None` where nothing was read.
    pub best: Option<(String, f64)>,
    /// The best value cleared the dimension's bar, so that decisions follow it.
    pub known: bool,
}

/// Shares are in 0..=1, and `None` where there is nothing that they could be a share of.
#[derive(Clone, Debug, Serialize)]
pub struct Measures {
    /// Of the rows with an expert: the best is its own.
    pub top1: Option<f64>,
    /// Of the rows with an expert: its own is among the three most probable.
    pub top3: Option<f64>,
    /// Of all rows: its own expert was chosen, or nobody where it is for nobody.
    pub end_to_end: Option<f64>,
    /// The chance that of a row for somebody and one for nobody the former has the higher probability of being for
    /// anybody; equal ones count half.
    pub oos_auroc: Option<f64>,
    /// Of the rows for nobody: the share refused by the highest bar on that probability which keeps 95 % of the others.
    pub oos_recall_at_95_kept: Option<f64>,
    /// Expected calibration error over 15 bins of equal width, of the best expert's probability as the chance that it is
    /// the row's own. For a row that is for nobody, whoever is best is wrong.
    pub ece: Option<f64>,
    /// Of all rows: answered.
    pub coverage: Option<f64>,
    /// Of the answered rows: whoever was chosen is not the row's own expert.
    pub error_among_answered: Option<f64>,
    /// Of the rows with an expert: answered, by whomever.
    pub kept: Option<f64>,
    /// Of the rows for nobody: not answered.
    pub refused: Option<f64>,
    /// Of all rows: decided by this tier. Tiers that decided nothing are not listed.
    pub tiers: BTreeMap<&'static str, f64>,
    /// From query to decision.
    pub latency_ms: Quantiles,
    /// The same of the rows that this tier decided.
    pub latency_by_tier_ms: BTreeMap<&'static str, Quantiles>,
    /// Every decision said that its probabilities are calibrated.
    pub calibrated: bool,
    /// By name; only where rows are labelled.
    pub dimensions: BTreeMap<String, DimensionMeasures>,
    /// The bins behind `ece`.
    pub reliability: Vec<Bin>,
}

/// Of the rows that are labelled with the dimension.
#[derive(Clone, Debug, Serialize)]
pub struct DimensionMeasures {
    pub rows: usize,
    /// The best value is the right one.
    pub top1: Option<f64>,
    /// The best value cleared the bar.
    pub coverage: Option<f64>,
    /// As of the experts; a row of which nothing was read has stated nothing.
    pub ece: Option<f64>,
}

/// Nearest rank: the smallest value that is not exceeded by this share of all. `None` without values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    pub p50: Option<Duration>,
    pub p95: Option<Duration>,
    pub p99: Option<Duration>,
}

/// Rows that went the same wrong way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Who should have been chosen; `None`: nobody.
    pub expected: Option<String>,
    /// Who was; `None`: nobody.
    pub chosen: Option<String>,
    pub rows: usize,
    /// Up to three of the queries.
    pub queries: Vec<String>,
}

impl Observation {
    /// Whether the row ended where it should: at its own expert, or at nobody.
    pub fn is_right(&self) -> bool {
        self.chosen == self.truth
    }

    /// What the decision stated of its best expert. Whom nobody can be best for is stated to be for nobody, for sure.
    pub fn statement(&self) -> Statement {
        match &self.best {
            Some((best, probability)) => (*probability, self.truth.as_ref() == Some(best)),
            None => (0.0, false),
        }
    }
}

impl Measures {
    pub fn of(observations: &[Observation]) -> Self {
        let (somebody, nobody): (Vec<&Observation>, Vec<&Observation>) =
            observations.iter().partition(|it| it.truth.is_some());
        let all: Vec<&Observation> = observations.iter().collect();
        let answered: Vec<&Observation> = observations.iter().filter(|it| it.chosen.is_some()).collect();
        let scores = |rows: &[&Observation]| rows.iter().map(|it| it.somebody).collect::<Vec<_>>();
        let statements: Vec<Statement> = observations.iter().map(Observation::statement).collect();
        Self {
            top1: share(&somebody, |it| it.ahead == Some(0)),
            top3: share(&somebody, |it| it.ahead.is_some_and(|ahead| ahead < TOP)),
            end_to_end: share(&all, |it| it.is_right()),
            oos_auroc: auroc(&scores(&somebody), &scores(&nobody)),
            oos_recall_at_95_kept: recall_at_kept(&scores(&somebody), &scores(&nobody), KEPT),
            ece: ece(&statements),
            coverage: share(&all, |it| it.chosen.is_some()),
            error_among_answered: share(&answered, |it| !it.is_right()),
            kept: share(&somebody, |it| it.chosen.is_some()),
            refused: share(&nobody, |it| it.chosen.is_none()),
            tiers: tiers(observations),
            latency_ms: Quantiles::of(observations.iter().map(|it| it.took).collect()),
            latency_by_tier_ms: latency_by_tier(observations),
            calibrated: !observations.is_empty() && observations.iter().all(|it| it.calibrated),
            dimensions: dimensions(observations),
            reliability: bins(&statements),
        }
    }
}

/// The wrong ways that most rows went, at most 20, the most frequent first; `texts` in the order of the observations.
pub fn confusions(observations: &[Observation], texts: &[&str]) -> Vec<Confusion> {
    let mut pairs: BTreeMap<(Option<&str>, Option<&str>), Vec<&str>> = BTreeMap::new();
    for (observation, text) in observations.iter().zip(texts).filter(|(it, _)| !it.is_right()) {
        pairs.entry((observation.truth.as_deref(), observation.chosen.as_deref())).or_default().push(text);
    }
    let mut confusions: Vec<Confusion> = pairs
        .into_iter()
        .map(|((expected, chosen), texts)| Confusion {
            expected: expected.map(str::to_owned),
            chosen: chosen.map(str::to_owned),
            rows: texts.len(),
            queries: texts.iter().take(QUERIES_SHOWN).map(|&text| text.to_owned()).collect(),
        })
        .collect();
    // Stable: pairs of one frequency stay in the order of their names.
    confusions.sort_by_key(|confusion| Reverse(confusion.rows));
    confusions.truncate(MOST_CONFUSIONS);
    confusions
}

impl Quantiles {
    pub fn of(mut values: Vec<Duration>) -> Self {
        values.sort_unstable();
        let at = |share: f64| {
            let rank = (share * values.len() as f64 - 1e-9).ceil().max(1.0) as usize;
            values.get(rank - 1).copied()
        };
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}

fn share<T>(rows: &[T], is: impl Fn(&T) -> bool) -> Option<f64> {
    (!rows.is_empty()).then(|| rows.iter().filter(|row| is(row)).count() as f64 / rows.len() as f64)
}

fn tiers(observations: &[Observation]) -> BTreeMap<&'static str, f64> {
    let mut rows: BTreeMap<&'static str, usize> = BTreeMap::new();
    for observation in observations {
        *rows.entry(observation.tier).or_default() += 1;
    }
    rows.into_iter().map(|(tier, rows)| (tier, rows as f64 / observations.len() as f64)).collect()
}

fn latency_by_tier(observations: &[Observation]) -> BTreeMap<&'static str, Quantiles> {
    let mut took: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
    for observation in observations {
        took.entry(observation.tier).or_default().push(observation.took);
    }
    took.into_iter().map(|(tier, took)| (tier, Quantiles::of(took))).collect()
}

fn dimensions(observations: &[Observation]) -> BTreeMap<String, DimensionMeasures> {
    let mut read: BTreeMap<&str, Vec<&DimensionObservation>> = BTreeMap::new();
    for (name, dimension) in observations.iter().flat_map(|it| &it.dimensions) {
        read.entry(name).or_default().push(dimension);
    }
    let measures = |(name, rows): (&str, Vec<&DimensionObservation>)| {
        let right = |it: &DimensionObservation| it.best.as_ref().is_some_and(|(best, _)| it.truth == *best);
        let statements: Vec<Statement> =
            rows.iter().filter_map(|it| it.best.as_ref().map(|(_, probability)| (*probability, right(it)))).collect();
        let measures = DimensionMeasures {
            rows: rows.len(),
            top1: share(&rows, |it| right(it)),
            coverage: share(&rows, |it| it.known),
            ece: ece(&statements),
        };
        (name.to_owned(), measures)
    };
    read.into_iter().map(measures).collect()
}

/// In milliseconds, with the microseconds behind the point.
impl Serialize for Quantiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Quantiles", 3)?;
        for (name, duration) in [("p50", self.p50), ("p95", self.p95), ("p99", self.p99)] {
            let milliseconds = duration.map(|duration| (duration.as_secs_f64() * 1e6).round() / 1e3);
            object.serialize_field(name, &milliseconds)?;
        }
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// `a` with 0.6, `b` with 0.3; whom the row is for and who was chosen.
    fn observed(truth: Option<&str>, chosen: Option<&str>) -> Observation {
        Observation {
            truth: truth.map(str::to_owned),
            best: Some(("a".to_owned(), 0.6)),
            ahead: ["a", "b"].iter().position(|name| truth == Some(name)),
            somebody: 0.9,
            chosen: chosen.map(str::to_owned),
            tier: "encoder",
            took: Duration::from_millis(3),
            calibrated: true,
            dimensions: BTreeMap::new(),
        }
    }

    fn close(share: Option<f64>, expected: f64) -> bool {
        share.is_some_and(|share| (share - expected).abs() < 1e-12)
    }

    #[test]
    fn each_figure_counts_what_it_says() {
        let rows = [
            observed(Some("a"), Some("a")),
            observed(Some("a"), None),
            observed(Some("b"), Some("a")),
            observed(Some("unknown"), Some("a")),
            observed(None, Some("a")),
            Observation { somebody: 0.1, tier: "static", ..observed(None, None) },
        ];
        let measures = Measures::of(&rows);
        assert!(close(measures.top1, 0.5) && close(measures.top3, 0.75), "{measures:?}");
        assert!(close(measures.end_to_end, 2.0 / 6.0), "{measures:?}");
        assert!(close(measures.coverage, 4.0 / 6.0) && close(measures.error_among_answered, 0.75), "{measures:?}");
        assert!(close(measures.kept, 0.75) && close(measures.refused, 0.5), "{measures:?}");
        // Of the eight pairs, four are won and four are ties.
        assert!(close(measures.oos_auroc, 0.75) && close(measures.oos_recall_at_95_kept, 0.5), "{measures:?}");
        // All say 0.6 and two are right.
        assert!(close(measures.ece, 0.6 - 2.0 / 6.0), "{measures:?}");
        assert!(close(measures.tiers.get("static").copied(), 1.0 / 6.0), "{measures:?}");
        assert_eq!(measures.reliability.len(), 1);
    }

    #[test]
    fn what_cannot_be_said_is_null_and_the_keys_are_stable() {
        let json = serde_json::to_value(Measures::of(&[])).unwrap();
        for key in ["top1", "top3", "end_to_end", "oos_auroc", "oos_recall_at_95_kept", "ece", "coverage"] {
            assert!(json[key].is_null() && json.as_object().unwrap().contains_key(key), "{key} in {json}");
        }
        assert_eq!((&json["tiers"], &json["calibrated"]), (&json!({}), &json!(false)));
        assert_eq!(json["latency_ms"], json!({"p50": null, "p95": null, "p99": null}));
        let json = serde_json::to_value(Measures::of(&[observed(Some("a"), Some("a"))])).unwrap();
        assert_eq!(json["latency_ms"], json!({"p50": 3.0, "p95": 3.0, "p99": 3.0}));
        assert_eq!(json["latency_by_tier_ms"], json!({"encoder": {"p50": 3.0, "p95": 3.0, "p99": 3.0}}));
        assert_eq!((&json["top1"], &json["oos_auroc"], &json["refused"]), (&json!(1.0), &json!(null), &json!(null)));
    }

    #[test]
    fn a_dimension_is_measured_where_it_is_labelled() {
        let dimension = |truth: &str, best: Option<(&str, f64)>, known| DimensionObservation {
            truth: truth.to_owned(),
            best: best.map(|(value, probability)| (value.to_owned(), probability)),
            known,
        };
        let row = |dimension| Observation {
            dimensions: BTreeMap::from([("kind".to_owned(), dimension)]),
            ..observed(Some("a"), Some("a"))
        };
        let rows = [
            row(dimension("how", Some(("how", 0.9)), true)),
            row(dimension("how", Some(("why", 0.3)), false)),
            row(dimension("why", Some(("why", 0.9)), true)),
            row(dimension("how", None, false)),
            observed(Some("a"), Some("a")),
        ];
        let kind = &Measures::of(&rows).dimensions["kind"];
        assert_eq!(kind.rows, 4);
        assert!(close(kind.top1, 0.5) && close(kind.coverage, 0.5), "{kind:?}");
        assert!(close(kind.ece, (0.1 * 2.0 + 0.3) / 3.0), "{kind:?}");
    }

    #[test]
    fn wrong_ways_are_counted_with_their_first_queries() {
        let mut rows = vec![observed(Some("b"), Some("a")); 4];
        rows.extend([observed(None, Some("a")), observed(Some("a"), None), observed(Some("a"), Some("a"))]);
        let found = confusions(&rows, &["q1", "q2", "q3", "q4", "q5", "q6", "q7"]);
        assert_eq!(found.len(), 3);
        assert_eq!(
            (found[0].expected.as_deref(), found[0].chosen.as_deref(), found[0].rows),
            (Some("b"), Some("a"), 4)
        );
        assert_eq!(found[0].queries, ["q1", "q2", "q3"]);
        assert_eq!((found[1].expected.as_deref(), found[1].queries[0].as_str()), (None, "q5"));
    }

    proptest! {
        #[test]
        fn a_quantile_is_a_value_that_was_measured(mut millis in prop::collection::vec(0_u64..50, 1..200)) {
            let quantiles = Quantiles::of(millis.iter().map(|it| Duration::from_millis(*it)).collect());
            millis.sort_unstable();
            for (quantile, percent) in [(quantiles.p50, 50), (quantiles.p95, 95), (quantiles.p99, 99)] {
                let value = quantile.unwrap().as_millis() as u64;
                let not_above = millis.iter().filter(|it| **it <= value).count();
                let below = millis.iter().filter(|it| **it < value).count();
                prop_assert!(not_above * 100 >= percent * millis.len() && below * 100 < percent * millis.len());
            }
        }
    }
}
