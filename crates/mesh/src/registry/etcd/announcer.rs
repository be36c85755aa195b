//! Keeps one instance announced: grants a lease, puts card and record, renews, and does it all again whenever etcd has
//! lost any of it. It never gives up and never ends the process: an expert that cannot announce itself still answers
//! those who know it.

use std::{sync::Arc, time::Duration};

use etcd_client::{Client, Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse};
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
    pub(super) card: Arc<Card>,
    /// Counts the changes of `record`, those of the card included.
    pub(super) change: u64,
    /// Counts the changes of `card`.
    pub(super) card_change: u64,
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
    /// The [`Wanted::card_change`] that was put last.
    card_change: u64,
}

impl Announcer {
    /// Until the instance has left, or nobody holds its registration any longer.
    pub(super) async fn run(mut self) {
        let abandoned = self.abandoned.clone();
        let keeping = async {
            let mut backoff = Backoff::new(SHORTEST_WAIT, LONGEST_WAIT);
            let mut held = None;
            let (mut troubled, mut lost) = (false, false);
            loop {
                let mut answered = || {
                    backoff.worked();
                    lost = false;
                    std::mem::take(&mut troubled)
                };
                let Err(trouble) = self.keep(&mut held, &mut answered).await else { return };
                if matches!(trouble, Trouble::Conflict) {
                    // Instances that start together write the same card: one is first, the others look again.
                    sleep(backoff.failed(rand::random())).await;
                    continue;
                }
                let instance = self.wanted.borrow().record.instance.clone();
                if matches!(trouble, Trouble::LeaseLost) {
                    held = None;
                    if !std::mem::replace(&mut lost, true) {
                        tracing::warn!(instance, "the registration was lost: announcing it again");
                        continue;
                    }
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
            Held { lease: call(client.lease_grant(seconds, None)).await?.id(), change: None, card_change: 0 }
        };
        *held = Some(here);
        let period = self.lease / RENEWALS;
        let mut renew = interval_at(Instant::now() + period, period);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            if wanted.leaves {
                return self.leave(&mut client, here, wanted).await;
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

    /// Renews the lease. Where key or card are gone although the lease is not, they are to be put again.
    async fn renew(&self, client: &mut Client, held: &mut Held) -> Result<(), Trouble> {
        match call(client.lease_keep_alive(held.lease)).await {
            Ok(_) => {}
            // How this client says that there is no such lease.
            Err(Trouble::Etcd(etcd_client::Error::LeaseKeepAliveError(_))) => return Err(Trouble::LeaseLost),
            Err(trouble) => return Err(trouble),
        }
        let record = self.wanted.borrow().record.clone();
        let there = self.look(client, &record).await?;
        let listed = there.record.is_some_and(|key| key.lease() == held.lease);
        // Whoever drains does not need its card any longer: it may be another one's by now.
        if !listed || (there.card.is_none() && record.state == State::Serving) {
            held.change = None;
        }
        Ok(())
    }

    /// Puts the record, and with its first time the card where another one or none is known: nobody should see a record
    /// without its card, and a card that is retired meanwhile should not stay away.
    async fn put(&self, client: &mut Client, held: &mut Held, wanted: &Wanted) -> Result<(), Trouble> {
        let record = &wanted.record;
        let there = self.look(client, record).await?;
        // Epochs are UUIDs of version 7, which begin with the time. A record under this very id is of a process that took
        // this one's place, or the ghost of an earlier one from a restored etcd.
        let epoch = |known: &KeyValue| Some(Record::decode(&record.expert, known.value_str().ok()?).ok()?.epoch);
        let others = [&there.record, &there.elsewhere].into_iter().flatten();
        if others.filter_map(epoch).any(|other| other > record.epoch) {
            if self.done.send_replace(Done::TakenOver) != Done::TakenOver {
                let instance = &record.instance;
                tracing::warn!(instance, "a later start of this instance has taken its place in the registry");
            }
            return Ok(());
        }
        let (place, card) = (Place::of(record.track), self.card_key(record));
        let (key, elsewhere) = (self.key(record, place), self.key(record, place.other()));
        let unchanged = |key: &str, known: &Option<KeyValue>| {
            Compare::mod_revision(key, CompareOp::Equal, known.as_ref().map_or(0, KeyValue::mod_revision))
        };
        let mut when = vec![unchanged(&key, &there.record), unchanged(&elsewhere, &there.elsewhere)];
        let value = record.encode().map_err(|error| Trouble::Unwritable(error.to_string()))?;
        let mut then = vec![
            TxnOp::put(key, value, Some(PutOptions::new().with_lease(held.lease))),
            TxnOp::delete(elsewhere, None),
        ];
        // Only at first, and when it is the card that changes: whoever changes its state, or goes, must not bring back what a
        // later start has replaced.
        let first = held.change.is_none();
        let concerns_card = first || held.card_change != wanted.card_change;
        if concerns_card && record.state == State::Serving {
            when.push(unchanged(&card, &there.card));
            if !there.card.as_ref().is_some_and(|known| is_card(known, &wanted.card)) {
                let value =
                    serde_json::to_vec(&*wanted.card).map_err(|error| Trouble::Unwritable(error.to_string()))?;
                then.push(TxnOp::put(card, value, None));
            }
        }
        match call(client.txn(Txn::new().when(when).and_then(then))).await {
            Ok(response) if response.succeeded() => {
                if first {
                    self.metrics.announcements.inc();
                }
                (held.change, held.card_change) = (Some(wanted.change), wanted.card_change);
                self.done.send_replace(Done::Announced(wanted.change));
                tracing::debug!(instance = record.instance, "announced");
                Ok(())
            }
            Ok(_) => Err(Trouble::Conflict),
            Err(Trouble::Etcd(error)) if is_lease_not_found(&error) => Err(Trouble::LeaseLost),
            Err(trouble) => Err(trouble),
        }
    }

    /// What etcd has of the instance and its card, at one moment.
    async fn look(&self, client: &mut Client, record: &Record) -> Result<There, Trouble> {
        let place = Place::of(record.track);
        let keys = [self.key(record, place), self.key(record, place.other()), self.card_key(record)];
        let found = call(client.txn(Txn::new().and_then(keys.map(|key| TxnOp::get(key, None))))).await?;
        let mut found = found.op_responses().into_iter().map(|response| match response {
            TxnOpResponse::Get(mut found) => found.take_kvs().pop(),
            _ => None,
        });
        let mut next = || found.next().flatten();
        Ok(There { record: next(), elsewhere: next(), card: next() })
    }

    /// Says goodbye, then goes. The key is gone with the lease; one that a later start has put is under that one's lease.
    async fn leave(&self, client: &mut Client, mut held: Held, mut wanted: Wanted) -> Result<(), Trouble> {
        if wanted.record.state != State::Draining || held.change != Some(wanted.change) {
            wanted.record.state = State::Draining;
            // An etcd that takes no more writes still lets go of leases, so this is tried and not insisted on.
            if let Err(trouble) = self.put(client, &mut held, &wanted).await {
                let error = &trouble as &dyn std::error::Error;
                tracing::warn!(error, "the registry does not take the goodbye: leaving without one");
            }
        }
        match call(client.lease_revoke(held.lease)).await {
            Ok(_) => {}
            Err(Trouble::Etcd(error)) if is_lease_not_found(&error) => {}
            Err(trouble) => return Err(trouble),
        }
        self.done.send_replace(Done::Left);
        Ok(())
    }

    fn key(&self, record: &Record, place: Place) -> String {
        self.keys.instance(place, &record.expert, &record.instance)
    }

    fn card_key(&self, record: &Record) -> String {
        self.keys.card(&record.expert, &record.version)
    }
}

/// What etcd has of an instance: its key, one that it may have on the other side of live and candidate, and its card.
struct There {
    record: Option<KeyValue>,
    elsewhere: Option<KeyValue>,
    card: Option<KeyValue>,
}

fn is_card(known: &KeyValue, card: &Card) -> bool {
    serde_json::from_slice::<Card>(known.value()).is_ok_and(|known| known.digest() == card.digest())
}

/// etcd answers NOT_FOUND to whoever names a lease that it does not have; nothing else in these calls can be missing.
fn is_lease_not_found(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.code() == tonic::Code::NotFound)
}
