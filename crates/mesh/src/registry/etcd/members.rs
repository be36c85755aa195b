//! The members of the etcd cluster: one client a member, and the next one when a member does not answer. A client over
//! all of them would balance by chance and fail a dead member's share of the calls.

use std::{future::Future, time::Duration};

use etcd_client::{Channel, Client, ConnectOptions};
use tokio::time::timeout;

use crate::{
    dial::{self, Target},
    registry::{Error, EtcdSettings},
};

/// For one small call. A member that takes longer is cut off from the others or overloaded: another may do better.
pub(super) const CALL: Duration = Duration::from_secs(2);

/// Where etcd is, and which member is asked at present.
#[derive(Debug, Clone)]
pub(super) struct Members {
    settings: EtcdSettings,
    at: usize,
}

/// Why etcd did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Etcd(#[from] etcd_client::Error),
    #[error(transparent)]
    Dial(#[from] dial::Error),
    #[error(transparent)]
    Certificates(#[from] Error),
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("the watch ended: {0}")]
    WatchEnded(String),
    #[error("the watch fell silent")]
    Silent,
    #[error("the lease ran out")]
    LeaseLost,
    #[error("somebody else is changing the same keys")]
    Conflict,
    #[error("it cannot be written as JSON: {0}")]
    Unwritable(String),
}

impl Members {
    /// # Errors
    /// [`Error::Invalid`] for certificates that cannot be read or used.
    pub(super) fn new(settings: &EtcdSettings) -> Result<Self, Error> {
        if settings.endpoints.is_empty() {
            return Err(Error::invalid("registry.etcd.endpoints", "empty"));
        }
        // Not everybody begins with the first one.
        let at = rand::random_range(0..settings.endpoints.len());
        let members = Self { settings: settings.clone(), at };
        // What is wrong with an address or a certificate should be said now, not with every try.
        for at in 0..members.len() {
            let target = members.target(at)?;
            dial::check(&target).map_err(|error| Error::invalid("registry.etcd", with_causes(&error)))?;
        }
        Ok(members)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.settings.endpoints.len()
    }

    /// A client of the present member, and the member's address. Connects with its first call.
    pub(super) async fn client(&self) -> Result<(Client, String), Trouble> {
        let target = self.target(self.at)?;
        let channel = Channel::Tonic(dial::channel(&target)?);
        // A member without a leader must say so instead of going silent.
        let options = ConnectOptions::new().with_require_leader(true);
        Ok((Client::from_channel(channel, Some(options)).await?, target.address))
    }

    /// Certificates are read every time: they are renewed more often than processes are started.
    fn target(&self, at: usize) -> Result<Target, Error> {
        let endpoint = self.settings.endpoints.get(at % self.len()).map_or("", String::as_str);
        let address = endpoint.split_once("://").map_or(endpoint, |(_, address)| address).to_owned();
        // No pings: etcd closes connections that ping more often than it allows. Calls have time limits, and the watch asks
        // for signs of life by etcd's own means.
        Ok(Target { address, tls: self.settings.client_tls()?, keepalive: None })
    }

    /// The present member disappointed.
    pub(super) fn rotate(&mut self) {
        self.at = (self.at + 1) % self.len();
    }
}

/// An error in one line, with what caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// One call of etcd, within [`CALL`].
pub(super) async fn call<T>(call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Trouble> {
    timeout(CALL, call).await.map_err(|_| Trouble::TimedOut(CALL))?.map_err(Trouble::Etcd)
}
