//! A mesh's registry as a command meets it: waited for no longer than a person would, and in words when it does not come.

use std::{sync::Arc, time::Duration};

use consilium_mesh::registry::{EtcdSettings, Registry, Snapshot};
use tokio::time::timeout;

use crate::error::{Error, Trouble};

/// Waits until `registry` shows what is `wanted`, and tells what it shows then; `None` where that takes longer than
/// `patience`.
pub(crate) async fn shows(
    registry: &dyn Registry,
    wanted: impl FnMut(&Arc<Snapshot>) -> bool,
    patience: Duration,
) -> Option<Arc<Snapshot>> {
    let mut snapshots = registry.watch();
    let shown = timeout(patience, snapshots.wait_for(wanted)).await.ok()?.ok()?;
    Some(Arc::clone(&shown))
}

/// The mesh as etcd has it.
///
/// # Errors
/// Where etcd is not heard of within `patience`.
pub(crate) async fn first(
    registry: &dyn Registry,
    etcd: &EtcdSettings,
    patience: Duration,
) -> Result<Arc<Snapshot>, Error> {
    shows(registry, |mesh| mesh.revision > 0, patience).await.ok_or_else(|| Error::Failed(unreachable(etcd)))
}

pub(crate) fn unreachable(etcd: &EtcdSettings) -> Trouble {
    Trouble::new(format!("etcd at {} cannot be reached", etcd.endpoints.join(", ")))
        .with_hint("is it running there, and may this machine talk to it?")
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use consilium_mesh::registry::{self, Card, Instance, Record, Registration};
    use tokio::sync::watch;

    use super::*;

    /// A registry of which nothing is heard until somebody sends.
    #[derive(Debug, Default)]
    struct Silent(watch::Sender<Arc<Snapshot>>);

    #[async_trait]
    impl Registry for Silent {
        async fn register(&self, _: Card, record: Record) -> Result<Box<dyn Registration>, registry::Error> {
            Err(registry::Error::Gone { instance: record.instance })
        }

        fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
            self.0.subscribe()
        }

        fn forget(&self, _: Vec<Arc<Instance>>) {}

        async fn retire(&self, _: &str, _: &str) -> Result<(), registry::Error> {
            Ok(())
        }

        async fn put_gate(&self, _: Option<String>) -> Result<(), registry::Error> {
            Ok(())
        }

        async fn get_gate(&self) -> Result<Option<String>, registry::Error> {
            Ok(None)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_etcd_that_says_nothing_is_waited_for_and_then_named() {
        let etcd = EtcdSettings::new(["http://a:1", "http://b:1"]);
        let registry = Silent::default();
        let error = first(&registry, &etcd, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(error.trouble().headline, "etcd at http://a:1, http://b:1 cannot be reached");

        registry.0.send_replace(Arc::new(Snapshot { revision: 7, ..Snapshot::default() }));
        assert_eq!(first(&registry, &etcd, Duration::ZERO).await.unwrap().revision, 7);
    }
}
