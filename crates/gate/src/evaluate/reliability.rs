//! Whether stated confidences hold: of what was said with 70 % confidence, are 70 % right? And what one gets for being
//! more careful. Pure.

use serde::Serialize;

/// Equal parts of 0..=1 that confidences are sorted into.
pub const BINS: usize = 15;

/// A statement: how sure it was, in 0..=1, and whether it was right.
pub type Statement = (f64, bool);

/// The statements whose confidence lies in `from..to`; the last bin has 1 as well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    pub from: f64,
    pub to: f64,
    pub rows: usize,
    /// Their mean.
    pub confidence: f64,
    /// The share of them that was right.
    pub right: f64,
}

/// What a bar brings: of all statements, `coverage` are as confident or more, and of those `risk` are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    pub coverage: f64,
    pub risk: f64,
}

/// The bins that have statements, by rising confidence.
pub fn bins(statements: &[Statement]) -> Vec<Bin> {
    let mut sums = [(0_usize, 0.0_f64, 0_usize); BINS];
    for &(confidence, right) in statements {
        let at = ((confidence * BINS as f64) as usize).min(BINS - 1);
        let (rows, confidences, rights) = &mut sums[at];
        *rows += 1;
        *confidences += confidence;
        *rights += usize::from(right);
    }
    let bin = |(at, &(rows, confidences, rights)): (usize, &(usize, f64, usize))| Bin {
        from: at as f64 / BINS as f64,
        to: (at + 1) as f64 / BINS as f64,
        rows,
        confidence: confidences / rows as f64,
        right: rights as f64 / rows as f64,
    };
    sums.iter().enumerate().filter(|(_, (rows, ..))| *rows > 0).map(bin).collect()
}

/// Expected calibration error: over the bins, how far the share that was right lies from the mean confidence, weighted
/// by the bin's share of the statements. `None` without statements.
pub fn ece(statements: &[Statement]) -> Option<f64> {
    if statements.is_empty() {
        return None;
    }
    let gap = |bin: Bin| bin.rows as f64 * (bin.right - bin.confidence).abs();
    Some(bins(statements).into_iter().map(gap).sum::<f64>() / statements.len() as f64)
}

/// One point for each confidence that was stated, from the highest bar to none: statements of one confidence pass or
/// fail together, as no bar can part them.
pub fn risk_coverage(statements: &[Statement]) -> Vec<Point> {
    let mut falling = statements.to_vec();
    falling.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let mut points = Vec::new();
    let (mut taken, mut wrong) = (0_usize, 0_usize);
    for group in falling.chunk_by(|(a, _), (b, _)| a.total_cmp(b).is_eq()) {
        taken += group.len();
        wrong += group.iter().filter(|(_, right)| !right).count();
        points.push(Point { coverage: taken as f64 / statements.len() as f64, risk: wrong as f64 / taken as f64 });
    }
    points
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn statements() -> impl Strategy<Value = Vec<Statement>> {
        prop::collection::vec(((0_u16..=1000).prop_map(|step| f64::from(step) / 1000.0), any::<bool>()), 1..120)
    }

    proptest! {
        /// Of `all` statements with confidence `right / all`, `right` are right.
        #[test]
        fn what_holds_exactly_has_no_error(groups in prop::collection::vec((1_usize..40, 0_usize..40), 1..12)) {
            let statements: Vec<Statement> = groups
                .iter()
                .flat_map(|&(all, right)| {
                    let right = right.min(all);
                    (0..all).map(move |at| (right as f64 / all as f64, at < right))
                })
                .collect();
            prop_assert!(ece(&statements).unwrap() < 1e-12);
        }

        #[test]
        fn every_statement_is_in_one_bin_and_the_error_is_a_share(statements in statements()) {
            let bins = bins(&statements);
            prop_assert_eq!(bins.iter().map(|bin| bin.rows).sum::<usize>(), statements.len());
            for bin in &bins {
                prop_assert!(bin.from <= bin.confidence + 1e-12 && bin.confidence <= bin.to + 1e-12);
            }
            prop_assert!((0.0..=1.0).contains(&ece(&statements).unwrap()));
        }

        #[test]
        fn the_curve_ends_with_everything_and_its_points_are_what_bars_bring(statements in statements()) {
            let points = risk_coverage(&statements);
            let wrong = statements.iter().filter(|(_, right)| !right).count() as f64 / statements.len() as f64;
            let last = points.last().unwrap();
            prop_assert!((last.coverage - 1.0).abs() < 1e-12 && (last.risk - wrong).abs() < 1e-12);
            prop_assert!(points.is_sorted_by(|a, b| a.coverage < b.coverage));
            for (bar, _) in &statements {
                let above: Vec<_> = statements.iter().filter(|(confidence, _)| confidence >= bar).collect();
                let coverage = above.len() as f64 / statements.len() as f64;
                let risk = above.iter().filter(|(_, right)| !right).count() as f64 / above.len() as f64;
                prop_assert!(points.iter().any(|it| (it.coverage - coverage).abs() < 1e-12 && (it.risk - risk).abs() < 1e-12));
            }
        }
    }

    #[test]
    fn being_sure_and_wrong_is_the_whole_error() {
        assert_eq!(ece(&[(1.0, false), (1.0, false)]), Some(1.0));
        assert_eq!(ece(&[(1.0, true), (0.0, false)]), Some(0.0));
        assert_eq!(ece(&[]), None);
    }

    #[test]
    fn the_borders_belong_to_the_bin_above_and_one_to_the_last() {
        let found: Vec<f64> =
            bins(&[(0.0, true), (0.2, true), (1.0, true)]).iter().map(|bin| bin.from * 15.0).collect();
        assert_eq!(found, [0.0, 3.0, 14.0]);
    }

    #[test]
    fn statements_in_one_bin_may_make_up_for_each_other() {
        // 0.61 and right, 0.65 and wrong: the bin says 0.63, a half is right.
        assert!((ece(&[(0.61, true), (0.65, false)]).unwrap() - 0.13).abs() < 1e-12);
    }
}
