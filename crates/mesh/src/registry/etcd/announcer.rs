//! Keeps one instance announced: grants a lease, puts card and record, renews, and does it all again whenever etcd has
//! lost any of it. It never gives up and never ends the process: an expert that cannot announce itself still answers
//! those who know it.

use std::{sync::Arc, time::Duration};

use etcd_client::{Client, Compare, CompareOp, LeaseTimeToLiveOptions, PutOptions, Txn, TxnOp};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    keys::{Keys, Place},
    members::{Members, Trouble, call},
};
use crate::{
    backoff::Backoff,
    metrics::RegistryMetrics,
    registry::{Card, Record, State},
};

/// A lease is renewed, and looked after, so many times in its life. A lost one is noticed within this part of it: 3 s of
/// the usual 15.
const RENEWALS: u32 = 5;

const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What the instance wants to be known as.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) record: Record,
    /// Counts the changes of `record`.
    pub(super) change: u64,
    /// It goes, on purpose.
    pub(super) leaves: bool,
}

/// How far etcd has got with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Nothing,
    /// Up to this [`Wanted::change`].
    Announced(u64),
    /// A later start of the same instance has taken its place.
    TakenOver,
    Left,
}

/// What keeps one instance announced.
#[derive(Debug)]
pub(super) struct Announcer {
    pub(super) keys: Keys,
    pub(super) members: Members,
    pub(super) lease: Duration,
    pub(super) card: Arc<Card>,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) done: watch::Sender<Done>,
    pub(super) metrics: RegistryMetrics,
    /// Leaves without a word: the lease runs out by itself.
    pub(super) abandoned: CancellationToken,
}

/// What etcd holds for the instance.
#[derive(Debug, Clone, Copy)]
struct Held {
    lease: i64,
    /// The [`Wanted::change`] that was put under it last.
    change: Option<u64>,
}

impl Announcer {
    /// Until the instance has left, or nobody holds its registration any longer.
    pub(super) async fn run(mut self) {
        let abandoned = self.abandoned.clone();
        let keeping = async {
            let mut backoff = Backoff::new(SHORTEST_WAIT, LONGEST_WAIT);
            let mut held = None;
            let mut troubled = false;
            loop {
                let mut answered = || {
                    backoff.worked();
                    std::mem::take(&mut troubled)
                };
                let Err(trouble) = self.keep(&mut held, &mut answered).await else { return };
                let instance = self.wanted.borrow().record.instance.clone();
                if matches!(trouble, Trouble::LeaseLost) {
                    tracing::warn!(instance, "the registration was lost: announcing it again");
                    held = None;
                    continue;
                }
                if !std::mem::replace(&mut troubled, true) {
                    let error = &trouble as &dyn std::error::Error;
                    tracing::warn!(instance, error, "the registry does not take the registration; serving on");
                }
                self.members.rotate();
                sleep(backoff.failed(rand::random())).await;
            }
        };
        abandoned.run_until_cancelled(Box::pin(keeping)).await;
    }

