//! From held-out evidence to blend, calibration and the predictions that bars are chosen on. Which texts count for what,
//! and how much, is decided here.

use super::HeldOut;
use super::blend::Blend;
use super::calibration::{Calibration, Witness};
use super::folds::Unseen;
use crate::heads::Candidate;

/// Texts on either side that it takes to call the outcome calibrated.
const ENOUGH_KNOWN: usize = 100;
const ENOUGH_NOBODY: usize = 50;
/// The share of queries for nobody that is expected live. The numbers of examples and background texts do not say:
/// they are what somebody wrote down and not what people ask.
const NOBODY_EXPECTED: f64 = 0.25;
/// Labelled queries do say, but where they hold hardly any for nobody, that is more likely an omission.
const NOBODY_LEAST: f64 = 0.15;
/// Parts of the cross-fitting that makes the predictions honest.
const PARTS: usize = 5;
/// Largest calibration error of those predictions that may call itself calibrated.
const CALIBRATED: f64 = 0.05;
const BINS: usize = 10;

#[derive(Debug)]
pub(super) struct Learned {
    pub(super) blend: Blend,
    pub(super) calibration: Calibration,
    pub(super) held_out: Vec<HeldOut>,
    pub(super) calibrated: bool,
}

/// Learns from the examples and background as read by heads without them (`unseen`), and then from the labelled queries
/// (`given`), if there are any, what is different about what people really ask.
pub(super) fn learn(unseen: &[Unseen], given: &[Unseen]) -> Learned {
    let blend = Blend::prior().learn(&shortlists(unseen)).learn(&shortlists(given));
    let examples = witnesses(unseen, &blend, |_| NOBODY_EXPECTED);
    let of_examples = |part: Option<usize>| Calibration::fit(&without(&examples, part));
    let counts = Counts::of(unseen);
    if given.is_empty() {
        let held_out = predictions(&examples, |part| of_examples(Some(part)));
        let calibrated = counts.suffice() && calibration_error(&held_out) <= CALIBRATED;
        return Learned { blend, calibration: of_examples(None), held_out, calibrated };
    }
    let queries = witnesses(given, &blend, |natural| natural.max(NOBODY_LEAST));
    let before = of_examples(None);
    let held_out = predictions(&queries, |part| before.refit(&without(&queries, Some(part))));
    // A handful of queries can show nothing: then the examples have to have shown it.
    let shown = given.len() >= ENOUGH_KNOWN
        || calibration_error(&predictions(&examples, |part| of_examples(Some(part)))) <= CALIBRATED;
    let counts = counts.max(Counts::of(given));
    let calibrated = shown && counts.suffice() && calibration_error(&held_out) <= CALIBRATED;
    Learned { blend, calibration: before.refit(&without(&queries, None)), held_out, calibrated }
}

/// How many texts are for some class and how many for nobody.
#[derive(Clone, Copy, Debug)]
struct Counts {
    somebody: usize,
    nobody: usize,
}

impl Counts {
    fn of(texts: &[Unseen]) -> Self {
        let somebody = texts.iter().filter(|text| text.class.is_some()).count();
        Self { somebody, nobody: texts.len() - somebody }
    }

    fn max(self, other: Self) -> Self {
        Self { somebody: self.somebody.max(other.somebody), nobody: self.nobody.max(other.nobody) }
    }

    fn suffice(self) -> bool {
        self.somebody >= ENOUGH_KNOWN && self.nobody >= ENOUGH_NOBODY
    }
}

/// The texts with what the blend makes of them. Nobody's share of the weight follows from their share of the texts.
fn witnesses<'a>(texts: &'a [Unseen], blend: &Blend, share: impl Fn(f64) -> f64) -> Vec<Witness<'a>> {
    let counts = Counts::of(texts);
    let (somebody, nobody) = (counts.somebody as f64, counts.nobody as f64);
    let share = share(nobody / (somebody + nobody).max(1.0));
    let weight = if somebody > 0.0 { share / (1.0 - share) * somebody / nobody.max(1.0) } else { 1.0 };
    texts
        .iter()
        .filter(|text| !text.evidence.candidates.is_empty())
        .map(|text| Witness {
            known: blend.known(&text.evidence.candidates),
            evidence: &text.evidence,
            truth: text.class,
            weight: if text.class.is_none() { weight } else { 1.0 },
        })
        .collect()
}

