//! When the static tier may be believed: where its own bars and this query's allow no other choice than the encoder's.

use super::{Walk, best};
use crate::bars::in_scope;
use crate::classifier::Reading;
use crate::reading::Trust;

impl Trust for Walk<'_> {
    fn experts(&self, reading: &Reading) -> bool {
        let fast = self.knowledge.classifiers.as_ref().and_then(|classifiers| classifiers.fast.as_ref());
        let Some(bar) = fast.map(|fast| fast.bar) else { return false };
        let Some((at, known)) = best(&reading.known) else { return false };
        let probability = (1.0 - reading.nobody) * known;
        let options = &self.knowledge.options;
        // With a second expert in reach of the floor the encoder has to say which.
        let floor = self.bar.map_or(options.floor, |bar| options.floor.min(bar));
        let alone = self.top_k == 1 || probability > 1.0 - floor;
        let preference_agrees = || best(&self.with_preference(&reading.known).0).map(|(at, _)| at);
        alone
            && in_scope(probability, reading.nobody, options.refuse_above)
            && probability >= bar.max(self.bar_of(at))
            && (self.verdict.preferred().next().is_none() || preference_agrees() == Some(at))
    }

    fn needs(&self, at: usize) -> bool {
        let axis = &self.knowledge.axes[at];
        axis.classifiers.is_some() && !self.dimensions.iter().any(|reading| reading.name == axis.name)
    }

    fn axis(&self, at: usize, reading: &Reading) -> bool {
        let axis = &self.knowledge.axes[at];
        let fast = axis.classifiers.as_ref().and_then(|classifiers| classifiers.fast.as_ref());
        let probability = (1.0 - reading.nobody) * best(&reading.known).map_or(0.0, |(_, known)| known);
        fast.is_some_and(|fast| probability >= fast.bar.max(axis.min_confidence))
    }
}

/// A part of a query: one expert and no dimensions are asked of it.
pub(crate) struct PartTrust<'w, 'a>(pub(crate) &'w Walk<'a>);

impl Trust for PartTrust<'_, '_> {
    fn experts(&self, reading: &Reading) -> bool {
        self.0.experts(reading)
    }

    fn needs(&self, _: usize) -> bool {
        false
    }

    fn axis(&self, _: usize, _: &Reading) -> bool {
        false
    }
}
