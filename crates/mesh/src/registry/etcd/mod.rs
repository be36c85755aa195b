//! The registry of many machines, on etcd. What announces and what follows does so on one thread with a runtime of its
//! own, so that a process that is busy with models still renews its leases (a lost lease has restarted whole fleets
//! elsewhere).
//!
//! `keys` is the layout; `members` the connections; `announcer` keeps an instance announced; `follower` keeps a `table`
//! of the mesh, which is pure, and `disk` keeps it between starts; `retire` and `gate` are what administrators ask for.

mod announcer;
mod disk;
mod follower;
mod gate;
mod keys;
mod members;
mod retire;
mod table;
mod thread;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    announcer::{Announcer, Done, Wanted},
    follower::Follower,
    gate::Wish,
    keys::Keys,
    members::Members,
    table::Table,
    thread::Thread,
};
use super::{
    Card, Error, EtcdSettings, Instance, Record, Registration, Registry, Snapshot, State, check_gate, check_successor,
};
use crate::metrics::{Metrics, RegistryMetrics};

/// Reports of missed instances that are not dealt with yet. More of them say the same.
const MISSED: usize = 1;

/// A mesh in etcd. Follows it from the first [`Registry::watch`] on.
#[derive(Debug)]
pub struct EtcdRegistry {
    mesh: String,
    keys: Keys,
    members: Members,
    lease: Duration,
    /// Where what was known last is kept.
    table: Option<PathBuf>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    missed: mpsc::Sender<Vec<Arc<Instance>>>,
    /// The follower's, until it is started.
    to_forget: Mutex<Option<mpsc::Receiver<Vec<Arc<Instance>>>>>,
    /// Nothing announced so far, no numbers of it.
    announced: Once,
    page: Metrics,
    metrics: RegistryMetrics,
    thread: Arc<Thread>,
}

impl EtcdRegistry {
    /// Returns at once, whether or not etcd can be reached.
    ///
    /// # Errors
    /// [`Error::Invalid`] for certificates that cannot be read or used, [`Error::Unavailable`] when no thread can be
    /// started.
    pub fn open(mesh: &str, settings: &EtcdSettings, table: Option<PathBuf>, metrics: &Metrics) -> Result<Self, Error> {
        let (keys, members) = (Keys::new(mesh), Members::new(settings)?);
        let (missed, to_forget) = mpsc::channel(MISSED);
        let snapshots = watch::Sender::new(Arc::<Snapshot>::default());
        let numbers = RegistryMetrics::default();
        Ok(Self {
            mesh: mesh.to_owned(),
            keys,
            members,
            lease: settings.lease,
            table,
            snapshots,
            missed,
            to_forget: Mutex::new(Some(to_forget)),
            announced: Once::new(),
            page: metrics.clone(),
            metrics: numbers,
            thread: Arc::new(Thread::start().map_err(|error| Error::Unavailable(Box::new(error)))?),
        })
    }

    /// Begins to follow the mesh, from the table of last time where there is one.
    fn follow(&self, missed: mpsc::Receiver<Vec<Arc<Instance>>>) {
        let (keys, members, snapshots) = (self.keys.clone(), self.members.clone(), self.snapshots.clone());
        let (mesh, path, metrics) = (self.mesh.clone(), self.table.clone(), self.metrics.clone());
        self.thread.run(|stop| async move {
            let follower = |table| Follower { keys, members, table, snapshots: snapshots.clone(), missed, metrics };
            let loaded = match &path {
                Some(path) => disk::start(path.clone(), mesh.clone()).await,
                None => None,
            };
            match path.zip(loaded) {
                Some((path, table)) => {
                    let keeping = disk::keep(path, mesh, snapshots.subscribe(), stop.clone());
                    tokio::join!(follower(table).run(stop), keeping);
                }
                None => follower(Table::default()).run(stop).await,
            }
        });
    }
}

