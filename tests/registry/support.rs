//! A shared etcd, registries on it, and what instances say of themselves.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

pub(crate) use consilium_mesh::registry::testing::{card, record};
use consilium_mesh::{
    metrics::Metrics,
    registry::{EtcdRegistry, EtcdSettings, Expert, Instance, Registry, Snapshot},
};
use consilium_tests::processes::{Etcd, PATIENCE, target};
use tokio::{sync::Mutex, time::timeout};

/// A mesh of its own for one test, on an etcd that those tests share which run at the same time.
pub(crate) struct Mesh {
    pub(crate) name: String,
    /// Killed with the last test that holds it: what only lies in a static is never dropped.
    pub(crate) etcd: Arc<Etcd>,
}

impl Mesh {
    pub(crate) async fn new() -> Self {
        static ETCD: Mutex<Weak<Etcd>> = Mutex::const_new(Weak::new());
        static MESHES: AtomicUsize = AtomicUsize::new(0);
        let mut shared = ETCD.lock().await;
        let etcd = match shared.upgrade() {
            Some(etcd) => etcd,
            None => Arc::new(Etcd::start(1, &logs()).await),
        };
        *shared = Arc::downgrade(&etcd);
        Self { name: format!("mesh-{}", MESHES.fetch_add(1, Ordering::Relaxed)), etcd }
    }

    /// One process's view of it.
    pub(crate) fn member(&self) -> EtcdRegistry {
        self.open(&self.etcd.urls(), None)
    }

    pub(crate) fn open(&self, endpoints: &[String], table: Option<&Path>) -> EtcdRegistry {
        // The shortest lease that etcd grants: some tests wait for it to run out.
        let settings = EtcdSettings { lease: Duration::from_secs(2), ..EtcdSettings::new(endpoints) };
        open(&self.name, &settings, table)
    }
}

pub(crate) fn logs() -> PathBuf {
    target().join("registry-logs")
}

pub(crate) fn open(mesh: &str, settings: &EtcdSettings, table: Option<&Path>) -> EtcdRegistry {
    EtcdRegistry::open(mesh, settings, table.map(Path::to_owned), &Metrics::new()).expect("the settings are right")
}

/// Returns the snapshot once it is as wanted.
pub(crate) async fn until(registry: &dyn Registry, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut snapshots = registry.watch();
    let found = timeout(PATIENCE, snapshots.wait_for(|snapshot| wanted(snapshot))).await;
    Arc::clone(&found.expect("the registry came to what the test waits for").expect("the registry lives"))
}

pub(crate) fn expert<'a>(snapshot: &'a Snapshot, expert: &str) -> Option<&'a Arc<Expert>> {
    snapshot.experts.get(expert)
}

pub(crate) fn instance<'a>(snapshot: &'a Snapshot, expert: &str, instance: &str) -> Option<&'a Arc<Instance>> {
    snapshot.experts.get(expert)?.instances.get(instance)
}
