//! From what the heads found to how sure one may be: P(some class | text) and P(the best class is right | some class).
//!
//! Two questions get two scores, because one score answers the second badly: a softmax over a few broad classes is sure
//! of itself on foreign text (measured on ten domains: OOS AUROC 87 with the class score, 97 with one of its own).

use super::logistic::{Logistic, Sample, logit};
use crate::heads::{CENTRE, COSINE, Evidence, LEXICAL, LINEAR, NEIGHBOURS, PROTOTYPES};

/// Facts that decide whether the text is any class's business, and whether the best class is right.
const SCOPE: usize = 15;
const RIGHT: usize = 12;
/// Without anything to learn from: a text is some class's business when it is nearer to examples than to background.
const GAP_PRIOR: f64 = 12.0;
const OPEN_PRIOR: f64 = 1.0;
/// Either side needs so many texts before anything is learned from them.
const LEAST: usize = 10;

#[derive(Clone, Debug)]
pub(crate) struct Calibration {
    somebody: Logistic<SCOPE>,
    right: Logistic<RIGHT>,
}

/// A text that the heads had not seen, read by them, with the truth and how much it counts.
#[derive(Clone, Debug)]
pub(crate) struct Witness<'a> {
    pub(crate) evidence: &'a Evidence,
    /// P(class | some class) over the candidates.
    pub(crate) known: Vec<f64>,
    pub(crate) truth: Option<usize>,
    pub(crate) weight: f64,
}

/// What the calibration makes of one text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// The best candidate, by its place on the shortlist.
    pub(crate) best: usize,
    pub(crate) nobody: f64,
    /// P(the best is right | some class is).
    pub(crate) right: f64,
}

impl Calibration {
    pub(crate) fn fit(witnesses: &[&Witness<'_>]) -> Self {
        let (scope, right) = samples(witnesses);
        Self {
            somebody: if is_two_sided(&scope) { Logistic::fit(&scope) } else { Logistic::prior() },
            right: if is_two_sided(&right) { Logistic::fit(&right) } else { Logistic::prior() },
        }
    }

    /// Corrects what is known by texts of another kind.
    pub(crate) fn refit(&self, witnesses: &[&Witness<'_>]) -> Self {
        let (scope, right) = samples(witnesses);
        Self {
            somebody: if is_two_sided(&scope) { self.somebody.refit(&scope) } else { self.somebody.clone() },
            right: if is_two_sided(&right) { self.right.refit(&right) } else { self.right.clone() },
        }
    }

    /// `known` has one entry a candidate, at least one.
    pub(crate) fn judge(&self, evidence: &Evidence, known: &[f64]) -> Verdict {
        let ranking = Ranking::new(known);
        let somebody = self.somebody.probability(&scope_facts(evidence, &ranking), scope_prior(evidence));
        let right = if known.len() == 1 {
            1.0
        } else {
            // The best stays the best: below this the second would overtake it.
            let least = ranking.second / (1.0 - ranking.first + ranking.second).max(1e-12);
            self.right.probability(&right_facts(evidence, &ranking), logit(ranking.first)).max(least)
        };
        Verdict { best: ranking.best, nobody: 1.0 - somebody, right }
    }
}

/// From one side alone it would learn that the other does not exist.
fn is_two_sided<const N: usize>(samples: &[Sample<N>]) -> bool {
    let yes = samples.iter().filter(|sample| sample.truth).count();
    yes.min(samples.len() - yes) >= LEAST
}

fn samples(witnesses: &[&Witness<'_>]) -> (Vec<Sample<SCOPE>>, Vec<Sample<RIGHT>>) {
    let scope = witnesses.iter().map(|witness| scope_sample(witness)).collect();
    (scope, witnesses.iter().filter_map(|witness| right_sample(witness)).collect())
}

/// The best candidate, and by how much.
struct Ranking {
    best: usize,
    first: f64,
    second: f64,
}

impl Ranking {
    fn new(known: &[f64]) -> Self {
        let mut ranking = Self { best: 0, first: 0.0, second: 0.0 };
        for (at, &p) in known.iter().enumerate() {
            if p > ranking.first {
                ranking = Self { best: at, first: p, second: ranking.first };
            } else if p > ranking.second {
                ranking.second = p;
            }
        }
        ranking
    }

    /// Log-odds of the best, and of the best against the second. Bounded: past the bounds they only say "certain".
    fn facts(&self) -> [f64; 2] {
        [logit(self.first), (self.first.max(1e-6) / self.second.max(1e-6)).ln()].map(|fact| fact.clamp(-3.0, 8.0))
    }
}

fn scope_sample(witness: &Witness<'_>) -> Sample<SCOPE> {
    Sample {
        facts: scope_facts(witness.evidence, &Ranking::new(&witness.known)),
        prior: scope_prior(witness.evidence),
        truth: witness.truth.is_some(),
        weight: witness.weight,
    }
}

fn right_sample(witness: &Witness<'_>) -> Option<Sample<RIGHT>> {
    let ranking = Ranking::new(&witness.known);
    let best = witness.evidence.candidates.get(ranking.best)?;
    Some(Sample {
        facts: right_facts(witness.evidence, &ranking),
        prior: logit(ranking.first),
        truth: witness.truth? == best.class,
        weight: witness.weight,
    })
}

fn scope_prior(evidence: &Evidence) -> f64 {
    OPEN_PRIOR + GAP_PRIOR * f64::from(evidence.scope.gap)
}

fn scope_facts(evidence: &Evidence, ranking: &Ranking) -> [f64; SCOPE] {
    let scope = &evidence.scope;
    let [odds, lead] = ranking.facts();
    let largest = |head: usize| {
        f64::from(evidence.candidates.iter().map(|candidate| candidate.heads[head]).fold(-COSINE, f32::max) / COSINE)
    };
    let [linear, lexical, prototypes, neighbours] = bests(evidence, ranking);
    [
        odds,
        lead,
        f64::from(scope.gap),
        f64::from(scope.near),
        f64::from(scope.wide_gap),
        f64::from(scope.linear),
        f64::from(scope.lexical),
        f64::from(scope.unseen[0]),
        f64::from(scope.unseen[1]),
        largest(PROTOTYPES),
        largest(CENTRE),
        linear,
        lexical,
        prototypes,
        neighbours,
    ]
}

fn right_facts(evidence: &Evidence, ranking: &Ranking) -> [f64; RIGHT] {
    let scope = &evidence.scope;
    let [odds, lead] = ranking.facts();
    let [linear, lexical, prototypes, neighbours] = bests(evidence, ranking);
    let agrees = |head: usize| {
        let own = evidence.candidates.get(ranking.best).map_or(0.0, |best| best.heads[head]);
        f64::from(u8::from(evidence.candidates.iter().all(|candidate| candidate.heads[head] <= own)))
    };
    [
        odds,
        lead,
        linear,
        lexical,
        prototypes,
        neighbours,
        agrees(LINEAR),
        agrees(LEXICAL),
        agrees(PROTOTYPES),
        f64::from(scope.near),
        f64::from(scope.unseen[0]),
        f64::from(scope.unseen[1]),
    ]
}

/// What the linear and the lexical head, prototypes and neighbours say of the best candidate.
fn bests(evidence: &Evidence, ranking: &Ranking) -> [f64; 4] {
    let best = evidence.candidates.get(ranking.best);
    [LINEAR, LEXICAL, PROTOTYPES, NEIGHBOURS]
        .map(|head| best.map_or(0.0, |candidate| f64::from(candidate.heads[head]).max(-8.0)))
}