/// All but every fifth, from the given one on.
fn without<'w, 'a>(witnesses: &'w [Witness<'a>], part: Option<usize>) -> Vec<&'w Witness<'a>> {
    let kept = witnesses.iter().enumerate().filter(|(at, _)| Some(at % PARTS) != part);
    kept.map(|(_, witness)| witness).collect()
}

/// What would have been said of each text by a calibration that had not seen it: `calibration(part)`.
fn predictions(witnesses: &[Witness<'_>], calibration: impl Fn(usize) -> Calibration) -> Vec<HeldOut> {
    let calibrations: Vec<Calibration> = (0..PARTS).map(calibration).collect();
    let prediction = |(at, witness): (usize, &Witness<'_>)| {
        let verdict = calibrations[at % PARTS].judge(witness.evidence, &witness.known);
        HeldOut {
            truth: witness.truth,
            best: witness.evidence.candidates[verdict.best].class,
            confidence: (1.0 - verdict.nobody) * verdict.right,
            nobody: verdict.nobody,
            weight: witness.weight,
        }
    };
    witnesses.iter().enumerate().map(prediction).collect()
}

/// The shortlists that the right class is on, and its place there.
fn shortlists(texts: &[Unseen]) -> Vec<(&[Candidate], usize)> {
    texts
        .iter()
        .filter_map(|text| {
            let candidates = &text.evidence.candidates[..];
            Some((candidates, candidates.iter().position(|candidate| Some(candidate.class) == text.class)?))
        })
        .collect()
}

/// The expected calibration error: how far confidence and truth are apart, averaged over bins of confidence. A text for
/// nobody is one that the best class is wrong for. Of each bin one standard error is taken off: 30 texts that are right
/// with a chance of 0.7 are off by 0.08 on average though nothing is wrong with the chance.
fn calibration_error(held_out: &[HeldOut]) -> f64 {
    let mut bins = [Bin::default(); BINS];
    for prediction in held_out {
        let bin = &mut bins[((prediction.confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.texts += 1.0;
        bin.weight += prediction.weight;
        bin.claimed += prediction.weight * prediction.confidence;
        if prediction.truth == Some(prediction.best) {
            bin.right += prediction.weight;
        }
    }
    let all: f64 = bins.iter().map(|bin| bin.weight).sum();
    bins.iter().map(Bin::beyond_chance).sum::<f64>() / all.max(f64::MIN_POSITIVE)
}

#[derive(Clone, Copy, Default)]
struct Bin {
    texts: f64,
    weight: f64,
    claimed: f64,
    right: f64,
}

impl Bin {
    fn beyond_chance(&self) -> f64 {
        if self.weight <= 0.0 {
            return 0.0;
        }
        let claimed = self.claimed / self.weight;
        let chance = (claimed * (1.0 - claimed) / self.texts).sqrt();
        ((self.claimed - self.right).abs() - chance * self.weight).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::{Evidence, HEADS, Scope};

    fn predictions(count: usize, confidence: f64, right: usize) -> Vec<HeldOut> {
        let prediction =
            |at| HeldOut { truth: (at < right).then_some(0), best: 0, confidence, nobody: 0.0, weight: 1.0 };
        (0..count).map(prediction).collect()
    }

    #[test]
    fn the_calibration_error_is_the_distance_of_confidence_and_truth_beyond_chance() {
        assert!(calibration_error(&predictions(1000, 0.75, 750)) < 1e-9);
        assert!(calibration_error(&predictions(20, 0.75, 14)) < 1e-9);
        let boasting = calibration_error(&predictions(1000, 0.95, 500));
        assert!((boasting - 0.45).abs() < 0.01, "{boasting}");
        assert!(calibration_error(&[]) < 1e-12);
    }

    #[test]
    fn nobodys_share_of_the_weight_is_the_expected_one() {
        let evidence = Evidence {
            candidates: vec![Candidate { class: 0, heads: [0.0; HEADS], closest: None }],
            scope: Scope::default(),
        };
        let text = |class| Unseen { class, evidence: evidence.clone() };
        let texts: Vec<Unseen> = (0..90).map(|at| text((at >= 60).then_some(0))).collect();
        let witnesses = witnesses(&texts, &Blend::prior(), |natural| {
            assert!((natural - 60.0 / 90.0).abs() < 1e-9);
            0.25
        });
        let nobody: f64 =
            witnesses.iter().filter(|witness| witness.truth.is_none()).map(|witness| witness.weight).sum();
        assert!((nobody / 40.0 - 0.25).abs() < 1e-9);
    }
}
