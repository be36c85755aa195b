//! Held-out evidence: every example read by heads that were fitted without it. What a classifier says of texts that it
//! has learned by heart is no measure of what it says of others, so blend and calibration are learned from these.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::heads::{Depth, Evidence, Heads, Item};
use crate::signals::{Signals, Sparse};

/// Below this many texts there are more folds, so that each leaves more to learn from.
const FEW: usize = 4000;
/// At most so many examples, and so many background texts, are read held out: enough for thirty weights, and reading
/// fifteen thousand would cost as much as fitting.
const MOST: usize = 4000;
/// Fitting runs beside live queries, so it takes two threads however many there are.
const THREADS: usize = 2;

/// A text and what heads that had not seen it make of it.
#[derive(Debug)]
pub(crate) struct Unseen {
    pub(crate) class: Option<usize>,
    pub(crate) evidence: Evidence,
}

/// The heads fitted on everything, the held-out evidence of the items in their order (of many, evenly picked ones), and
/// what the heads make of the `further` texts, which are not learned from.
pub(crate) fn fit(
    cards: &[Signals],
    items: &[Item<'_>],
    further: &[&Signals],
    depth: Depth,
) -> (Heads, Vec<Unseen>, Vec<Evidence>) {
    let count = if items.len() < FEW { 5 } else { 3 };
    let folds = folds(items, count);
    let picked = picked(items);
    let mut results = parallel(count + 1, |job| {
        let Some(fold) = job.checked_sub(1) else {
            let heads = Heads::fit(cards, items, depth);
            let evidence = further.iter().map(|signals| heads.read(signals)).collect();
            return Job::All(Box::new(heads), evidence);
        };
        let rest: Vec<Item<'_>> =
            items.iter().zip(&folds).filter(|(_, of)| **of != fold).map(|(item, _)| *item).collect();
        let heads = Heads::fit(cards, &rest, depth);
        let own = picked.iter().filter(|at| folds[**at] == fold);
        Job::Fold(own.map(|&at| (at, heads.read(items[at].signals))).collect())
    });
    let mut unseen: Vec<(usize, Evidence)> = Vec::with_capacity(picked.len());
    let mut all = None;
    for result in results.drain(..) {
        match result {
            Job::All(heads, evidence) => all = Some((*heads, evidence)),
            Job::Fold(read) => unseen.extend(read),
        }
    }
    unseen.sort_unstable_by_key(|(at, _)| *at);
    let unseen = unseen.into_iter().map(|(at, evidence)| Unseen { class: items[at].class, evidence }).collect();
    // Job 0 always runs; the alternative is only what the types cannot rule out.
    let (heads, evidence) = all.unwrap_or_else(|| (Heads::fit(cards, items, depth), Vec::new()));
    (heads, unseen, evidence)
}

enum Job {
    All(Box<Heads>, Vec<Evidence>),
    Fold(Vec<(usize, Evidence)>),
}

/// The fold of every item: dealt out class by class, so that each fold has its share of each, and the same text, however
/// often it occurs, to one fold.
fn folds(items: &[Item<'_>], count: usize) -> Vec<usize> {
    let mut dealt: HashMap<Option<usize>, usize> = HashMap::new();
    let mut seen: HashMap<&[u32], usize> = HashMap::new();
    items
        .iter()
        .map(|item| {
            let Sparse { at, .. } = &*item.signals.lexical;
            let next = dealt.entry(item.class).or_default();
            let mut deal = || {
                // The offset by class keeps classes of one example from all falling into the first fold.
                let fold = (*next + item.class.unwrap_or_default()) % count;
                *next += 1;
                fold
            };
            if at.is_empty() { deal() } else { *seen.entry(at).or_insert_with(deal) }
        })
        .collect()
}

/// Which items are read held out: all, or of each kind an even pick.
fn picked(items: &[Item<'_>]) -> Vec<usize> {
    let of_kind = |nobody: bool| {
        let all: Vec<usize> = (0..items.len()).filter(|&at| items[at].class.is_none() == nobody).collect();
        let kept = all.len().min(MOST);
        (0..kept).map(move |pick| all[pick * all.len() / kept]).collect::<Vec<_>>()
    };
    let mut picked = of_kind(false);
    picked.extend(of_kind(true));
    picked.sort_unstable();
    picked
}

/// Runs every job once on a few threads, this one included; the results come in no order. A panic goes on here.
fn parallel<T: Send>(jobs: usize, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut results = Vec::new();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= jobs {
                return results;
            }
            results.push(run(job));
        }
    };
    thread::scope(|scope| {
        // A thread that cannot be had is no loss but of time: this one does all the work that is left.
        let others: Vec<_> = (1..THREADS)
            .filter_map(|_| thread::Builder::new().name("gate-fit".to_owned()).spawn_scoped(scope, work).ok())
            .collect();
        let mut results = work();
        for other in others {
            match other.join() {
                Ok(more) => results.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::signals::lexical;

    fn signals(text: &str) -> Signals {
        Signals::new(Arc::default(), Arc::new(lexical(text)))
    }

    #[test]
    fn every_fold_has_its_share_and_the_same_text_never_stands_on_both_sides() {
        let texts: Vec<Signals> = (0..40).map(|at| signals(&format!("text number{}", at / 2))).collect();
        let items: Vec<Item<'_>> =
            texts.iter().enumerate().map(|(at, signals)| Item { signals, class: Some(at % 2), at }).collect();
        let folds = folds(&items, 5);
        for pair in folds.chunks(2) {
            assert_eq!(pair[0], pair[1]);
        }
        for fold in 0..5 {
            assert_eq!(folds.iter().filter(|of| **of == fold).count(), 8);
        }
    }

    #[test]
    fn every_job_runs_once() {
        let mut results = parallel(100, |job| job);
        results.sort_unstable();
        assert_eq!(results, (0..100).collect::<Vec<_>>());
        assert!(parallel(0, |job| job).is_empty());
    }

    #[test]
    fn of_many_an_even_pick_is_read() {
        let text = signals("text");
        let items: Vec<Item<'_>> =
            (0..3 * MOST).map(|at| Item { signals: &text, class: (at % 3 != 0).then_some(at % 7), at }).collect();
        let picked = picked(&items);
        assert_eq!(picked.len(), 2 * MOST);
        assert_eq!(picked.iter().filter_map(|at| items[*at].class).collect::<BTreeSet<_>>().len(), 7);
    }
}
