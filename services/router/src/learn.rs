//! Keeps the router's view in step with the registry: endpoints at once, experts as soon as the gate has admitted them, and
//! then a whole fit, which may take seconds.
//! What the instances' health changes, it tells the registry and whoever watches the catalogue; picks know by themselves.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use consilium_gate::{Gate, Profile};
use consilium_mesh::{
    health::Latch,
    registry::{Card, Registry, Snapshot},
};
use futures::{FutureExt, future::BoxFuture};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    balance::Lines,
    catalog::{Catalog, newest_first},
    gate::warn_of_bars,
    metrics::Metrics,
};

/// When to try again after the gate could not be fitted.
const FIT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// From so many examples on a whole fit takes about a second.
const MANY_EXAMPLES: usize = 500;

/// How often the first fit is tried.
const FIRST_FITS: usize = 3;

/// How long news of the instances' health is collected before it is passed on: a machine that dies takes many with it.
const COLLECT: Duration = Duration::from_millis(50);

/// How often the registry is told who is gone, as long as it lists them: it keeps many that expired together for a while.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// The one writer of the catalogue.
#[derive(Debug)]
pub(crate) struct Learner {
    /// The mesh's name.
    pub(crate) mesh: String,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) lines: Lines,
    /// What requests are routed by.
    pub(crate) catalog: Arc<ArcSwap<Catalog>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) metrics: Metrics,
    /// Tells everybody else, once the gate knows as well.
    pub(crate) published: watch::Sender<Arc<Catalog>>,
    /// Set once the registry was heard of.
    pub(crate) heard: Latch,
    /// Set once the gate was fitted.
    pub(crate) ready: Latch,
}

/// The cards that the gate learns from, one an expert.
type Cards = Vec<Arc<Card>>;
/// An admission under way, of whom, and whether the gate took them in.
type Admission = BoxFuture<'static, (Cards, Result<bool, consilium_gate::Error>)>;
/// A fit under way, and what it will have taught the gate.
type Fit = BoxFuture<'static, (Cards, Fitted)>;
/// How it went, and how long it took.
type Fitted = (Result<(), consilium_gate::Error>, Duration);

