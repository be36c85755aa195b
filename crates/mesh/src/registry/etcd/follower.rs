//! Follows a mesh through etcd: lists it, watches what changes from there on, and lists it again whenever the watch can
//! no longer be trusted. etcd's word goes into the table; what comes out is published.
//!
//! etcd-client's watch neither reconnects nor keeps count of revisions, and a half-open one never fails. So every watch
//! is asked for signs of life, lasts a minute at the most, and its end for whatever reason is a new list.

use std::{path::PathBuf, sync::Arc, time::Duration};

use etcd_client::{Client, GetOptions, KeyValue, WatchOptions, WatchResponse, WatchStream};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    disk,
    keys::Keys,
    members::{Members, Trouble, call},
    table::{Forgotten, Table},
};
use crate::{
    backoff::Backoff,
    metrics::RegistryMetrics,
    registry::{Instance, Snapshot},
};

/// Keys of one page of a list.
const PAGE: i64 = 50;
/// Room for a page of the largest cards, 256 KiB each. What a watch delivers comes in pieces that are smaller.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// How often the watch is asked how far it is, and when its silence means that nobody is there.
const ASK_EVERY: Duration = Duration::from_secs(5);
const SILENT_AFTER: Duration = Duration::from_secs(15);

/// A watch may have lost an event without anybody noticing (etcd's own list of such bugs is long): everything is listed
/// again after this time, give or take a quarter.
const LIST_AGAIN: Duration = Duration::from_mins(1);

const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Changes come in bursts; the disk gets what they come to.
const SAVE_AFTER: Duration = Duration::from_secs(1);

/// What follows one mesh. Runs until it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) mesh: String,
    pub(super) keys: Keys,
    pub(super) members: Members,
    /// Where the table is kept between starts.
    pub(super) disk: Option<PathBuf>,
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    /// Instances that somebody looked for and did not find.
    pub(super) missed: mpsc::Receiver<Instance>,
    pub(super) metrics: RegistryMetrics,
}

impl Follower {
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { mesh, keys, mut members, disk, snapshots, missed, metrics } = self;
        let disk = disk.map(|path| Disk { path, mesh, saving: JoinSet::new(), due: None });
        let table = disk.as_ref().map(Disk::load).unwrap_or_default();
        let mut following = Following { keys, table, disk, snapshots, missed, metrics, held_at: None };
        following.publish();
        let mut backoff = Backoff::new(SHORTEST_WAIT, LONGEST_WAIT);
        let mut up = None;
        while !stop.is_cancelled() {
            let Err(trouble) = following.session(&members, &stop, &mut up, &mut backoff).await else { continue };
            if up.replace(false) != Some(false) {
                let error = &trouble as &dyn std::error::Error;
                tracing::warn!(error, "the registry cannot be followed: what was known last stays in use");
            }
            following.metrics.up.set(0);
            members.rotate();
            following.wait(backoff.failed(rand::random()), &stop).await;
        }
        following.save_now().await;
    }
}

#[derive(Debug)]
struct Following {
    keys: Keys,
    table: Table,
    disk: Option<Disk>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    missed: mpsc::Receiver<Instance>,
    metrics: RegistryMetrics,
    /// When it was last said that instances are held.
    held_at: Option<Instant>,
}

