//! Follows a mesh through etcd: lists it, watches what changes from there on, and lists it again whenever the watch can
//! no longer be trusted. etcd's word goes into the table; what comes out is published.
//!
//! etcd-client's watch neither reconnects nor keeps count of revisions, and a half-open one never fails. So every watch
//! is asked for signs of life, lasts a minute at the most, and its end for whatever reason is a new list.

use std::{sync::Arc, time::Duration};

use etcd_client::{Client, GetOptions, KeyValue, KvClient, ResponseHeader, WatchOptions, WatchResponse, WatchStream};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    keys::Keys,
    members::{Members, Trouble, call},
    table::{Forgotten, History, Table},
};
use crate::{
    backoff::Backoff,
    metrics::RegistryMetrics,
    registry::{Instance, Snapshot},
};

/// Room for a page of the largest cards. What a watch delivers comes in pieces that are smaller.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// How often the watch is asked how far it is, and when its silence means that nobody is there.
const ASK_EVERY: Duration = Duration::from_secs(5);
const SILENT_AFTER: Duration = Duration::from_secs(15);

/// A watch may have lost an event without anybody noticing (etcd's own list of such bugs is long): everything is listed
/// again after this time, give or take a quarter.
const LIST_AGAIN: Duration = Duration::from_mins(1);

const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What follows one mesh. Runs until it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) keys: Keys,
    pub(super) members: Members,
    /// What is known to begin with.
    pub(super) table: Table,
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    /// Instances that somebody looked for and did not find.
    pub(super) missed: mpsc::Receiver<Vec<Arc<Instance>>>,
    pub(super) metrics: RegistryMetrics,
}

impl Follower {
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { keys, mut members, table, snapshots, missed, metrics } = self;
        // However this ends: without a follower, what is known grows old.
        let _down = Down(metrics.up.clone());
        let mut following = Following { keys, table, snapshots, missed, metrics, revision: 0, up: None, held_at: None };
        following.publish();
        let mut backoff = Backoff::new(SHORTEST_WAIT, LONGEST_WAIT);
        loop {
            let session = Box::pin(following.session(&members, &mut backoff));
            let Some(ended) = stop.run_until_cancelled(session).await else { return };
            let Err(trouble) = ended else { continue };
            following.down(&trouble);
            members.rotate();
            let waiting = following.wait(backoff.failed(rand::random()));
            if stop.run_until_cancelled(waiting).await.is_none() {
                return;
            }
        }
    }
}

/// Says that nobody follows any longer.
struct Down(Gauge);

impl Drop for Down {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

#[derive(Debug)]
struct Following {
    keys: Keys,
    table: Table,
    snapshots: watch::Sender<Arc<Snapshot>>,
    missed: mpsc::Receiver<Vec<Arc<Instance>>>,
    metrics: RegistryMetrics,
    /// The latest that etcd was at.
    revision: i64,
    /// `None` before anything is known of it.
    up: Option<bool>,
    /// When it was last said that instances are held.
    held_at: Option<Instant>,
}

impl Following {
    /// Lists, then watches for about a minute. `Ok` when it is time to list again.
    async fn session(&mut self, members: &Members, backoff: &mut Backoff) -> Result<(), Trouble> {
        let (client, member) = members.client().await?;
        let (revision, entries) = list(&client, &self.keys).await?;
        let listed = entries.iter().filter_map(|entry| Some((self.keys.parse(entry.key())?, entry.value())));
        let history = if revision < self.revision { History::Rewound } else { History::Continued };
        if history == History::Rewound {
            tracing::warn!(revision, before = self.revision, "the registry went back to an earlier state");
        }
        self.revision = revision;
        self.table.replace(listed, history, Instant::now());
        self.publish();
        self.metrics.lists.inc();
        self.metrics.heard.now();

        // From the very revision of the list, not from the one after it: etcd says nothing of its progress to a watch that
        // begins in the future, so one that nobody writes to would look silent. What is told twice changes nothing.
        let mut watch = watch_from(&client, &self.keys, revision).await?;
        let again = Instant::now() + LIST_AGAIN.mul_f64(rand::random_range(0.75..1.25));
        let mut ask = interval_at(Instant::now() + ASK_EVERY, ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                response = watch.message() => {
                    let response = response?.ok_or_else(|| Trouble::WatchEnded("closed".to_owned()))?;
                    heard = Instant::now();
                    self.metrics.heard.now();
                    if response.canceled() {
                        return ended(&response);
                    }
                    // The first thing that it says is that it watches.
                    self.follows(&member);
                    backoff.worked();
                    self.apply(&response);
                }
                Some(missed) = self.missed.recv() => self.forget(&missed),
                _ = ask.tick() => {
                    if heard.elapsed() > SILENT_AFTER {
                        return Err(Trouble::Silent);
                    }
                    call(watch.request_progress()).await?;
                }
                () = sleep_until(again) => return Ok(()),
            }
        }
    }

