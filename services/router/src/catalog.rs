//! The router's view of the mesh: what the registry last said, and a pool of endpoints for every expert. Read without
//! locks; one task writes it.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use consilium_mesh::registry::{Card, Expert, Instance, Snapshot};

use crate::balance::{Connect, Health, Pool, Wanted};

/// Everything the router knows at one moment.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    snapshot: Arc<Snapshot>,
    pools: BTreeMap<String, Arc<Pool>>,
}

/// The version of an expert that a leg would go to.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) card: &'a Arc<Card>,
    pub(crate) live: usize,
}

impl Catalog {
    /// The next view; instances that did not change keep their endpoint and with it their history.
    pub(crate) fn next(&self, snapshot: Arc<Snapshot>, connect: &dyn Connect) -> Self {
        let pools = snapshot.experts.iter().map(|(name, expert)| {
            let unchanged = self.snapshot.experts.get(name).is_some_and(|known| Arc::ptr_eq(known, expert));
            let pool = match self.pools.get(name) {
                Some(pool) if unchanged => Arc::clone(pool),
                Some(pool) => Arc::new(pool.next(expert, connect)),
                None => Arc::new(Pool::default().next(expert, connect)),
            };
            (name.clone(), pool)
        });
        Self { pools: pools.collect(), snapshot }
    }

    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub(crate) fn pool(&self, expert: &str) -> Option<&Arc<Pool>> {
        self.pools.get(expert)
    }

    pub(crate) fn knows(&self, expert: &str) -> bool {
        self.snapshot.experts.contains_key(expert)
    }

    pub(crate) fn knows_version(&self, expert: &str, version: &str) -> bool {
        self.snapshot.experts.get(expert).is_some_and(|expert| expert.cards.contains_key(version))
    }

    /// What is known of an instance; one that no channel can be made to is unreachable.
    pub(crate) fn health(&self, instance: &Instance) -> Health {
        let pool = self.pools.get(&instance.record.expert);
        pool.map_or(Health::Unreachable, |pool| pool.health(&instance.record.instance))
    }

    /// Instances whose registration has run out and which do not answer, or somebody else does in their place: they are
    /// gone.
    pub(crate) fn lost(&self) -> Vec<Arc<Instance>> {
        let instances = self.snapshot.experts.values().flat_map(|expert| expert.instances.values());
        instances.filter(|instance| instance.expired && !self.health(instance).is_sound()).cloned().collect()
    }

    /// See [`Pool::readmit`].
    pub(crate) fn readmit(&self) {
        self.pools.values().for_each(|pool| pool.readmit());
    }

    /// The pinned version, else the newest that can carry the load: that has at least half as many serving instances as
    /// the version which has the most. The first instance of a new version does not get what ten of the old one had.
    /// Where nobody is known to serve, instances that nothing was heard of yet count, then any that may be called.
    pub(crate) fn target(&self, expert: &str, pinned: Option<&str>) -> Option<Target<'_>> {
        self.target_with(expert, |card| pinned.is_none_or(|version| card.version == version), Wanted::default())
    }

    /// The same of the versions that fit, where only instances count that have what is wanted of whatever version.
    pub(crate) fn target_with(
        &self,
        expert: &str,
        fits: impl Fn(&Card) -> bool,
        wanted: Wanted<'_>,
    ) -> Option<Target<'_>> {
        let known = self.snapshot.experts.get(expert)?;
        let pool = self.pools.get(expert);
        let mut cards = newest_first(known);
        cards.retain(|card| fits(card));
        let count = |card: &Card, such: fn(Health) -> bool| {
            pool.map_or(0, |pool| pool.count(Wanted { version: &card.version, ..wanted }, such))
        };
        let kinds: [fn(Health) -> bool; 3] = [|health| health == Health::Serving, Health::is_sound, |_| true];
        let chosen = kinds.into_iter().find_map(|such| {
            let counts: Vec<_> = cards.iter().map(|card| count(card, such)).collect();
            let most = counts.iter().copied().max().filter(|most| *most > 0)?;
            cards.iter().zip(counts).find(|(_, count)| count * 2 >= most).map(|(card, _)| *card)
        });
        let card = chosen.or_else(|| cards.first().copied())?;
        let live = pool.map_or(0, |pool| pool.live(Wanted { version: &card.version, ..wanted }));
        Some(Target { card, live })
    }
}

/// An expert's cards, newest version first.
pub(crate) fn newest_first(expert: &Expert) -> Vec<&Arc<Card>> {
    let mut cards: Vec<_> = expert.cards.values().collect();
    cards.sort_by(|a, b| by_version(&b.version, &a.version));
    cards
}

/// Orders `2` before `10` and `1.9.0` before `1.10.0`: numbers as numbers, everything else as text.
fn by_version(a: &str, b: &str) -> Ordering {
    let parts = |version: &str| -> Vec<(Option<u64>, String)> {
        version.split(['.', '-', '+']).map(|part| (part.parse().ok(), part.to_owned())).collect()
    };
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_as_people_expect() {
        let mut versions = ["10", "2", "1.10.0", "1.9.0", "1"];
        versions.sort_by(|a, b| by_version(a, b));
        assert_eq!(versions, ["1", "1.9.0", "1.10.0", "2", "10"]);
    }
}