#[async_trait]
impl Registry for EtcdRegistry {
    /// Returns at once: the instance is announced as soon as etcd can be reached, and again whenever etcd loses it.
    async fn register(&self, card: Card, mut record: Record) -> Result<Box<dyn Registration>, Error> {
        card.check()?;
        record.check(&card)?;
        record.card_digest = card.digest();
        let card = Arc::new(card);
        let first = Wanted { record, card: Arc::clone(&card), change: 0, card_change: 0, leaves: false };
        let (wanted, wishes) = watch::channel(first);
        let (done, progress) = watch::channel(Done::Nothing);
        let abandoned = CancellationToken::new();
        let announcer = Announcer {
            keys: self.keys.clone(),
            members: self.members.clone(),
            lease: self.lease,
            wanted: wishes,
            done,
            metrics: self.metrics.clone(),
            abandoned: abandoned.clone(),
        };
        self.announced.call_once(|| self.metrics.of_announcer(&self.page));
        self.thread.run(|_| announcer.run());
        let thread = Arc::clone(&self.thread);
        Ok(Box::new(Registered { card, wanted, progress, _abandoned: abandoned.drop_guard(), _thread: thread }))
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        if let Some(missed) = self.to_forget.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.metrics.of_follower(&self.page);
            self.follow(missed);
        }
        self.snapshots.subscribe()
    }

    fn forget(&self, instances: Vec<Arc<Instance>>) {
        // Where there is no room they will be missed again.
        let _ = self.missed.try_send(instances);
    }

    async fn retire(&self, expert: &str, version: &str) -> Result<(), Error> {
        retire::retire(&self.keys, self.members.clone(), (expert, version)).await
    }

    async fn put_gate(&self, settings: Option<String>) -> Result<(), Error> {
        settings.as_deref().map_or(Ok(()), check_gate)?;
        gate::ask(&self.keys, self.members.clone(), settings.map_or(Wish::Delete, Wish::Write)).await.map(drop)
    }

    async fn get_gate(&self) -> Result<Option<String>, Error> {
        gate::ask(&self.keys, self.members.clone(), Wish::Read).await
    }
}

/// An instance that is kept announced for as long as this lives.
#[derive(Debug)]
struct Registered {
    card: Arc<Card>,
    wanted: watch::Sender<Wanted>,
    progress: watch::Receiver<Done>,
    _abandoned: DropGuard,
    /// Whoever holds a registration need not hold the registry as well.
    _thread: Arc<Thread>,
}

impl Registered {
    /// Wants something else from now on, and waits until etcd knows.
    async fn want(&self, change: impl FnOnce(&mut Wanted)) -> Result<(), Error> {
        let mut current = 0;
        self.wanted.send_modify(|wanted| {
            change(wanted);
            wanted.change += 1;
            current = wanted.change;
        });
        let mut progress = self.progress.clone();
        let reached = |done: &Done| match *done {
            Done::Nothing => false,
            Done::Announced(change) => change >= current,
            Done::TakenOver | Done::Left => true,
        };
        match progress.wait_for(reached).await.as_deref() {
            Ok(Done::Announced(_)) => Ok(()),
            // Left before, taken over, or nobody is there any longer to tell etcd.
            _ => Err(Error::Gone { instance: self.wanted.borrow().record.instance.clone() }),
        }
    }
}

#[async_trait]
impl Registration for Registered {
    async fn announced(&self) {
        let mut progress = self.progress.clone();
        // An announcer that has ended has nobody to tell any longer.
        let _ = progress.wait_for(|done| *done != Done::Nothing).await;
    }

    async fn update(&self, mut record: Record) -> Result<(), Error> {
        record.check(&self.card)?;
        let registered = self.wanted.borrow().record.clone();
        if (&record.instance, &record.epoch) != (&registered.instance, &registered.epoch) {
            return Err(Error::invalid("record.instance", "instance and epoch stay as registered"));
        }
        if self.wanted.borrow().leaves {
            return Err(Error::Gone { instance: record.instance });
        }
        record.card_digest = registered.card_digest;
        self.want(|wanted| wanted.record = record).await
    }

    async fn update_card(&self, card: Card) -> Result<(), Error> {
        check_successor(&self.card, &card)?;
        if self.wanted.borrow().leaves {
            return Err(Error::Gone { instance: self.wanted.borrow().record.instance.clone() });
        }
        self.want(|wanted| {
            wanted.record.card_digest = card.digest();
            wanted.card = Arc::new(card);
            wanted.card_change += 1;
        })
        .await
    }

    async fn drain(&self) -> Result<(), Error> {
        self.want(|wanted| wanted.record.state = State::Draining).await
    }

    async fn deregister(&self) -> Result<(), Error> {
        if matches!(*self.progress.borrow(), Done::Left | Done::TakenOver) {
            return Ok(());
        }
        let left = async {
            let mut progress = self.progress.clone();
            // An announcer that has ended has nothing left to take back.
            let _ = progress.wait_for(|done| matches!(done, Done::Left | Done::TakenOver)).await;
        };
        self.wanted.send_modify(|wanted| wanted.leaves = true);
        left.await;
        Ok(())
    }
}
