//! Bars from held-out predictions: how sure is sure enough for a stated error, which experts count as one, and when the
//! static tier may answer. Pure arithmetic on what classifiers would have said of texts that they had not learned from.

use std::collections::HashMap;

use crate::classifier::HeldOut;

/// Two experts are kin when, of the held-out queries of either that went to one of the two, this share went to the
/// other one. Interchangeable experts reach a half; the less their examples have in common, the nearer it is to nothing.
const KIN: f64 = 0.35;
/// Held-out queries that a pair needs before it can count as kin: two confusions among three queries are an accident.
const KIN_QUERIES: f64 = 4.0;
/// The bar that nothing clears, since a probability of 1 is never certain.
pub(crate) const NEVER: f64 = 1.0;

/// Held-out queries that it takes to show that the static tier is safe.
const STATIC_QUERIES: usize = 200;
/// The static tier's lowest bar whatever is shown. What is held out is more like the examples than what people ask next,
/// and n-grams live on likeness: without this, MedQuAD's questions on diseases that nobody had seen lost 3.6 points where
/// 0.2 had been shown, and CLINC150's 0.33 where it had been shown on the examples alone.
const STATIC_LEAST: f64 = 0.94;

/// What a prediction is held against.
pub(crate) struct Judge<'a> {
    /// By class.
    pub(crate) bars: &'a [f64],
    /// As in the options.
    pub(crate) refuse_above: f64,
}

impl Judge<'_> {
    fn accepts(&self, prediction: &HeldOut) -> bool {
        in_scope(prediction.confidence, prediction.nobody, self.refuse_above)
            && self.bars.get(prediction.best).is_some_and(|&bar| prediction.confidence >= bar)
    }

    /// Right is the right class, and for what belongs to none, to accept nothing.
    fn is_right(&self, prediction: &HeldOut) -> bool {
        match prediction.truth {
            Some(truth) => self.accepts(prediction) && prediction.best == truth,
            None => !self.accepts(prediction),
        }
    }
}

/// Whether a class of this probability may be accepted at all where P(nobody) is so much: whatever the bar, what is more
/// likely nobody's than its best class's is no answer. `refuse_above` 1 leaves nobody out of account.
pub(crate) fn in_scope(probability: f64, nobody: f64, refuse_above: f64) -> bool {
    refuse_above >= 1.0 || (nobody <= refuse_above && nobody <= probability)
}

/// The lowest bar on P(class) at which at most `max_error` of the accepted predictions are wrong; [`NEVER`] where there
/// is none. One more error is counted than was seen, so that a bar is not found by luck among a handful of queries:
/// a promise of 2 % takes at least 49 right answers in a row.
pub(crate) fn for_error<'a>(predictions: impl Iterator<Item = &'a HeldOut>, max_error: f64, refuse_above: f64) -> f64 {
    let accepted: Vec<&HeldOut> =
        predictions.filter(|prediction| in_scope(prediction.confidence, prediction.nobody, refuse_above)).collect();
    let one = one_more(accepted.iter().copied());
    let (mut wrong, mut all) = (one, one);
    let mut bar = NEVER;
    for (prediction, is_last) in falling(accepted, |prediction| prediction.confidence) {
        all += prediction.weight;
        if prediction.truth != Some(prediction.best) {
            wrong += prediction.weight;
        }
        if is_last && wrong <= max_error * all {
            bar = prediction.confidence;
        }
    }
    bar
}

/// For each class those that it is confused with on held-out queries, averaged over both directions.
pub(crate) fn kin(predictions: &[HeldOut], classes: usize) -> Vec<Vec<usize>> {
    let mut went: HashMap<(usize, usize), f64> = HashMap::new();
    for prediction in predictions {
        if let Some(truth) = prediction.truth {
            *went.entry((truth, prediction.best)).or_default() += 1.0;
        }
    }
    let count = |from: usize, to: usize| went.get(&(from, to)).copied().unwrap_or_default();
    let mut kin = vec![Vec::new(); classes];
    for &(a, b) in went.keys().filter(|(a, b)| a != b && *a < classes && *b < classes) {
        let share = |from: usize, to: usize| count(from, to) / (count(from, from) + count(from, to)).max(1.0);
        let queries = count(a, a) + count(a, b) + count(b, b) + count(b, a);
        if queries >= KIN_QUERIES && f64::midpoint(share(a, b), share(b, a)) >= KIN {
            kin[a].push(b);
            kin[b].push(a);
        }
    }
    for others in &mut kin {
        others.sort_unstable();
        others.dedup();
    }
    kin
}