impl Learner {
    /// Follows the registry until `stop`, or until the registry is gone. Endpoints change at once, also while the gate is
    /// being fitted: an instance that leaves must be out of the picks before it stops answering.
    ///
    /// `Err` when the gate cannot be fitted even for the first time: a router that has never known anybody is better
    /// ended than waited for.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), consilium_gate::Error> {
        let mut snapshots = self.registry.watch();
        let mut health = self.lines.news.subscribe();
        let mut tell_at = None;
        let mut forget = interval(FORGET_EVERY);
        forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whom the gate routes to, whom it was fitted to, and whom it was last asked to admit.
        let (mut known, mut fitted, mut offered): (Option<Cards>, Option<Cards>, Option<Cards>) = (None, None, None);
        let mut failures = 0;
        let mut fit: Option<Fit> = None;
        let mut admission: Option<Admission> = None;
        // Whether anybody was admitted since the fit began: they stay on top of it.
        let mut are_more = false;
        snapshots.mark_changed();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.follow(Arc::clone(&snapshots.borrow_and_update()));
                }
                // The sender is in `self.lines`: this does not end.
                _ = health.changed(), if tell_at.is_none() => tell_at = Some(Instant::now() + COLLECT),
                () = until(tell_at) => {
                    tell_at = None;
                    health.mark_unchanged();
                    self.catalog.load().readmit();
                    // The same view: what it shows of an instance is how that is now.
                    self.published.send_modify(|_| {});
                }
                _ = forget.tick() => {
                    let lost = self.catalog.load().lost();
                    if !lost.is_empty() {
                        self.registry.forget(lost);
                    }
                }
                (cards, outcome) = running(&mut admission) => {
                    admission = None;
                    match outcome {
                        Ok(true) => {
                            tracing::info!(experts = cards.len(), revision = %self.gate.revision(), "the gate has admitted experts until it is fitted");
                            known = Some(cards.clone());
                            are_more = true;
                        }
                        Ok(false) => {}
                        Err(error) => {
                            tracing::warn!(error = &error as &dyn std::error::Error, "experts wait until the gate is fitted");
                        }
                    }
                    offered = Some(cards);
                }
                (cards, (outcome, took)) = running(&mut fit) => {
                    fit = None;
                    self.metrics.fitted(outcome.is_ok(), took);
                    match outcome {
                        Ok(()) => {
                            tracing::info!(experts = cards.len(), revision = %self.gate.revision(), "the gate is fitted");
                            warn_of_bars(&self.gate);
                            if !are_more {
                                known = Some(cards.clone());
                            }
                            fitted = Some(cards);
                            offered = None;
                        }
                        Err(error) => {
                            failures += 1;
                            if fitted.is_none() && failures == FIRST_FITS {
                                return Err(error);
                            }
                            tracing::error!(error = &error as &dyn std::error::Error, "the gate keeps what it knew");
                            fit = Some(self.fit(FIT_AGAIN_AFTER));
                            are_more = false;
                        }
                    }
                }
            }
            let catalog = self.catalog.load_full();
            if catalog.snapshot().revision == 0 {
                // Not even that nobody is there is known: there is nothing to learn from.
                continue;
            }
            let cards = cards(catalog.snapshot());
            let is_of = |some: &Option<Cards>| some.as_ref().is_some_and(|some| same(some, &cards));
            if is_of(&known) {
                self.published.send_if_modified(|published| {
                    let changed = !Arc::ptr_eq(published, &catalog);
                    *published = catalog;
                    changed
                });
                self.ready.set();
            } else if admission.is_none() && fitted.is_some() && !is_of(&offered) && is_slow_to_fit(&cards) {
                admission = Some(self.admit(cards.clone()));
            }
            // After the admission, which would otherwise share the processor with the fit.
            // Also after admissions that led back to what was fitted: only a whole fit ends what they left provisional.
            if fit.is_none() && admission.is_none() && (are_more || !is_of(&fitted)) {
                fit = Some(self.fit(Duration::ZERO));
                are_more = false;
            }
        }
    }

    fn follow(&self, snapshot: Arc<Snapshot>) {
        if snapshot.revision == 0 {
            return;
        }
        let known = self.catalog.load();
        if snapshot.experts.contains_key(&self.mesh) && !known.knows(&self.mesh) {
            tracing::warn!(expert = %self.mesh, "an expert has the mesh's own name, under which models' clients get the gate");
        }
        snapshot.experts.keys().for_each(|expert| self.metrics.knows(expert));
        self.catalog.store(Arc::new(known.next(snapshot, &self.lines)));
        self.heard.set();
    }

    /// Makes these experts known to the gate at once, whether or not a fit is under way.
    fn admit(&self, cards: Cards) -> Admission {
        let gate = Arc::clone(&self.gate);
        async move {
            let outcome = gate.admit(cards.iter().map(|card| profile(card)).collect()).await;
            (cards, outcome)
        }
        .boxed()
    }

    /// Fits the gate to the cards that are known once `after` has passed.
    fn fit(&self, after: Duration) -> Fit {
        let (gate, catalog) = (Arc::clone(&self.gate), Arc::clone(&self.catalog));
        async move {
            tokio::time::sleep(after).await;
            let cards = cards(catalog.load().snapshot());
            let since = Instant::now();
            let outcome = gate.fit(cards.iter().map(|card| profile(card)).collect()).await;
            (cards, (outcome, since.elapsed()))
        }
        .boxed()
    }
}

/// Whether a whole fit takes so long that newcomers are admitted before it. With few examples it is done in a moment, and
/// the gate goes from one whole state to the next.
fn is_slow_to_fit(cards: &Cards) -> bool {
    cards.iter().map(|card| card.examples.len()).sum::<usize>() >= MANY_EXAMPLES
}

/// Cards that did not change are still the same ones: most comparisons end at the pointer.
fn same(fitted: &Cards, known: &Cards) -> bool {
    fitted.len() == known.len() && fitted.iter().zip(known).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
}

/// Returns at this time; never, where there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The end of what is under way; never, where nothing is.
async fn running<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// The newest card of each expert. Known cards, never live instances: an expert that restarts must not vanish from the
/// gate and send its queries elsewhere.
fn cards(snapshot: &Snapshot) -> Cards {
    snapshot.experts.values().filter_map(|expert| newest_first(expert).into_iter().next().cloned()).collect()
}

fn profile(card: &Card) -> Profile {
    Profile {
        expert: card.expert.clone(),
        version: card.version.clone(),
        summary: card.summary.clone(),
        examples: card.examples.clone(),
        serves: card.serves.clone(),
        digest: card.digest(),
    }
}

#[cfg(test)]
mod tests;
