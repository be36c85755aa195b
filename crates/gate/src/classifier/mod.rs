//! The classifier: which of some classes a text belongs to, whether it belongs to any, and how sure that is. The same
//! code judges experts and the values of a dimension, with vectors of the encoder or of the token table.
//!
//! `heads` find evidence, `blend` turns it into probabilities over the classes, `calibration` into the two chances that
//! matter (some class at all; the best class right), and `folds` provides all three with texts they have not seen.

mod blend;
mod calibration;
mod folds;
mod learn;
mod logistic;
#[cfg(test)]
mod tests;

use blend::Blend;
use calibration::Calibration;
use folds::Unseen;

use crate::heads::{Depth, Heads, Item};
use crate::signals::Signals;

/// Probability of all the classes together that the first look ruled out.
const RULED_OUT: f64 = 1e-3;

/// What a classifier learns from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Corpus {
    pub(crate) classes: Vec<Class>,
    /// Texts that belong to no class.
    pub(crate) background: Vec<Signals>,
    /// Labelled queries that are learned from by nobody, to calibrate on; empty: folds of the rest are used.
    pub(crate) held_out: Vec<(Signals, Option<usize>)>,
}

/// One class: an expert, or a value of a dimension.
#[derive(Clone, Debug, Default)]
pub(crate) struct Class {
    /// Name and summary.
    pub(crate) card: Signals,
    /// May be empty.
    pub(crate) examples: Vec<Signals>,
}

/// What the heads say of one text.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// P(class | it belongs to some class), in the order of the classes; sums to 1.
    pub(crate) known: Vec<f64>,
    /// P(it belongs to none), calibrated where `calibrated` says so.
    pub(crate) nobody: f64,
    /// For each class its closest example, by index, and the cosine to it; of many classes, for the likeliest 16, and for
    /// none at a glance.
    pub(crate) closest: Vec<Option<(usize, f64)>>,
}

/// A held-out prediction: what the classifier would have said had it not known the text.
#[derive(Clone, Debug)]
pub(crate) struct HeldOut {
    pub(crate) truth: Option<usize>,
    /// The class it thought best.
    pub(crate) best: usize,
    /// P(best), the chance that it belongs to none included: 0..=1.
    pub(crate) confidence: f64,
    /// P(it belongs to none).
    pub(crate) nobody: f64,
    /// How much it counts, so that background and examples stand in the share that is expected live.
    pub(crate) weight: f64,
}

/// Fitted once, read from by many; a reading takes no lock and changes nothing.
#[derive(Debug)]
pub(crate) struct Classifier {
    heads: Heads,
    classes: usize,
    blend: Blend,
    calibration: Calibration,
    held_out: Vec<HeldOut>,
    calibrated: bool,
}

impl Classifier {
    /// Takes seconds for thousands of texts, on two threads: not for a thread that serves queries. The same corpus
    /// gives the same classifier.
    pub(crate) fn fit(corpus: &Corpus) -> Self {
        Self::with(corpus, Depth::Close)
    }

    /// One that reads at a glance, in a seventh of the time: for the static tier. It names no closest examples.
    pub(crate) fn glance(corpus: &Corpus) -> Self {
        Self::with(corpus, Depth::Glance)
    }

    fn with(corpus: &Corpus, depth: Depth) -> Self {
        let cards: Vec<Signals> = corpus.classes.iter().map(|class| class.card.clone()).collect();
        let items = items(corpus);
        let further: Vec<&Signals> = corpus.held_out.iter().map(|(signals, _)| signals).collect();
        let (heads, unseen, evidence) = folds::fit(&cards, &items, &further, depth);
        let given: Vec<Unseen> = evidence
            .into_iter()
            .zip(&corpus.held_out)
            .map(|(evidence, (_, class))| Unseen { class: *class, evidence })
            .collect();
        let learn::Learned { blend, calibration, held_out, calibrated } = learn::learn(&unseen, &given);
        Self { heads, classes: cards.len(), blend, calibration, held_out, calibrated }
    }

