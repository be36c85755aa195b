//! How an instance is reached: one channel, and a monitor on the same channel.

use consilium_mesh::{dial, registry::Instance, tls};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Channel;

use super::health::{Monitor, News, Subject};
use crate::metrics::Metrics;

/// Opens lines to instances.
pub(crate) trait Connect: Send + Sync {
    /// The channel connects with its first call, and again whenever the connection is lost.
    fn connect(&self, instance: &Instance) -> Result<Line, dial::Error>;
}

/// The way to an instance, and whether anybody answers there.
#[derive(Debug)]
pub(crate) struct Line {
    pub(super) channel: Channel,
    pub(super) monitor: Monitor,
}

#[cfg(test)]
impl Line {
    /// One that nobody watches.
    pub(crate) fn still(channel: Channel, health: super::Health) -> Self {
        Self { channel, monitor: Monitor::of(health) }
    }
}

/// Lines as the records announce them.
#[derive(Debug)]
pub(crate) struct Lines {
    /// How instances are known that serve TLS; `None` where there is no authority to know them by.
    pub(crate) tls: Option<tls::Client>,
    /// What the monitors tell.
    pub(crate) news: watch::Sender<News>,
    /// What they count.
    pub(crate) metrics: Metrics,
    /// Own the monitors' tasks.
    pub(crate) tasks: TaskTracker,
    /// Ends all of them.
    pub(crate) stop: CancellationToken,
}

impl Connect for Lines {
    fn connect(&self, instance: &Instance) -> Result<Line, dial::Error> {
        let record = &instance.record;
        let channel = dial::instance(record, self.tls.as_ref())?;
        let (expert, instance) = (record.expert.clone(), record.instance.clone());
        let subject = Subject { channel: channel.clone(), expert, instance };
        Ok(Line { channel, monitor: Monitor::start(subject, self) })
    }
}
