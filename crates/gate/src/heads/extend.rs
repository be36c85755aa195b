//! Heads for a set of classes that is nearly the one they were fitted to: some are new, some are gone. What the others
//! look like stands, and the new ones are learned beside them from a sample of the texts, in a fraction of a second.

use std::sync::Arc;

use super::{CloseLook, Heads, Item, Likeness, by_class, cosine, credit, samples, weights};
use crate::signals::Signals;
use crate::vector::Quantised;

/// Texts of the other classes and of nobody that new ones are told apart from: those nearest to any of the new ones, and
/// an even pick of the others.
const NEAREST: usize = 1000;
const OTHERS: usize = 1000;

impl Heads {
    /// `cards` and `items` are those of all classes now; `kept` says which class here each one is, `None` that it is new.
    pub(crate) fn extended(&self, cards: &[Signals], items: &[Item<'_>], kept: &[Option<usize>]) -> Self {
        let classes = cards.len();
        let nobody = (self.linear.outputs() > self.classes).then_some(Some(self.classes));
        let outputs: Vec<Option<usize>> = kept.iter().copied().chain(nobody).collect();
        let vectors = by_class(classes, items);
        let likeness = |class: usize| Arc::new(Likeness::new(&cards[class], &vectors[class], classes));
        let is_new = |class: usize| kept[class].is_none();
        // A glance has no likenesses, but the new classes' directions are wanted all the same.
        let fresh: Vec<(usize, Arc<Likeness>)> =
            (0..classes).filter(|&class| is_new(class)).map(|class| (class, likeness(class))).collect();
        let picked = pick(items, kept, &fresh, nobody.is_some());
        let new_cards = cards.iter().enumerate().filter(|(class, _)| is_new(*class));
        let (on_vectors, on_grams) = samples(picked.into_iter(), new_cards, &weights(classes, items));
        let mut examples: Vec<usize> = kept.iter().map(|old| old.map_or(0, |old| self.examples[old])).collect();
        for (class, _) in &fresh {
            examples[*class] = vectors[*class].len();
        }
        let mut fresh = fresh.into_iter().map(|(_, likeness)| likeness);
        let close = self.close.as_ref().map(|close| CloseLook {
            classes: kept
                .iter()
                .filter_map(|old| old.map_or_else(|| fresh.next(), |old| close.classes.get(old).cloned()))
                .collect(),
            nobody: Arc::clone(&close.nobody),
        });
        Self {
            classes,
            linear: self.linear.extended(&on_vectors, &outputs),
            lexical: self.lexical.extended(&on_grams, classes, &outputs),
            cards: cards.iter().map(|card| Quantised::new(&card.vector)).collect(),
            credit: credit(&examples),
            examples,
            close,
        }
    }
}

/// The items of the new classes, and of the others a sample that counts for all of them.
fn pick<'a>(
    items: &'a [Item<'a>],
    kept: &[Option<usize>],
    fresh: &[(usize, Arc<Likeness>)],
    nobody: bool,
) -> Vec<(&'a Item<'a>, f32)> {
    if fresh.is_empty() {
        return Vec::new();
    }
    let is_new = |item: &&Item<'_>| item.class.is_some_and(|class| kept[class].is_none());
    let is_read = |item: &&Item<'_>| item.class.is_some() || nobody;
    let (own, others): (Vec<&Item<'_>>, Vec<&Item<'_>>) = items.iter().filter(is_read).partition(is_new);
    let mut others: Vec<(f32, &Item<'_>)> = others
        .into_iter()
        .map(|item| {
            let vector = Quantised::new(&item.signals.vector);
            let near = fresh.iter().map(|(_, likeness)| cosine(&likeness.centre, &vector));
            (near.fold(f32::NEG_INFINITY, f32::max), item)
        })
        .collect();
    let near = others.len().min(NEAREST);
    if near < others.len() {
        // Nearest first; the order of equals, and of what is left, is that of the items.
        others.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    }
    let far = others.split_off(near);
    let few = far.len().min(OTHERS);
    let times = far.len() as f32 / few.max(1) as f32;
    let own = own.into_iter().map(|item| (item, 1.0));
    let near = others.into_iter().map(|(_, item)| (item, 1.0));
    own.chain(near).chain((0..few).map(|at| (far[at * far.len() / few].1, times))).collect()
}

/// The new outputs by themselves, from one on, and all that are kept together as output zero.
#[derive(Debug)]
pub(super) struct Ranks {
    pub(super) of: Vec<usize>,
    pub(super) count: usize,
}

impl Ranks {
    pub(super) fn new(kept: &[Option<usize>]) -> Self {
        let mut count = 1;
        let mut rank = |old: &Option<usize>| {
            if old.is_some() {
                return 0;
            }
            count += 1;
            count - 1
        };
        let of = kept.iter().map(&mut rank).collect();
        Self { of, count }
    }
}

/// The score of several outputs taken together.
pub(super) fn log_sum_exp(scores: impl Iterator<Item = f32> + Clone) -> f32 {
    let largest = scores.clone().fold(f32::NEG_INFINITY, f32::max);
    if !largest.is_finite() {
        return 0.0;
    }
    largest + scores.map(|score| (score - largest).exp()).sum::<f32>().ln()
}
