//! What a router knows of the mesh through etcd. Pure: keys and values go in, snapshots come out.
//!
//! The registry's word adds and updates. It removes only what announced its leaving: an instance whose record vanished
//! without a word is kept and marked, because a registry that lost a record, or a lease that could not be renewed in
//! time, looks just the same as a process that died. Whoever calls the instance finds out which it was, and says so by
//! [`Table::forget`]; and even that is not believed at once when many vanish together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::keys::{Key, Place};
use crate::{
    dial::is_address,
    registry::{Card, Expert, Instance, Record, Snapshot, State, check_gate},
};

/// Registrations that run out within this time of each other count together.
const TOGETHER: Duration = Duration::from_mins(1);
/// So many of an expert's instances, or of all, are too many to have died by themselves. (Eureka stops expiring when
/// 15 % are missing.) One alone is never too many.
const TOO_MANY_OF_EXPERT: f64 = 0.30;
const TOO_MANY_OF_ALL: f64 = 0.15;

/// The mesh, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Table {
    snapshot: Arc<Snapshot>,
    /// Cards that the registry has lost and that somebody here still serves. Without them the gate would forget an expert
    /// that answers.
    orphans: BTreeSet<(String, String)>,
    /// Cards that a restored or emptied registry has lost without anybody having retired them.
    kept: BTreeSet<(String, String)>,
    /// The gate's settings were lost like that.
    gate_kept: bool,
    /// When the registrations of which (expert, instance) ran out, for the last minute.
    expiries: BTreeMap<(String, String), Instant>,
}

/// How what is listed follows upon what was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    Continued,
    /// The registry is at an earlier revision than it was.
    Rewound,
}

/// What became of the wish to forget instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Forgotten {
    pub(super) gone: usize,
    /// Not now: too many vanished together.
    pub(super) held: usize,
}

impl Table {
    /// One that starts with what was known before.
    pub(super) fn new(snapshot: Snapshot) -> Self {
        Self { snapshot: Arc::new(snapshot), ..Self::default() }
    }

    pub(super) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// How many instances are listed although their registration ran out.
    pub(super) fn expired(&self) -> usize {
        let instances = self.snapshot.experts.values().flat_map(|expert| expert.instances.values());
        instances.filter(|instance| instance.expired).count()
    }

    /// A key was written.
    pub(super) fn put(&mut self, key: &Key<'_>, value: &[u8]) {
        match *key {
            Key::Instance { place, expert, instance } => match read_instance(place, (expert, instance), value) {
                Ok(record) => self.announced(record),
                // What it said before stays: it may still be there, and nobody else knows better.
                Err(problem) => tracing::warn!(expert, instance, problem, "a record cannot be used"),
            },
            Key::Card { expert, version } => match read_card(expert, version, value) {
                Ok(card) => {
                    self.orphans.remove(&(expert.to_owned(), version.to_owned()));
                    self.kept.remove(&(expert.to_owned(), version.to_owned()));
                    let known = self.snapshot.experts.get(expert).and_then(|expert| expert.cards.get(version));
                    if known.is_none_or(|known| **known != card) {
                        self.change(expert, |expert| {
                            expert.cards.insert(version.to_owned(), Arc::new(card));
                        });
                    }
                }
                Err(problem) => tracing::warn!(expert, version, problem, "a card cannot be used"),
            },
            Key::Gate => match read_gate(value) {
                Ok(settings) => {
                    self.gate_kept = false;
                    self.set_gate(Some(settings));
                }
                Err(problem) => tracing::warn!(problem, "the gate's settings in the registry cannot be used"),
            },
        }
    }

    /// A key is gone.
    pub(super) fn delete(&mut self, key: &Key<'_>, now: Instant) {
        match *key {
            Key::Instance { place, expert, instance } => self.vanished(place, (expert, instance), now),
            Key::Card { expert, version } => {
                let known = self.snapshot.experts.get(expert).is_some_and(|known| known.cards.contains_key(version));
                if known {
                    self.orphans.insert((expert.to_owned(), version.to_owned()));
                    self.drop_orphans(expert);
                }
            }
            Key::Gate => {
                self.gate_kept = false;
                self.set_gate(None);
            }
        }
    }