    /// Announces over one member and looks after it. `answered` is told when etcd did as it was asked, and tells whether
    /// it had not before. `Ok` once the instance has left.
    async fn keep(&mut self, held: &mut Option<Held>, answered: &mut impl FnMut() -> bool) -> Result<(), Trouble> {
        let (mut client, member) = self.members.client().await?;
        let mut here = if let Some(mut here) = *held {
            // First of all: an etcd that takes no more writes still renews what there is.
            self.renew(&mut client, &mut here).await?;
            here
        } else {
            let seconds = i64::try_from(self.lease.as_secs()).unwrap_or(i64::MAX);
            Held { lease: call(client.lease_grant(seconds, None)).await?.id(), change: None }
        };
        *held = Some(here);
        let period = self.lease / RENEWALS;
        let mut renew = interval_at(Instant::now() + period, period);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            if wanted.leaves {
                return self.leave(&mut client, here, wanted.record).await;
            }
            if here.change != Some(wanted.change) {
                self.put(&mut client, &mut here, &wanted).await?;
                *held = Some(here);
            }
            if answered() {
                tracing::info!(member, instance = wanted.record.instance, "the registry takes the registration again");
            }
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                _ = renew.tick() => self.renew(&mut client, &mut here).await?,
            }
        }
    }

    /// Renews the lease. Where the key is gone although the lease is not, it is to be put again.
    async fn renew(&self, client: &mut Client, held: &mut Held) -> Result<(), Trouble> {
        match call(client.lease_keep_alive(held.lease)).await {
            Ok(_) => {}
            // How this client says that there is no such lease.
            Err(Trouble::Etcd(etcd_client::Error::LeaseKeepAliveError(_))) => return Err(Trouble::LeaseLost),
            Err(trouble) => return Err(trouble),
        }
        let options = LeaseTimeToLiveOptions::new().with_keys();
        let life = call(client.lease_time_to_live(held.lease, Some(options))).await?;
        if life.ttl() < 0 {
            return Err(Trouble::LeaseLost);
        }
        let key = self.key(&self.wanted.borrow().record);
        if !life.keys().iter().any(|known| known == key.as_bytes()) {
            held.change = None;
        }
        Ok(())
    }

    /// Puts the card, where another one or none is known, then the record: nobody should see a record without its card.
    async fn put(&self, client: &mut Client, held: &mut Held, wanted: &Wanted) -> Result<(), Trouble> {
        self.put_card(client).await?;
        let record = &wanted.record;
        let key = self.key(record);
        let known = call(client.get(key.clone(), None)).await?;
        let known = known.kvs().first();
        let predecessor = known.and_then(|known| Record::decode(&record.expert, known.value_str().ok()?).ok());
        // Epochs are UUIDs of version 7, which begin with the time. Only here that means something: a record under this
        // very key is of a process that took this one's place, or the ghost of an earlier one from a restored etcd.
        if predecessor.is_some_and(|other| other.epoch > record.epoch) {
            if self.done.send_replace(Done::TakenOver) != Done::TakenOver {
                let instance = &record.instance;
                tracing::warn!(instance, "a later start of this instance has taken its place in the registry");
            }
            return Ok(());
        }
        let value = record.encode().map_err(|error| Trouble::Unwritable(error.to_string()))?;
        let elsewhere = self.keys.instance(Place::of(record.track).other(), &record.expert, &record.instance);
        let unchanged =
            Compare::mod_revision(key.clone(), CompareOp::Equal, known.map_or(0, etcd_client::KeyValue::mod_revision));
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(held.lease)));
        let txn = Txn::new().when([unchanged]).and_then([put, TxnOp::delete(elsewhere, None)]);
        match call(client.txn(txn)).await {
            Ok(response) if response.succeeded() => {
                self.metrics.announcements.inc();
                held.change = Some(wanted.change);
                self.done.send_replace(Done::Announced(wanted.change));
                tracing::debug!(instance = record.instance, "announced");
                Ok(())
            }
            Ok(_) => Err(Trouble::Conflict),
            Err(Trouble::Etcd(error)) if is_lease_not_found(&error) => Err(Trouble::LeaseLost),
            Err(trouble) => Err(trouble),
        }
    }

    async fn put_card(&self, client: &mut Client) -> Result<(), Trouble> {
        let key = self.keys.card(&self.card.expert, &self.card.version);
        let known = call(client.get(key.clone(), None)).await?;
        let known = known.kvs().first().and_then(|known| serde_json::from_slice::<Card>(known.value()).ok());
        if known.is_some_and(|known| known.digest() == self.card.digest()) {
            return Ok(());
        }
        let value = serde_json::to_vec(&*self.card).map_err(|error| Trouble::Unwritable(error.to_string()))?;
        call(client.put(key, value, None)).await?;
        Ok(())
    }

    /// Says goodbye, then goes. The key is gone with the lease; one that a later start has put is under that one's lease.
    async fn leave(&self, client: &mut Client, mut held: Held, mut record: Record) -> Result<(), Trouble> {
        let wanted = self.wanted.borrow().change;
        if record.state != State::Draining || held.change != Some(wanted) {
            record.state = State::Draining;
            self.put(client, &mut held, &Wanted { record, change: wanted, leaves: true }).await?;
        }
        match call(client.lease_revoke(held.lease)).await {
            Ok(_) => {}
            Err(Trouble::Etcd(error)) if is_lease_not_found(&error) => {}
            Err(trouble) => return Err(trouble),
        }
        self.done.send_replace(Done::Left);
        Ok(())
    }

    fn key(&self, record: &Record) -> String {
        self.keys.instance(Place::of(record.track), &record.expert, &record.instance)
    }
}

/// etcd answers NOT_FOUND to whoever names a lease that it does not have; nothing else in these calls can be missing.
fn is_lease_not_found(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.code() == tonic::Code::NotFound)
}