    fn follows(&mut self, member: &str) {
        self.metrics.up.set(1);
        if self.up.replace(true) != Some(true) {
            tracing::info!(member, revision = self.revision, "following the registry");
        }
    }

    fn down(&mut self, trouble: &Trouble) {
        self.metrics.up.set(0);
        if self.up.replace(false) != Some(false) {
            let error = trouble as &dyn std::error::Error;
            tracing::warn!(error, "the registry cannot be followed: what was known last stays in use");
        }
    }

    fn apply(&mut self, response: &WatchResponse) {
        let now = Instant::now();
        self.revision = self.revision.max(response.header().map_or(0, ResponseHeader::revision));
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

    fn forget(&mut self, missed: &[Arc<Instance>]) {
        let Forgotten { gone, held } = self.table.forget(missed, Instant::now());
        if gone > 0 {
            tracing::info!(gone, "instances whose registration ran out do not answer either: forgotten");
            self.publish();
        }
        // Asked for again and again by whoever cannot reach them, for a minute.
        if held > 0 && self.held_at.is_none_or(|at| at.elapsed() > LIST_AGAIN) {
            self.held_at = Some(Instant::now());
            tracing::warn!(held, "many registrations ran out together: those that do not answer are kept");
        }
    }

    /// Tells everybody, if there is news.
    fn publish(&mut self) {
        let snapshot = self.table.snapshot();
        let news = self.snapshots.send_if_modified(|known| {
            // Before anything was heard there is nothing to tell, or to keep.
            let news = snapshot.revision > 0 && !Arc::ptr_eq(known, snapshot);
            if news {
                known.clone_from(snapshot);
            }
            news
        });
        if news {
            self.metrics.expired.set(i64::try_from(self.table.expired()).unwrap_or(i64::MAX));
        }
    }

    /// Waits to try again. Without the registry's word nobody is forgotten: who asks for it will ask again.
    async fn wait(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        loop {
            tokio::select! {
                () = sleep_until(end) => return,
                Some(_) = self.missed.recv() => {}
            }
        }
    }
}

/// Everything of the mesh at one revision.
async fn list(client: &Client, keys: &Keys) -> Result<(i64, Vec<KeyValue>), Trouble> {
    let mut client = client.kv_client().max_decoding_message_size(MAX_MESSAGE_BYTES);
    let (mut revision, mut entries) = (0, Vec::new());
    for (prefix, page) in keys.kinds() {
        pages(&mut client, &prefix, page, (&mut revision, &mut entries)).await?;
    }
    Ok((revision, entries))
}

/// Adds everything below `prefix`, page by page. A revision of 0 is the newest, and becomes what that is.
async fn pages(
    client: &mut KvClient,
    prefix: &str,
    page: i64,
    (revision, entries): (&mut i64, &mut Vec<KeyValue>),
) -> Result<(), Trouble> {
    // A prefix ends before the same bytes with the last one counted up: a slash here, so nothing overflows.
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let mut from = prefix.as_bytes().to_vec();
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(page).with_revision(*revision);
        let mut found = call(client.get(from, Some(options))).await?;
        if *revision == 0 {
            *revision = found.header().map_or(0, ResponseHeader::revision);
        }
        entries.append(&mut found.take_kvs());
        match entries.last() {
            Some(last) if found.more() => {
                // The next key in order.
                from = last.key().to_vec();
                from.push(0);
            }
            _ => return Ok(()),
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
