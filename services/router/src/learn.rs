//! Keeps the router's view in step with the registry: endpoints at once, the gate's knowledge as soon as it is fitted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use consilium_gate::{Gate, Profile};
use consilium_mesh::{
    dial,
    health::Latch,
    registry::{Instance, Snapshot},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    balance::Connect,
    catalog::{Catalog, newest_first},
};

/// When to try again after the gate could not be fitted.
const FIT_AGAIN_AFTER: Duration = Duration::from_secs(1);

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

impl Learner {
    /// Follows the registry until `stop`, or until the registry is gone.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut fitted = None;
        self.snapshots.mark_changed();
        loop {
            // A fit that failed is tried again, whether or not anything changes meanwhile.
            let pause = if fitted.is_none() {
                FIT_AGAIN_AFTER
            } else {
                Duration::MAX
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.snapshots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
            let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
            let catalog = Arc::new(self.catalog.load().next(snapshot, &Plain));
            self.catalog.store(Arc::clone(&catalog));

            let profiles = profiles(catalog.snapshot());
            let cards: BTreeMap<_, _> = profiles.iter().map(|p| (p.expert.clone(), p.digest.clone())).collect();
            if fitted.as_ref() != Some(&cards) {
                match self.gate.fit(profiles).await {
                    Ok(()) => {
                        tracing::info!(experts = cards.len(), revision = %self.gate.revision(), "the gate is fitted");
                        fitted = Some(cards);
                    }
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "the gate keeps what it knew");
                        fitted = None;
                        continue;
                    }
                }
            }
            self.published.send_replace(catalog);
            self.ready.set();
        }
    }
}

/// What the gate learns each expert from: the newest card. Known cards, never live instances: an expert that restarts
/// must not vanish from the gate and send its queries elsewhere.
fn profiles(snapshot: &Snapshot) -> Vec<Profile> {
    let newest = |expert| newest_first(expert).into_iter().next();
    let profile = |card: &Arc<consilium_mesh::registry::Card>| Profile {
        expert: card.expert.clone(),
        version: card.version.clone(),
        summary: card.summary.clone(),
        examples: card.examples.clone(),
        serves: card.serves.clone(),
        digest: card.digest(),
    };
    snapshot
        .experts
        .values()
        .filter_map(|expert| newest(expert))
        .map(profile)
        .collect()
}

/// Channels as the records announce them. The mesh inside one process has no certificates.
struct Plain;

impl Connect for Plain {
    fn connect(&self, instance: &Instance) -> Result<Channel, dial::Error> {
        dial::channel(&dial::Target::of(&instance.record, None)?)
    }
}
