//! The whole mesh at one moment. A snapshot never changes: a change makes the next one, and shares what it left alone.

use std::{collections::BTreeMap, sync::Arc};

use super::{Card, Record, State};

/// Everything a registry knows. Experts that a change did not touch keep their `Arc`, so a reader can tell by
/// `Arc::ptr_eq` what it has to look at again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Grows with every change. 0: nothing was heard yet.
    pub revision: u64,
    /// How the gate of every router is to be set, as it was written: the section `gate` of `mesh.yaml`, which it stands in
    /// for. `None`: each router goes by its own file.
    pub gate: Option<Arc<str>>,
    pub experts: BTreeMap<String, Arc<Expert>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expert {
    pub name: String,
    /// By version. A card is here until it is retired, whether or not anybody serves it.
    pub cards: BTreeMap<String, Arc<Card>>,
    /// By instance id.
    pub instances: BTreeMap<String, Arc<Instance>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// `host:port`
    pub address: String,
    pub record: Record,
    /// Its registration ran out without a word. That alone does not mean that it is gone: the registry may have lost it,
    /// so it is listed until somebody who called it says so, see [`Registry::forget`](super::Registry::forget).
    pub expired: bool,
}

impl Instance {
    /// As a record announces it.
    pub(super) fn announced(record: Record) -> Self {
        Self { address: record.address.clone(), record, expired: false }
    }
}

impl Expert {
    /// Instances that may be given new calls, live or not.
    pub fn serving(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values().filter(|instance| instance.record.state == State::Serving)
    }
}

impl Snapshot {
    /// The next snapshot with these settings of the gate, or `None` where they are the same.
    pub(super) fn with_gate(&self, settings: Option<&str>) -> Option<Self> {
        (self.gate.as_deref() != settings).then(|| Self { gate: settings.map(Arc::from), ..self.next() })
    }

    fn next(&self) -> Self {
        Self { revision: self.revision + 1, ..self.clone() }
    }

    /// The next snapshot with `change` applied to one expert, or `None` where the change changes nothing. An expert
    /// without cards and instances is no longer listed.
    pub(super) fn changed(&self, expert: &str, change: impl FnOnce(&mut Expert)) -> Option<Self> {
        let before = self.experts.get(expert);
        let mut after = before
            .map_or_else(|| Expert { name: expert.to_owned(), ..Expert::default() }, |expert| Expert::clone(expert));
        change(&mut after);
        let empty = after.cards.is_empty() && after.instances.is_empty();
        if before.map_or(empty, |before| **before == after) {
            return None;
        }
        let mut next = self.next();
        if empty {
            next.experts.remove(expert);
        } else {
            next.experts.insert(expert.to_owned(), Arc::new(after));
        }
        Some(next)
    }
}