    /// The classifier for classes most of which this one has: `kept` says for each class of the corpus which one here it
    /// is, and `None` that it is new. A fraction of the time of a fit, for until one is made: what is known of the kept
    /// classes stands, and the new ones are learned beside it.
    ///
    /// Not calibrated: nobody has seen yet how it does. The predictions are those made here, without what they say of
    /// classes that are gone.
    pub(crate) fn extended(&self, corpus: &Corpus, kept: &[Option<usize>]) -> Self {
        let cards: Vec<Signals> = corpus.classes.iter().map(|class| class.card.clone()).collect();
        let mut now = vec![None; self.classes];
        for (class, old) in kept.iter().enumerate() {
            if let Some(old) = old {
                now[*old] = Some(class);
            }
        }
        let still = |said: &HeldOut| {
            let truth = said.truth.map(|truth| now[truth].ok_or(()));
            Some(HeldOut { truth: truth.transpose().ok()?, best: now[said.best]?, ..said.clone() })
        };
        Self {
            heads: self.heads.extended(&cards, &items(corpus), kept),
            classes: cards.len(),
            blend: self.blend.clone(),
            calibration: self.calibration.clone(),
            held_out: self.held_out.iter().filter_map(still).collect(),
            calibrated: false,
        }
    }

    /// Without classes every text is nobody's.
    pub(crate) fn read(&self, signals: &Signals) -> Reading {
        let mut reading = Reading { known: vec![0.0; self.classes], nobody: 1.0, closest: vec![None; self.classes] };
        let evidence = self.heads.read(signals);
        let mut known = self.blend.known(&evidence.candidates);
        if known.is_empty() {
            return reading;
        }
        let verdict = self.calibration.judge(&evidence, &known);
        reading.nobody = verdict.nobody;
        let others = 1.0 - known[verdict.best];
        let scale = if others > 0.0 { (1.0 - verdict.right) / others } else { 0.0 };
        for (at, p) in known.iter_mut().enumerate() {
            *p = if at == verdict.best { verdict.right } else { *p * scale };
        }
        self.spread(&mut reading.known, evidence.candidates.iter().map(|candidate| candidate.class).zip(known));
        for candidate in &evidence.candidates {
            reading.closest[candidate.class] = candidate.closest.map(|(at, cosine)| (at, f64::from(cosine)));
        }
        reading
    }

    /// One a text: the corpus' `held_out` where it has any; else the examples, class by class, and then the background,
    /// evenly thinned to 4,000 of each. Two classifiers over the same texts have the same ones at the same places.
    pub(crate) fn held_out(&self) -> &[HeldOut] {
        &self.held_out
    }

    /// Whether the probabilities may be taken at their word: enough held-out texts of both kinds, and what was said of
    /// them was true as often as it claimed.
    pub(crate) fn calibrated(&self) -> bool {
        self.calibrated
    }

    /// The shortlist's probabilities to their classes, and a little to those that are not on it.
    fn spread(&self, known: &mut [f64], shortlist: impl ExactSizeIterator<Item = (usize, f64)>) {
        let ruled_out = self.classes - shortlist.len();
        let kept = if ruled_out == 0 { 1.0 } else { 1.0 - RULED_OUT };
        known.fill(RULED_OUT / ruled_out.max(1) as f64);
        let mut sum = 0.0;
        for (class, p) in shortlist {
            known[class] = kept * p;
            sum += p;
        }
        // What rounding, or a lone class that nobody competes with, leaves short of one.
        let all = kept * sum + (1.0 - kept);
        for p in known {
            *p /= all;
        }
    }
}

fn items(corpus: &Corpus) -> Vec<Item<'_>> {
    let examples = corpus.classes.iter().enumerate().flat_map(|(class, of)| {
        of.examples.iter().enumerate().map(move |(at, signals)| Item { signals, class: Some(class), at })
    });
    let background = corpus.background.iter().enumerate().map(|(at, signals)| Item { signals, class: None, at });
    examples.chain(background).collect()
}