    /// These are all keys that there are. Compares; never empties the table to fill it again.
    pub(super) fn replace<'a>(
        &mut self,
        entries: impl IntoIterator<Item = (Key<'a>, &'a [u8])>,
        history: History,
        now: Instant,
    ) {
        let mut present = BTreeSet::new();
        for (key, value) in entries {
            self.put(&key, value);
            present.insert(key);
        }
        let before = Arc::clone(&self.snapshot);
        for (name, expert) in &before.experts {
            for (id, known) in &expert.instances {
                let place = Place::of(known.record.track);
                if !present.contains(&Key::Instance { place, expert: name, instance: id }) {
                    self.vanished(place, (name, id), now);
                }
            }
            for version in expert.cards.keys() {
                let key = Key::Card { expert: name, version };
                if present.contains(&key) {
                    continue;
                }
                // An etcd that was restored or emptied has retired nobody.
                let card = (name.clone(), version.clone());
                if history == History::Rewound || self.kept.contains(&card) {
                    self.kept.insert(card);
                } else {
                    self.delete(&key, now);
                }
            }
        }
        if self.snapshot.gate.is_some() && !present.contains(&Key::Gate) {
            if history == History::Rewound || self.gate_kept {
                self.gate_kept = true;
            } else {
                self.delete(&Key::Gate, now);
            }
        }
        if self.snapshot.revision == 0 {
            // Heard, and be it that nobody is there.
            self.snapshot = Arc::new(Snapshot { revision: 1, ..Snapshot::clone(&self.snapshot) });
        }
    }

    /// Whoever called these found nobody. What is listed otherwise than as expired, or as another start, stays.
    pub(super) fn forget(&mut self, missed: &[Arc<Instance>], now: Instant) -> Forgotten {
        self.expiries.retain(|_, since| now.saturating_duration_since(*since) < TOGETHER);
        let everybody = self.too_many(None, TOO_MANY_OF_ALL);
        let mut held: BTreeMap<&str, bool> = BTreeMap::new();
        let mut forgotten = Forgotten::default();
        for missed in missed {
            let (expert, instance) = (missed.record.expert.as_str(), missed.record.instance.as_str());
            let listed = self.snapshot.experts.get(expert).and_then(|expert| expert.instances.get(instance));
            if !listed.is_some_and(|listed| listed.expired && listed.record.epoch == missed.record.epoch) {
                continue;
            }
            let of_expert = || self.too_many(Some(expert), TOO_MANY_OF_EXPERT);
            if everybody || *held.entry(expert).or_insert_with(of_expert) {
                forgotten.held += 1;
            } else {
                self.remove(expert, instance);
                forgotten.gone += 1;
            }
        }
        forgotten
    }

    /// Whether more than `share` of an expert's instances, or of all, vanished within the last minute. Those that were
    /// forgotten since count on both sides.
    fn too_many(&self, of: Option<&str>, share: f64) -> bool {
        let concerns = |expert: &str| of.is_none_or(|of| of == expert);
        let listed = |(expert, instance): &(String, String)| {
            self.snapshot.experts.get(expert).is_some_and(|expert| expert.instances.contains_key(instance))
        };
        let vanished: Vec<_> = self.expiries.keys().filter(|(expert, _)| concerns(expert)).collect();
        let forgotten = vanished.iter().filter(|key| !listed(key)).count();
        let experts = self.snapshot.experts.values().filter(|expert| concerns(&expert.name));
        let all = experts.map(|expert| expert.instances.len()).sum::<usize>() + forgotten;
        vanished.len() > 1 && vanished.len() as f64 > all as f64 * share
    }

    fn announced(&mut self, record: Record) {
        let (expert, instance) = (record.expert.clone(), record.instance.clone());
        let known = self.snapshot.experts.get(&expert).and_then(|expert| expert.instances.get(&instance));
        // A restored etcd tells of an earlier life. Whoever lives will say so again.
        if known.is_some_and(|known| !known.expired && record.epoch < known.record.epoch) {
            return;
        }
        self.expiries.remove(&(expert.clone(), instance.clone()));
        let announced = Instance::announced(record);
        // Without a change the same `Arc` stays: whoever compares by pointer need not look again.
        if known.is_some_and(|known| **known == announced) {
            return;
        }
        let successor = announced.address.clone();
        self.change(&expert, |expert| {
            expert.instances.insert(instance, Arc::new(announced));
        });
        // Who expired at this address has a successor there, which would answer for it for ever.
        let gone: Vec<_> = self.at(&successor).filter(|known| known.expired).cloned().collect();
        for ghost in gone {
            self.remove(&ghost.record.expert, &ghost.record.instance);
        }
    }

    /// Who is listed at an address. Several may be: an address can stand for a group of instances.
    fn at(&self, address: &str) -> impl Iterator<Item = &Arc<Instance>> {
        let instances = self.snapshot.experts.values().flat_map(|expert| expert.instances.values());
        instances.filter(move |known| known.address == address)
    }

    fn vanished(&mut self, place: Place, (expert, instance): (&str, &str), now: Instant) {
        let known = self.snapshot.experts.get(expert).and_then(|expert| expert.instances.get(instance));
        let Some(known) = known.filter(|known| Place::of(known.record.track) == place) else { return };
        let succeeded = self.at(&known.address).any(|other| !other.expired && !Arc::ptr_eq(other, known));
        if known.record.state == State::Draining || succeeded {
            // It said that it would go, or somebody else answers at its address.
            self.remove(expert, instance);
        } else if !known.expired {
            let expired = Arc::new(Instance { expired: true, ..Instance::clone(known) });
            self.expiries.insert((expert.to_owned(), instance.to_owned()), now);
            self.change(expert, |expert| {
                expert.instances.insert(instance.to_owned(), expired);
            });
        }
    }

    fn remove(&mut self, expert: &str, instance: &str) {
        self.change(expert, |expert| {
            expert.instances.remove(instance);
        });
        self.drop_orphans(expert);
    }

    /// Lets go of lost cards that nobody serves any longer.
    fn drop_orphans(&mut self, expert: &str) {
        let Some(known) = self.snapshot.experts.get(expert).cloned() else { return };
        let served = |version: &str| known.instances.values().any(|instance| instance.record.version == version);
        let unserved: Vec<_> = self
            .orphans
            .iter()
            .filter(|(of, version)| of == expert && !served(version))
            .map(|(_, version)| version.clone())
            .collect();
        for version in unserved {
            self.orphans.remove(&(expert.to_owned(), version.clone()));
            self.change(expert, |expert| {
                expert.cards.remove(&version);
            });
        }
    }

    fn set_gate(&mut self, settings: Option<&str>) {
        if let Some(next) = self.snapshot.with_gate(settings) {
            self.snapshot = Arc::new(next);
        }
    }

    fn change(&mut self, expert: &str, change: impl FnOnce(&mut Expert)) {
        if let Some(next) = self.snapshot.changed(expert, change) {
            self.snapshot = Arc::new(next);
        }
    }
}

/// A value that is no record, or not the one of its key, says nothing.
fn read_instance(place: Place, (expert, instance): (&str, &str), value: &[u8]) -> Result<Record, String> {
    let text = std::str::from_utf8(value).map_err(|_| "not text".to_owned())?;
    let record = Record::decode(expert, text).map_err(|error| error.to_string())?;
    if record.instance != instance {
        return Err("the record of another instance".to_owned());
    }
    if Place::of(record.track) != place {
        return Err("the record of another track".to_owned());
    }
    if !is_address(&record.address) {
        return Err("Addr: host:port is expected".to_owned());
    }
    Ok(record)
}

fn read_card(expert: &str, version: &str, value: &[u8]) -> Result<Card, String> {
    let card: Card = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    if (card.expert.as_str(), card.version.as_str()) != (expert, version) {
        return Err("the card of another expert or version".to_owned());
    }
    card.check().map_err(|error| error.to_string())?;
    Ok(card)
}

fn read_gate(value: &[u8]) -> Result<&str, String> {
    let settings = std::str::from_utf8(value).map_err(|_| "not text".to_owned())?;
    check_gate(settings).map_err(|error| error.to_string())?;
    Ok(settings)
}

#[cfg(test)]
pub(super) mod tests;