/// From which P(class) on the static tier may answer in the encoder's place, so that at most `loss` of all decisions are
/// lost by it; `None` where that cannot be shown. `full` and `cheap` are the two tiers' predictions of the same queries in
/// the same order.
///
/// Going down from the surest query, the loss is the share where the encoder alone is right less the share where the
/// static tier alone is, and the bar stands before the first query at which that and its standard error together exceed
/// `loss`. Before the first, not at the last that keeps it: a sum that wanders is under the line by luck sooner or later.
pub(crate) fn static_bar(full: &[HeldOut], cheap: &[HeldOut], judge: &Judge<'_>, loss: f64) -> Option<f64> {
    if full.len() != cheap.len() || full.len() < STATIC_QUERIES {
        return None;
    }
    let all: f64 = cheap.iter().map(|prediction| prediction.weight).sum();
    let (mut lost, mut variance, mut bar) = (0.0, 0.0, None);
    for ((full, cheap), is_last) in falling(full.iter().zip(cheap).collect(), |(_, cheap)| cheap.confidence) {
        let weight = cheap.weight / all;
        let difference = match (judge.is_right(full), cheap.truth == Some(cheap.best)) {
            (true, false) => weight,
            (false, true) => -weight,
            _ => 0.0,
        };
        lost += difference;
        variance += difference * difference;
        if lost + f64::sqrt(variance) > loss {
            break;
        }
        if is_last {
            bar = Some(cheap.confidence);
        }
    }
    bar.map(|bar| f64::max(bar, STATIC_LEAST))
}

/// The items by falling score, each with whether it is the last of its score: a bar cannot stand between equals.
fn falling<T>(mut items: Vec<T>, score: impl Fn(&T) -> f64) -> impl Iterator<Item = (T, bool)> {
    items.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let scores: Vec<f64> = items.iter().map(score).collect();
    items.into_iter().enumerate().map(move |(at, item)| {
        let is_last = scores.get(at + 1).is_none_or(|next| *next < scores[at]);
        (item, is_last)
    })
}

