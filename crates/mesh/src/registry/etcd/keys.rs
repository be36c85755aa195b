//! Where what lies in etcd: `consilium/<mesh>/…`. The keys of instances are those that etcd's own gRPC naming uses, so
//! that stock Go clients resolve `etcd:///consilium/<mesh>/experts/<expert>` without a line of ours.

use crate::registry::Track;

const EXPERTS: &str = "experts";
const CANDIDATES: &str = "candidates";
const CARDS: &str = "cards";
const GATE: &str = "gate";

/// The keys of one mesh.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

/// What a key of a mesh stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<'a> {
    Instance {
        place: Place,
        expert: &'a str,
        instance: &'a str,
    },
    Card {
        expert: &'a str,
        version: &'a str,
    },
    /// How the gate of every router is to be set.
    Gate,
}

/// Stock resolvers take every key below a prefix for an address. Instances that not every client should call lie
/// elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Experts,
    Candidates,
}

impl Place {
    pub(super) fn of(track: Track) -> Self {
        match track {
            Track::Live => Self::Experts,
            Track::Canary | Track::Shadow => Self::Candidates,
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Experts => Self::Candidates,
            Self::Candidates => Self::Experts,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Experts => EXPERTS,
            Self::Candidates => CANDIDATES,
        }
    }
}

impl Keys {
    pub(super) fn new(mesh: &str) -> Self {
        Self { prefix: format!("consilium/{mesh}/") }
    }

    /// Everything of the mesh, and only that: it ends with a slash.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The prefixes of what is listed, and how many keys make a page of it: a page is a mebibyte or two at the most, and two
    /// seconds are enough for it over a slow line.
    pub(super) fn kinds(&self) -> [(String, i64); 4] {
        let below = |kind| format!("{}{kind}/", self.prefix);
        [(below(EXPERTS), 200), (below(CANDIDATES), 200), (below(CARDS), 8), (self.gate(), 8)]
    }

    pub(super) fn instance(&self, place: Place, expert: &str, instance: &str) -> String {
        format!("{}{instance}", self.instances(place, expert))
    }

    /// The prefix of an expert's instances.
    pub(super) fn instances(&self, place: Place, expert: &str) -> String {
        format!("{}{}/{expert}/", self.prefix, place.name())
    }

    pub(super) fn card(&self, expert: &str, version: &str) -> String {
        format!("{}{CARDS}/{expert}/{version}", self.prefix)
    }

    pub(super) fn gate(&self) -> String {
        format!("{}{GATE}", self.prefix)
    }

    /// `None` for keys that are not about instances, cards or the gate: others may keep theirs in the mesh as well.
    pub(super) fn parse<'a>(&self, key: &'a [u8]) -> Option<Key<'a>> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        if key == GATE {
            return Some(Key::Gate);
        }
        let mut parts = key.split('/');
        let (kind, expert, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || expert.is_empty() || name.is_empty() {
            return None;
        }
        match kind {
            EXPERTS => Some(Key::Instance { place: Place::Experts, expert, instance: name }),
            CANDIDATES => Some(Key::Instance { place: Place::Candidates, expert, instance: name }),
            CARDS => Some(Key::Card { expert, version: name }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let keys = Keys::new("clinic");
        assert_eq!(keys.instance(Place::Experts, "labs", "a"), "consilium/clinic/experts/labs/a");
        for place in [Place::Experts, Place::Candidates] {
            let key = keys.instance(place, "labs", "a");
            assert_eq!(keys.parse(key.as_bytes()), Some(Key::Instance { place, expert: "labs", instance: "a" }));
        }
        let key = keys.card("labs", "1.2");
        assert_eq!(keys.parse(key.as_bytes()), Some(Key::Card { expert: "labs", version: "1.2" }));
        assert_eq!(keys.gate(), "consilium/clinic/gate");
        assert_eq!(keys.parse(keys.gate().as_bytes()), Some(Key::Gate));
    }

    #[test]
    fn keys_of_others_are_left_alone() {
        let keys = Keys::new("clinic");
        for key in [
            "consilium/clinic2/experts/labs/a",
            "consilium/clinic/policy/labs",
            "consilium/clinic/experts/labs",
            "consilium/clinic/experts/labs/",
            "consilium/clinic/experts//a",
            "consilium/clinic/experts/labs/a/b",
            "consilium/clinic/",
            "consilium/clinic/gate2",
            "consilium/clinic/gate/a",
            "consilium/clinic2/gate",
            "",
        ] {
            assert_eq!(keys.parse(key.as_bytes()), None, "{key}");
        }
        assert_eq!(keys.parse(b"consilium/clinic/experts/labs/\xff"), None);
    }
}
