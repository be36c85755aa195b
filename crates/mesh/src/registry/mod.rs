//! Where instances announce themselves and where a router finds them: the trait, what it publishes and how it fails.
//! What an expert says of itself is in `card`, what a process says of itself in `record`. No picking, no dialling.

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