/// What one more prediction weighs: the mean over the weight itself, so that many light ones beside a few heavy ones do
/// not make those look like many.
fn one_more<'a>(predictions: impl Iterator<Item = &'a HeldOut>) -> f64 {
    let weights = predictions.map(|prediction| prediction.weight);
    let (sum, squares) = weights.fold((0.0, 0.0), |(sum, squares), weight| (sum + weight, squares + weight * weight));
    if sum > 0.0 { squares / sum } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(truth: Option<usize>, best: usize, confidence: f64) -> HeldOut {
        HeldOut { truth, best, confidence, nobody: 1.0 - confidence, weight: 1.0 }
    }

    /// `right` predictions above `wrong` ones.
    fn sure_then_unsure(right: usize, wrong: usize) -> Vec<HeldOut> {
        let right = (0..right).map(|at| said(Some(0), 0, 0.9 + at as f64 * 1e-4));
        right.chain((0..wrong).map(|at| said(Some(1), 0, 0.6 + at as f64 * 1e-4))).collect()
    }

    #[test]
    fn the_bar_is_the_lowest_that_keeps_the_error() {
        let predictions = sure_then_unsure(200, 20);
        let bar = for_error(predictions.iter(), 0.02, 1.0);
        let accepted: Vec<_> = predictions.iter().filter(|p| p.confidence >= bar).collect();
        let wrong = accepted.iter().filter(|p| p.truth != Some(p.best)).count();
        assert_eq!((accepted.len(), wrong), (203, 3), "three and one more of 204 is 2 %, four and one more is not");
        assert!((for_error(predictions.iter(), 0.5, 1.0) - 0.6).abs() < 1e-12);
    }

    #[test]
    fn a_handful_of_right_answers_promises_nothing() {
        assert!((for_error(sure_then_unsure(40, 0).iter(), 0.02, 1.0) - NEVER).abs() < 1e-12);
        assert!(for_error(sure_then_unsure(60, 0).iter(), 0.02, 1.0) < 0.95);
        assert!((for_error([].iter(), 0.5, 1.0) - NEVER).abs() < 1e-12);
        // Nor do they beside a thousand that hardly count.
        let mut light = sure_then_unsure(40, 0);
        light.extend((0..1000).map(|_| HeldOut { weight: 1e-3, ..said(Some(0), 0, 0.8) }));
        assert!((for_error(light.iter(), 0.02, 1.0) - NEVER).abs() < 1e-12);
    }

    #[test]
    fn what_is_refused_anyway_is_no_error() {
        let mut predictions = sure_then_unsure(100, 0);
        predictions.extend((0..50).map(|_| HeldOut { nobody: 0.8, ..said(None, 0, 0.99) }));
        assert!(for_error(predictions.iter(), 0.02, 0.5) < 0.95);
        assert!((for_error(predictions.iter(), 0.02, 1.0) - NEVER).abs() < 1e-12);
    }

    #[test]
    fn queries_of_foreign_subjects_count_as_errors_where_they_are_accepted() {
        let mut predictions = sure_then_unsure(100, 0);
        predictions.extend((0..10).map(|_| said(None, 0, 0.905)));
        let bar = for_error(predictions.iter(), 0.02, 0.5);
        assert!(bar > 0.905 && bar < NEVER, "{bar}");
        assert!(for_error(predictions[..100].iter(), 0.02, 0.5) < 0.905);
    }

    #[test]
    fn kin_are_confused_in_both_directions_or_wholly_in_one() {
        let mut predictions = Vec::new();
        for at in 0..10 {
            predictions.push(said(Some(0), 0, 0.5));
            predictions.push(said(Some(1), 0, 0.5)); // a copy of class 0 that loses every tie
            predictions.push(said(Some(2), if at < 2 { 3 } else { 2 }, 0.5));
            predictions.push(said(Some(3), 3, 0.5));
        }
        predictions.push(said(Some(4), 5, 0.5));
        predictions.push(said(Some(5), 4, 0.5));
        assert_eq!(kin(&predictions, 6), [vec![1], vec![0], vec![], vec![], vec![], vec![]]);
    }

    const JUDGE: Judge<'static> = Judge { bars: &[0.5, 0.5], refuse_above: 0.5 };

    #[test]
    fn the_static_tier_answers_as_far_down_as_the_loss_allows() {
        let full: Vec<HeldOut> = (0..1000).map(|_| said(Some(0), 0, 0.99)).collect();
        // Every hundredth query is wrong, from the surest down.
        let cheap: Vec<HeldOut> =
            (0..1000).map(|at| said(Some(0), usize::from(at % 100 == 99), 1.0 - f64::from(at) * 5e-5)).collect();
        let bar = static_bar(&full, &cheap, &JUDGE, 0.005).unwrap();
        let answered = cheap.iter().filter(|prediction| prediction.confidence >= bar);
        // Two wrong and a standard error of 1.4 of a thousand are within five; three and 1.7 are within as well, four
        // and 2 are not.
        assert_eq!(answered.clone().count(), 399);
        assert_eq!(answered.filter(|prediction| prediction.best != 0).count(), 3);
        assert!(static_bar(&full, &cheap, &JUDGE, 0.0005).unwrap() > 0.995);
    }

    #[test]
    fn however_well_it_does_the_static_tier_has_to_be_sure() {
        let same: Vec<HeldOut> = (0..300).map(|at| said(Some(0), 0, 1.0 - f64::from(at) * 1e-3)).collect();
        assert!((static_bar(&same, &same, &JUDGE, 0.002).unwrap() - STATIC_LEAST).abs() < 1e-9);
    }

    #[test]
    fn what_the_encoder_gets_wrong_costs_nothing_and_foreign_queries_do() {
        let wrong: Vec<HeldOut> = (0..300).map(|_| said(Some(1), 0, 0.9)).collect();
        assert!(static_bar(&wrong, &wrong, &JUDGE, 0.002).is_some());
        let foreign = |confidence: f64| HeldOut { nobody: 1.0 - confidence, ..said(None, 0, confidence) };
        let full: Vec<HeldOut> = (0..300).map(|_| foreign(0.1)).collect();
        let cheap: Vec<HeldOut> = (0..300).map(|_| foreign(0.9)).collect();
        assert_eq!(static_bar(&full, &cheap, &JUDGE, 0.002), None);
    }

    #[test]
    fn without_pairs_or_enough_of_them_the_static_tier_is_off() {
        let few: Vec<HeldOut> = (0..STATIC_QUERIES).map(|_| said(Some(0), 0, 0.99)).collect();
        assert!(static_bar(&few, &few, &JUDGE, 0.002).is_some());
        assert_eq!(static_bar(&few, &few[1..], &JUDGE, 0.5), None);
        assert_eq!(static_bar(&few[1..], &few[1..], &JUDGE, 0.5), None);
    }

    proptest! {
        #[test]
        fn the_promised_error_holds_on_what_it_was_picked_on(
            predictions in prop::collection::vec(
                (0..3usize, 0..2usize, 0.0..=1.0f64)
                    .prop_map(|(truth, best, p)| said((truth < 2).then_some(truth), best, p)),
                0..300,
            ),
            max_error in 0.0..0.9f64,
        ) {
            let bar = for_error(predictions.iter(), max_error, 1.0);
            let accepted: Vec<_> = predictions.iter().filter(|p| p.confidence >= bar).collect();
            let wrong = accepted.iter().filter(|p| p.truth != Some(p.best)).count();
            prop_assert!(bar >= NEVER || wrong as f64 <= max_error * accepted.len() as f64);
        }
    }
}
