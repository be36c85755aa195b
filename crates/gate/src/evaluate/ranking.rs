//! How well a score tells two kinds of queries apart: those that are for somebody, and those that are for nobody. Pure;
//! a score means the more the higher it is.

/// The chance that a query for somebody scores higher than one for nobody, equal scores counting half: the area under
/// the ROC curve. `None` where one of the two kinds is missing.
pub fn auroc(somebody: &[f64], nobody: &[f64]) -> Option<f64> {
    if somebody.is_empty() || nobody.is_empty() {
        return None;
    }
    let mut others = nobody.to_vec();
    others.sort_by(f64::total_cmp);
    let wins: f64 = somebody
        .iter()
        .map(|score| {
            let below = others.partition_point(|other| other < score);
            let not_above = others.partition_point(|other| other <= score);
            f64::midpoint(below as f64, not_above as f64)
        })
        .sum();
    Some(wins / somebody.len() as f64 / nobody.len() as f64)
}

/// The share of queries for nobody that are refused by the highest bar that keeps at least the share `kept` (0..=1) of
/// those for somebody. A query is kept whose score is the bar or above. `None` where one of the two kinds is missing.
pub fn recall_at_kept(somebody: &[f64], nobody: &[f64], kept: f64) -> Option<f64> {
    if somebody.is_empty() || nobody.is_empty() {
        return None;
    }
    let mut falling = somebody.to_vec();
    falling.sort_by(|a, b| b.total_cmp(a));
    // 0.95 of 20 is 19 and not, by a rounding of the product, 20.
    let keep = (kept * falling.len() as f64 - 1e-9).ceil().max(0.0) as usize;
    let bar = match keep {
        0 => f64::INFINITY,
        keep => falling[keep.min(falling.len()) - 1],
    };
    let refused = nobody.iter().filter(|score| **score < bar).count();
    Some(refused as f64 / nobody.len() as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few different values, so that ties are many.
    fn scores() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec((0_u8..12).prop_map(|step| f64::from(step) / 11.0), 1..60)
    }

    fn counted(somebody: &[f64], nobody: &[f64]) -> f64 {
        let mut sum = 0.0;
        for a in somebody {
            for b in nobody {
                sum += if a > b {
                    1.0
                } else if (a - b).abs() < f64::EPSILON {
                    0.5
                } else {
                    0.0
                };
            }
        }
        sum / (somebody.len() * nobody.len()) as f64
    }

    proptest! {
        #[test]
        fn auroc_is_what_counting_all_pairs_gives(somebody in scores(), nobody in scores()) {
            let area = auroc(&somebody, &nobody).unwrap();
            prop_assert!((area - counted(&somebody, &nobody)).abs() < 1e-12);
        }

        #[test]
        fn exchanging_the_two_kinds_mirrors_the_area(somebody in scores(), nobody in scores()) {
            let sum = auroc(&somebody, &nobody).unwrap() + auroc(&nobody, &somebody).unwrap();
            prop_assert!((sum - 1.0).abs() < 1e-12);
        }

        #[test]
        fn only_the_order_of_the_scores_counts(somebody in scores(), nobody in scores()) {
            let bent = |scores: &[f64]| scores.iter().map(|score| score.powi(3) * 0.5 - 7.0).collect::<Vec<_>>();
            let (a, b) = (auroc(&somebody, &nobody).unwrap(), auroc(&bent(&somebody), &bent(&nobody)).unwrap());
            prop_assert!((a - b).abs() < 1e-12);
            let recall = recall_at_kept(&somebody, &nobody, 0.95);
            prop_assert_eq!(recall, recall_at_kept(&bent(&somebody), &bent(&nobody), 0.95));
        }

        #[test]
        fn the_bar_keeps_what_it_says_and_no_higher_one_does(
            somebody in scores(), nobody in scores(), kept in 0.05..1.0_f64,
        ) {
            let share = |bar: f64| somebody.iter().filter(|score| **score >= bar).count() as f64 / somebody.len() as f64;
            let bars: Vec<f64> = somebody.iter().copied().filter(|bar| share(*bar) >= kept - 1e-9).collect();
            let bar = bars.into_iter().fold(f64::NEG_INFINITY, f64::max);
            let refused = nobody.iter().filter(|score| **score < bar).count() as f64 / nobody.len() as f64;
            prop_assert_eq!(recall_at_kept(&somebody, &nobody, kept), Some(refused));
        }
    }

    #[test]
    fn without_one_of_the_kinds_there_is_nothing_to_tell_apart() {
        assert_eq!((auroc(&[], &[0.1]), auroc(&[0.1], &[])), (None, None));
        assert_eq!((recall_at_kept(&[], &[0.1], 0.95), recall_at_kept(&[0.1], &[], 0.95)), (None, None));
    }

    #[test]
    fn of_twenty_nineteen_are_kept() {
        let somebody: Vec<f64> = (0..20).map(|at| f64::from(at) / 20.0).collect();
        // The bar is the second lowest score.
        assert_eq!(recall_at_kept(&somebody, &[0.0, 0.04, 0.05, 0.06], 0.95), Some(0.5));
    }

    #[test]
    fn a_score_that_says_nothing_is_worth_a_coin() {
        assert_eq!(auroc(&[0.5; 7], &[0.5; 3]), Some(0.5));
        assert_eq!(recall_at_kept(&[0.5; 7], &[0.5; 3], 0.95), Some(0.0));
    }
}
