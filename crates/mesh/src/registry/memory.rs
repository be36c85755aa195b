//! The registry of one process: a router and its experts side by side, without etcd. All state is the published
//! snapshot itself, changed under the channel's own lock.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    Card, Error, Expert, Instance, Record, Registration, Registry, Snapshot, State, check_gate, check_successor,
};
use crate::metrics::{Metrics, RegistryMetrics};

/// Clones share the same mesh.
#[derive(Debug, Clone)]
pub struct MemoryRegistry {
    mesh: Arc<str>,
    snapshots: Arc<watch::Sender<Arc<Snapshot>>>,
    /// Where it is seen once somebody follows it.
    page: Arc<Mutex<Option<Metrics>>>,
}

impl MemoryRegistry {
    pub fn new(mesh: impl Into<Arc<str>>) -> Self {
        // An empty mesh is known to be empty.
        let empty = Arc::new(Snapshot { revision: 1, ..Snapshot::default() });
        Self { mesh: mesh.into(), snapshots: Arc::new(watch::Sender::new(empty)), page: Arc::default() }
    }

    /// The same, seen by those who look at `metrics` as a registry that can always be followed.
    #[must_use]
    pub(super) fn shown_on(self, metrics: &Metrics) -> Self {
        Self { page: Arc::new(Mutex::new(Some(metrics.clone()))), ..self }
    }

    pub fn mesh(&self) -> &str {
        &self.mesh
    }

    /// Applies `change` to one expert and publishes what comes of it. Watchers hear only of real changes.
    fn change(&self, expert: &str, change: impl FnOnce(&mut Expert)) {
        self.snapshots.send_if_modified(|snapshot| match snapshot.changed(expert, change) {
            Some(next) => {
                *snapshot = Arc::new(next);
                true
            }
            None => false,
        });
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn register(&self, card: Card, mut record: Record) -> Result<Box<dyn Registration>, Error> {
        card.check()?;
        record.check(&card)?;
        record.card_digest = card.digest();
        let registered = Registered { registry: self.clone(), card: card.clone(), record: record.clone() };
        self.change(&card.expert.clone(), |expert| {
            if expert.cards.get(&card.version).is_none_or(|known| **known != card) {
                expert.cards.insert(card.version.clone(), Arc::new(card));
            }
            expert.instances.insert(record.instance.clone(), instance(record));
        });
        Ok(Box::new(registered))
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        if let Some(page) = self.page.lock().unwrap_or_else(PoisonError::into_inner).take() {
            RegistryMetrics::of_memory(&page);
        }
        self.snapshots.subscribe()
    }

    /// Never needed: what vanishes here is gone for certain.
    fn forget(&self, _: Vec<Arc<Instance>>) {}

    async fn retire(&self, expert: &str, version: &str) -> Result<(), Error> {
        let unknown = || Error::Unknown { expert: expert.to_owned(), version: version.to_owned() };
        let mut outcome = Err(unknown());
        self.change(expert, |expert| {
            let user = expert.instances.values().find(|instance| instance.record.version == version);
            outcome = match user {
                Some(user) => Err(Error::InUse {
                    expert: expert.name.clone(),
                    version: version.to_owned(),
                    instance: user.record.instance.clone(),
                }),
                None => expert.cards.remove(version).map(|_| ()).ok_or_else(unknown),
            };
        });
        outcome
    }

    async fn put_gate(&self, settings: Option<String>) -> Result<(), Error> {
        settings.as_deref().map_or(Ok(()), check_gate)?;
        self.snapshots.send_if_modified(|snapshot| match snapshot.with_gate(settings.as_deref()) {
            Some(next) => {
                *snapshot = Arc::new(next);
                true
            }
            None => false,
        });
        Ok(())
    }

    async fn get_gate(&self) -> Result<Option<String>, Error> {
        Ok(self.snapshots.borrow().gate.as_deref().map(str::to_owned))
    }
}

fn instance(record: Record) -> Arc<Instance> {
    Arc::new(Instance::announced(record))
}

/// An instance as it was registered. What it is now is in the snapshot only.
#[derive(Debug)]
struct Registered {
    registry: MemoryRegistry,
    card: Card,
    record: Record,
}

impl Registered {
    /// Changes the published record, unless the instance is gone or another start of it has taken over.
    fn replace(&self, with: impl FnOnce(&Record) -> Record) -> Result<(), Error> {
        let mut outcome = Err(Error::Gone { instance: self.record.instance.clone() });
        self.registry.change(&self.record.expert, |expert| {
            if let Some(known) = self.own(expert) {
                let record = with(&known.record);
                expert.instances.insert(record.instance.clone(), instance(record));
                outcome = Ok(());
            }
        });
        outcome
    }

    fn remove(&self) {
        self.registry.change(&self.record.expert, |expert| {
            if self.own(expert).is_some() {
                expert.instances.remove(&self.record.instance);
            }
        });
    }

    fn own(&self, expert: &Expert) -> Option<Arc<Instance>> {
        let known = expert.instances.get(&self.record.instance)?;
        (known.record.epoch == self.record.epoch).then(|| Arc::clone(known))
    }
}

#[async_trait]
impl Registration for Registered {
    async fn update(&self, mut record: Record) -> Result<(), Error> {
        record.check(&self.card)?;
        if (&record.instance, &record.epoch) != (&self.record.instance, &self.record.epoch) {
            return Err(Error::invalid("record.instance", "instance and epoch stay as registered"));
        }
        self.replace(|known| {
            record.card_digest.clone_from(&known.card_digest);
            record
        })
    }

    async fn update_card(&self, card: Card) -> Result<(), Error> {
        check_successor(&self.card, &card)?;
        let mut outcome = Err(Error::Gone { instance: self.record.instance.clone() });
        self.registry.change(&self.record.expert, |expert| {
            if let Some(known) = self.own(expert) {
                let record = Record { card_digest: card.digest(), ..known.record.clone() };
                expert.instances.insert(record.instance.clone(), instance(record));
                expert.cards.insert(card.version.clone(), Arc::new(card));
                outcome = Ok(());
            }
        });
        outcome
    }

    async fn drain(&self) -> Result<(), Error> {
        self.replace(|record| Record { state: State::Draining, ..record.clone() })
    }

    async fn deregister(&self) -> Result<(), Error> {
        self.remove();
        Ok(())
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests;