impl Following {
    /// Lists, then watches for about a minute. `Ok` when it is time to list again.
    async fn session(
        &mut self,
        members: &Members,
        stop: &CancellationToken,
        up: &mut Option<bool>,
        backoff: &mut Backoff,
    ) -> Result<(), Trouble> {
        let (client, member) = members.client().await?;
        let (revision, entries) = list(&client, &self.keys).await?;
        let listed = entries.iter().filter_map(|entry| Some((self.keys.parse(entry.key())?, entry.value())));
        self.table.replace(listed, Instant::now());
        self.publish();
        let mut watch = watch_from(&client, &self.keys, revision + 1).await?;

        self.metrics.lists.inc();
        self.metrics.up.set(1);
        backoff.worked();
        if up.replace(true) != Some(true) {
            tracing::info!(member, revision, "following the registry");
        }
        let again = Instant::now() + LIST_AGAIN.mul_f64(rand::random_range(0.75..1.25));
        let mut ask = interval_at(Instant::now() + ASK_EVERY, ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let save = self.disk.as_ref().and_then(|disk| disk.due);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                response = watch.message() => {
                    let response = response?.ok_or_else(|| Trouble::WatchEnded("closed".to_owned()))?;
                    heard = Instant::now();
                    if response.canceled() {
                        return ended(&response);
                    }
                    self.apply(&response);
                }
                Some(instance) = self.missed.recv() => self.forget(&instance),
                _ = ask.tick() => {
                    if heard.elapsed() > SILENT_AFTER {
                        return Err(Trouble::Silent);
                    }
                    call(watch.request_progress()).await?;
                }
                () = due(save) => self.save().await,
                () = sleep_until(again) => return Ok(()),
            }
        }
    }

    fn apply(&mut self, response: &WatchResponse) {
        let now = Instant::now();
        for entry in response.events().iter().filter_map(etcd_client::Event::kv) {
            let Some(key) = self.keys.parse(entry.key()) else { continue };
            // Not `event_type()`, which panics on a type that it does not know. What was deleted has no version.
            if entry.version() == 0 {
                self.table.delete(&key, now);
            } else {
                self.table.put(&key, entry.value());
            }
        }
        self.publish();
    }

    fn forget(&mut self, missed: &Instance) {
        let instance = &missed.record.instance;
        match self.table.forget(missed, Instant::now()) {
            Forgotten::Yes => {
                tracing::info!(instance, "an instance whose registration ran out does not answer: forgotten");
                self.publish();
            }
            Forgotten::Held => {
                // Asked for again and again by whoever cannot reach them, for a minute.
                if self.held_at.is_none_or(|at| at.elapsed() > LIST_AGAIN) {
                    self.held_at = Some(Instant::now());
                    let expired = self.table.expired();
                    tracing::warn!(expired, "many registrations ran out together: those that do not answer are kept");
                }
            }
            Forgotten::No => {}
        }
    }

    /// Tells everybody, if there is news.
    fn publish(&mut self) {
        let snapshot = self.table.snapshot();
        let news = self.snapshots.send_if_modified(|known| {
            let news = !Arc::ptr_eq(known, snapshot);
            known.clone_from(snapshot);
            news
        });
        if news {
            self.metrics.expired.set(i64::try_from(self.table.expired()).unwrap_or(i64::MAX));
            if let Some(disk) = &mut self.disk {
                disk.due.get_or_insert(Instant::now() + SAVE_AFTER);
            }
        }
    }

    /// Waits to try again. Without the registry's word nobody is forgotten: who asks for it will ask again.
    async fn wait(&mut self, duration: Duration, stop: &CancellationToken) {
        let end = Instant::now() + duration;
        loop {
            let save = self.disk.as_ref().and_then(|disk| disk.due);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(end) => return,
                () = due(save) => self.save().await,
                Some(_) = self.missed.recv() => {}
            }
        }
    }

    async fn save(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.save(self.table.snapshot()).await;
        }
    }

    async fn save_now(&mut self) {
        if self.disk.as_ref().is_some_and(|disk| disk.due.is_some()) {
            self.save().await;
        }
        if let Some(disk) = &mut self.disk {
            while disk.saving.join_next().await.is_some() {}
        }
    }
}

/// Everything of the mesh at one revision, page by page.
async fn list(client: &Client, keys: &Keys) -> Result<(i64, Vec<KeyValue>), Trouble> {
    let mut client = client.kv_client().max_decoding_message_size(MAX_MESSAGE_BYTES);
    let prefix = keys.prefix().as_bytes();
    // A prefix ends before the same bytes with the last one counted up: a slash here, so nothing overflows.
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let (mut revision, mut entries, mut from) = (0, Vec::new(), prefix.to_vec());
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(revision);
        let mut page = call(client.get(from, Some(options))).await?;
        if revision == 0 {
            revision = page.header().map_or(0, etcd_client::ResponseHeader::revision);
        }
        entries.append(&mut page.take_kvs());
        match entries.last() {
            Some(last) if page.more() => {
                // The next key in order.
                from = last.key().to_vec();
                from.push(0);
            }
            _ => return Ok((revision, entries)),
        }
    }
}

async fn watch_from(client: &Client, keys: &Keys, revision: i64) -> Result<WatchStream, Trouble> {
    let mut client = client.watch_client().max_decoding_message_size(MAX_MESSAGE_BYTES);
    let options = WatchOptions::new().with_prefix().with_start_revision(revision).with_fragment();
    call(client.watch(keys.prefix(), Some(options))).await
}

/// etcd ended the watch. What it should have gone on from may be compacted away: then the list is all there is to do.
fn ended(response: &WatchResponse) -> Result<(), Trouble> {
    if response.compact_revision() > 0 {
        tracing::info!(
            revision = response.compact_revision(),
            "the registry was compacted under the watch: listing it again"
        );
        return Ok(());
    }
    Err(Trouble::WatchEnded(response.cancel_reason().to_owned()))
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The table on disk, written by threads that may wait for it: a slow disk must not keep anybody from a lease.
#[derive(Debug)]
struct Disk {
    path: PathBuf,
    mesh: String,
    saving: JoinSet<std::io::Result<()>>,
    due: Option<Instant>,
}

impl Disk {
    fn load(&self) -> Table {
        let path = self.path.display();
        match disk::load(&self.path, &self.mesh) {
            Ok(Some(snapshot)) => {
                tracing::info!(%path, experts = snapshot.experts.len(), "starting with the table of last time");
                Table::new(snapshot)
            }
            Ok(None) => Table::default(),
            Err(error) => {
                tracing::warn!(%path, error = &error as &dyn std::error::Error, "the table of last time cannot be used");
                Table::default()
            }
        }
    }

    async fn save(&mut self, snapshot: &Arc<Snapshot>) {
        self.due = None;
        // One after the other: an older table must not overtake a newer one.
        while let Some(ended) = self.saving.join_next().await {
            let _ = ended;
        }
        let (path, mesh, snapshot) = (self.path.clone(), self.mesh.clone(), Arc::clone(snapshot));
        self.saving.spawn_blocking(move || {
            let saved = disk::save(&path, &mesh, &snapshot);
            if let Err(error) = &saved {
                tracing::warn!(path = %path.display(), %error, "the table cannot be written: a start without the registry would find an older one");
            }
            saved
        });
    }
}
