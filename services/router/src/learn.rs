//! Keeps the router's view in step with the registry: endpoints at once, the gate's knowledge as soon as it is fitted.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use consilium_gate::{Gate, Profile};
use consilium_mesh::{
    dial,
    health::Latch,
    registry::{Card, Instance, Snapshot},
};
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    balance::Connect,
    catalog::{Catalog, newest_first},
};

/// When to try again after the gate could not be fitted.
const FIT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often the first fit is tried.
const FIRST_FITS: usize = 3;

/// The one writer of the catalogue.
#[derive(Debug)]
pub(crate) struct Learner {
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What requests are routed by.
    pub(crate) catalog: Arc<ArcSwap<Catalog>>,
    pub(crate) gate: Arc<Gate>,
    /// Tells everybody else, once the gate knows as well.
    pub(crate) published: watch::Sender<Arc<Catalog>>,
    /// Set after the first time.
    pub(crate) ready: Latch,
}

/// The cards that the gate learns from, one an expert.
type Cards = Vec<Arc<Card>>;
/// A fit under way, and what it will have taught the gate.
type Fit = BoxFuture<'static, (Cards, Result<(), consilium_gate::Error>)>;

impl Learner {
    /// Follows the registry until `stop`, or until the registry is gone. Endpoints change at once, also while the gate is
    /// being fitted: an instance that leaves must be out of the picks before it stops answering.
    ///
    /// `Err` when the gate cannot be fitted even for the first time: a router that has never known anybody is better
    /// ended than waited for.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), consilium_gate::Error> {
        let mut fitted: Option<Cards> = None;
        let mut failures = 0;
        let mut fit: Option<Fit> = None;
        self.snapshots.mark_changed();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = self.snapshots.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.follow();
                }
                (cards, outcome) = running(&mut fit) => {
                    fit = None;
                    match outcome {
                        Ok(()) => {
                            tracing::info!(experts = cards.len(), revision = %self.gate.revision(), "the gate is fitted");
                            fitted = Some(cards);
                        }
                        Err(error) => {
                            failures += 1;
                            if fitted.is_none() && failures == FIRST_FITS {
                                return Err(error);
                            }
                            tracing::error!(error = &error as &dyn std::error::Error, "the gate keeps what it knew");
                            fit = Some(self.fit(FIT_AGAIN_AFTER));
                        }
                    }
                }
            }
            let catalog = self.catalog.load_full();
            if fitted.as_ref() == Some(&cards(catalog.snapshot())) {
                self.published.send_replace(catalog);
                self.ready.set();
            } else if fit.is_none() {
                fit = Some(self.fit(Duration::ZERO));
            }
        }
    }

    fn follow(&mut self) {
        let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
        self.catalog.store(Arc::new(self.catalog.load().next(snapshot, &Plain)));
    }

    /// Fits the gate to the cards that are known once `after` has passed.
    fn fit(&self, after: Duration) -> Fit {
        let (gate, catalog) = (Arc::clone(&self.gate), Arc::clone(&self.catalog));
        async move {
            tokio::time::sleep(after).await;
            let cards = cards(catalog.load().snapshot());
            let outcome = gate.fit(cards.iter().map(|card| profile(card)).collect()).await;
            (cards, outcome)
        }
        .boxed()
    }
}

/// The fit's end; never, where there is none.
async fn running(fit: &mut Option<Fit>) -> (Cards, Result<(), consilium_gate::Error>) {
    match fit {
        Some(fit) => fit.await,
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

/// Channels as the records announce them. The mesh inside one process has no certificates.
struct Plain;

impl Connect for Plain {
    fn connect(&self, instance: &Instance) -> Result<Channel, dial::Error> {
        dial::channel(&dial::Target::of(&instance.record, None)?)
    }
}
