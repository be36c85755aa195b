//! The quick fit: from what is known of nearly the same experts to what will do for these until they are fitted in whole.
//! An expert that joins is found within a second, and one that leaves is gone, whatever a whole fit takes.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::fit::{Lessons, card};
use crate::knowledge::{Classifiers, Expert, Knowledge, Learned};
use crate::query::Profile;
use crate::rules::RuleSet;
use crate::signals::Spelling;
use crate::vectors::{Tier, Vectors};

/// Texts that are encoded for it, over all the experts that are new: half a second on a core that is busy otherwise.
const FRESH: usize = 40;
/// And for each of them at the least, beside its card.
const FRESH_LEAST: usize = 4;
/// With more new experts at once a whole fit is as quick as encoding all that.
pub(crate) const MOST_NEW: usize = 40;

impl Lessons {
    /// The knowledge for these experts, made from that of most of them under the same settings. What was learned of the
    /// experts that are in both, of nobody and of the dimensions stands; bars come from the same predictions as before, so
    /// an expert with a `max_error` of its own waits for a whole fit. With anything new to learn nothing is calibrated
    /// and the static tier is left out, whose trust has to be earned on held-out queries.
    ///
    /// A fifth of a second beside 150 experts with 100 examples each, of which a whole fit takes ten. Measured there with
    /// eight more experts at once: 97 % of the queries for these are found where each has 100 examples, 92 % with 40, 71 %
    /// with 10 and 46 % with a card alone (after the whole fit 96, 92, 74 and 56 %), and the others lose 0.2 points.
    pub(crate) fn extend(
        self,
        base: &Knowledge,
        vectors: &Vectors,
        encoder: &str,
        errors: Arc<AtomicU64>,
    ) -> Result<Knowledge, Error> {
        let kept: Vec<Option<usize>> = self.profiles.iter().map(|profile| known(base, profile)).collect();
        let Some(before) = base.classifiers.as_ref().filter(|_| kept.iter().any(Option::is_some)) else {
            return self.learn(vectors, encoder, errors);
        };
        let rules = RuleSet::compile(&self.options).map_err(Error::Options)?.counting_in(errors);
        let is_same = kept.len() == base.experts.len() && kept.iter().all(Option::is_some);
        let classifiers = if is_same {
            Arc::clone(before)
        } else {
            let corpus = self.source().corpus(&vectors.of(Tier::Encoder));
            Arc::new(Classifiers { encoder: before.encoder.extended(&corpus, &kept), fast: None })
        };
        let of_axis = |name: &str| base.axes.iter().find(|axis| &*axis.name == name)?.classifiers.clone();
        let learned = Learned {
            experts: self.experts(classifiers.encoder.held_out()),
            classifiers: Some(classifiers),
            axes: self.axes(|name, _| of_axis(name)),
            spelling: Spelling::default(),
        };
        let revision = revision(base, &self.revision(encoder));
        let learned = Learned { spelling: self.spelling, ..learned };
        Ok(Knowledge::new(learned, self.options, rules, revision))
    }
}

/// These profiles with only so many examples of the experts that are new to `base` as are quickly encoded, and with
/// which of the experts those are.
pub(crate) fn at_hand(base: &Knowledge, mut profiles: Vec<Profile>, vectors: &Vectors) -> (Vec<Profile>, Vec<usize>) {
    let new: Vec<usize> = (0..profiles.len()).filter(|&at| known(base, &profiles[at]).is_none()).collect();
    let fresh = (FRESH / new.len().max(1)).max(FRESH_LEAST);
    for &at in &new {
        profiles[at].examples = vectors.at_hand(&profiles[at].examples, fresh);
    }
    (profiles, new)
}

/// Which expert of `base` the profile is of, if all that is learned from is as it was.
fn known(base: &Knowledge, profile: &Profile) -> Option<usize> {
    let is_same = |expert: &Expert| expert.card == card(profile) && expert.examples == profile.examples;
    base.expert(&profile.expert).filter(|&at| is_same(&base.experts[at]))
}

/// What is decided depends on where it came from as well.
fn revision(base: &Knowledge, whole: &str) -> Arc<str> {
    let hash = Sha256::new().chain_update(whole).chain_update("from").chain_update(&*base.revision).finalize();
    let start = hash.iter().take(6).fold(0u64, |start, &byte| start << 8 | u64::from(byte));
    format!("{start:012x}").into()
}
