//! Where instances announce themselves and where a router finds them: the trait, what it publishes and how it fails.
//! What an expert says of itself is in `card`, what a process says of itself in `record`, what holds for every router of
//! the mesh in the snapshot. No picking, no dialling.

mod card;
mod etcd;
mod memory;
mod record;
mod settings;
mod snapshot;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use tokio::sync::watch;

pub use card::{Card, MAX_CARD_BYTES, ModelRef, NAME, Price, Slo, is_name};
pub use etcd::EtcdRegistry;
pub use memory::MemoryRegistry;
pub use record::{Cost, CostUnit, RECORD_SCHEMA, Record, State, Track};
pub use settings::{EtcdSettings, EtcdTls, Settings};
pub use snapshot::{Expert, Instance, Snapshot};

/// The longest settings of a gate, bytes: every router keeps them in memory and on disk.
pub const MAX_GATE_BYTES: usize = 256 * 1024;

/// A place to announce instances and to watch everybody else's.
#[async_trait]
pub trait Registry: Send + Sync + Debug {
    /// Announces an instance and, if its digest is new, the card of the version that it serves.
    ///
    /// `record.card_digest` is filled in from the card. Registering an instance id again takes it over: the older
    /// [`Registration`] then fails with [`Error::Gone`] and its drop removes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] when card and record disagree or are out of bounds, [`Error::Unavailable`] when the registry
    /// cannot be reached.
    async fn register(&self, card: Card, record: Record) -> Result<Box<dyn Registration>, Error>;

    /// The mesh as this registry knows it. The receiver always holds a whole snapshot, never a difference. Revision 0 is
    /// the one before anything was heard: not even that nobody is there.
    fn watch(&self) -> watch::Receiver<Arc<Snapshot>>;

    /// Somebody looked for these [expired](Instance::expired) instances where they used to be, and did not find them: they
    /// need not be listed any longer. Those that are listed as anything else stay, and so may many that expired together:
    /// say it again as long as they are listed.
    fn forget(&self, instances: Vec<Arc<Instance>>);

    /// Forgets a card for good. The gate then no longer knows the expert version.
    ///
    /// # Errors
    /// [`Error::InUse`] while an instance serves it, [`Error::Unknown`] when there is no such card.
    async fn retire(&self, expert: &str, version: &str) -> Result<(), Error>;

    /// Sets the gate of every router of the mesh: `settings` is what would stand under `gate` in `mesh.yaml`, in YAML or
    /// JSON. Without any, each router goes by its own file again. Whether a router can use them is for the router to say.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings that say nothing or are longer than [`MAX_GATE_BYTES`], [`Error::Unavailable`] when
    /// the registry cannot be reached.
    async fn put_gate(&self, settings: Option<String>) -> Result<(), Error>;

    /// What was set last.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the registry cannot be reached.
    async fn get_gate(&self) -> Result<Option<String>, Error>;
}

/// One announced instance. Dropping it without [`Registration::deregister`] is what a crash looks like: the instance
/// vanishes, its card stays.
#[async_trait]
pub trait Registration: Send + Sync + Debug {
    /// Returns once others can know of it: at once, unless the registry is elsewhere.
    async fn announced(&self) {}

    /// Replaces what the instance says of itself: expert, version, instance and epoch stay as registered.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another identity, [`Error::Gone`] once deregistered or taken over.
    async fn update(&self, record: Record) -> Result<(), Error>;

    /// Replaces the card of the version that the instance serves, for all of its instances: what they say of themselves
    /// changes, what they do not. The record is announced anew with the card's digest.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a card of another expert or version, or one that is out of bounds; [`Error::Gone`] once
    /// deregistered or taken over.
    async fn update_card(&self, card: Card) -> Result<(), Error>;

    /// Announces that no new calls are wanted: the record's state becomes [`State::Draining`].
    async fn drain(&self) -> Result<(), Error>;

    /// Removes the instance, on purpose. Doing so twice is no error.
    async fn deregister(&self) -> Result<(), Error>;
}

/// Why the registry did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `what` names the field, e.g. `record.address`.
    #[error("{what}: {problem}")]
    Invalid { what: &'static str, problem: String },
    #[error("instance {instance} is no longer registered here")]
    Gone { instance: String },
    #[error("expert {expert} has no card of version {version}")]
    Unknown { expert: String, version: String },
    #[error("instance {instance} still serves version {version} of expert {expert}")]
    InUse { expert: String, version: String, instance: String },
    #[error("the registry cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    fn invalid(what: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { what, problem: problem.into() }
    }
}

/// Whether a registry takes these settings of a gate.
fn check_gate(settings: &str) -> Result<(), Error> {
    if settings.trim().is_empty() {
        return Err(Error::invalid("gate", "it says nothing; delete it to go by each router's own file"));
    }
    if settings.len() > MAX_GATE_BYTES {
        return Err(Error::invalid("gate", format!("{} bytes, at most {MAX_GATE_BYTES} are allowed", settings.len())));
    }
    Ok(())
}

/// Whether `new` may take the place of `card`.
fn check_successor(card: &Card, new: &Card) -> Result<(), Error> {
    new.check()?;
    if (&card.expert, &card.version) != (&new.expert, &new.version) {
        return Err(Error::invalid("card", "expert and version stay as registered"));
    }
    Ok(())
}
