//! Step 4: which instance gets an attempt. Only this folder knows addresses and channels.
//!
//! One channel per instance and our own pick: tonic's balanced channel reports a load of zero for everybody and counts
//! a refused connection as ready (38 % of calls failed with one of two endpoints dead). The pick is the power of two
//! choices over `latency estimate × (calls in flight + 1)`, where a failure is a slow sample: a broken instance that
//! answers fast would otherwise draw all the traffic.

mod ewma;
mod p2c;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use consilium_mesh::{
    dial,
    registry::{Expert, Instance, State, Track},
};
use tokio::time::Instant;
use tonic::transport::Channel;

use self::ewma::PeakEwma;

/// What a failed attempt counts as, at the least.
const PENALTY: Duration = Duration::from_secs(5);
/// The most that an instance can ask for by a push-back.
const MAX_PENALTY: Duration = Duration::from_mins(5);

/// Opens a channel to an instance. Lazy: the connection itself is made when it is first used.
pub(crate) trait Connect: Send + Sync {
    fn connect(&self, instance: &Instance) -> Result<Channel, dial::Error>;
}

/// One instance as this router sees it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    instance: Arc<Instance>,
    channel: Channel,
    history: Arc<History>,
}

/// What this router knows of a process; survives changes of its record.
#[derive(Debug)]
struct History {
    in_flight: AtomicU32,
    latency: Mutex<PeakEwma>,
    /// What the estimate fades to while nothing is sampled: half the expert's objective.
    floor: Duration,
}

/// The endpoints of one expert.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    endpoints: BTreeMap<String, Arc<Endpoint>>,
}

impl Pool {
    /// The pool after a change of the registry. An endpoint lives on as long as its instance keeps id and epoch: the
    /// same address with a new epoch is a new process, which starts without history.
    pub(crate) fn next(&self, expert: &Expert, connect: &dyn Connect) -> Self {
        let now = Instant::now();
        let mut endpoints = BTreeMap::new();
        for (id, instance) in &expert.instances {
            let known = self.endpoints.get(id).filter(|known| known.instance.record.epoch == instance.record.epoch);
            let latency = expert.cards.get(&instance.record.version).map(|card| card.slo.latency);
            let endpoint = match known {
                Some(known) if Arc::ptr_eq(&known.instance, instance) => Arc::clone(known),
                Some(known) => Arc::new(Endpoint {
                    instance: Arc::clone(instance),
                    channel: known.channel.clone(),
                    history: Arc::clone(&known.history),
                }),
                None => match connect.connect(instance) {
                    Ok(channel) => {
                        let objective = latency.unwrap_or(PENALTY);
                        let seed = self.median_latency(now).unwrap_or(objective / 2);
                        let latency = Mutex::new(PeakEwma::new(seed, now));
                        let history = History { in_flight: AtomicU32::new(0), latency, floor: objective / 2 };
                        Arc::new(Endpoint { instance: Arc::clone(instance), channel, history: Arc::new(history) })
                    }
                    Err(error) => {
                        tracing::warn!(instance = %id, %error, "an instance cannot be connected to and is left out");
                        continue;
                    }
                },
            };
            endpoints.insert(id.clone(), endpoint);
        }
        Self { endpoints }
    }

    /// How many instances of `version` may be picked.
    pub(crate) fn live(&self, version: &str) -> usize {
        self.endpoints.values().filter(|endpoint| endpoint.serves(version)).count()
    }

    /// Calls of this router that run on `instance` now.
    pub(crate) fn in_flight(&self, instance: &str) -> u32 {
        self.endpoints.get(instance).map_or(0, |endpoint| endpoint.history.in_flight.load(Ordering::Relaxed))
    }

    /// Picks an instance of `version` that is not in `tried`.
    pub(crate) fn pick(&self, version: &str, tried: &[String]) -> Option<Pick> {
        let now = Instant::now();
        let candidates: Vec<_> = self
            .endpoints
            .values()
            .filter(|endpoint| endpoint.serves(version) && !tried.contains(&endpoint.instance.record.instance))
            .collect();
        let loads: Vec<_> = candidates.iter().map(|endpoint| endpoint.load(now)).collect();
        let index = p2c::pick(&loads, |n| rand::random_range(0..n))?;
        candidates.get(index).map(|endpoint| Pick::new(Arc::clone(endpoint), now))
    }

    /// The lower median: of two instances of which one is broken, a third is expected to be like the sound one.
    fn median_latency(&self, now: Instant) -> Option<Duration> {
        let mut estimates: Vec<_> = self.endpoints.values().map(|endpoint| endpoint.estimate(now)).collect();
        estimates.sort_by(f64::total_cmp);
        let middle = estimates.len().checked_sub(1)? / 2;
        estimates.get(middle).map(|seconds| Duration::from_secs_f64(*seconds))
    }
}

impl Endpoint {
    fn serves(&self, version: &str) -> bool {
        let record = &self.instance.record;
        record.version == version && record.state == State::Serving && record.track == Track::Live
    }

    fn estimate(&self, now: Instant) -> f64 {
        self.history.latency.lock().unwrap_or_else(PoisonError::into_inner).at(now, self.history.floor)
    }

    fn load(&self, now: Instant) -> f64 {
        self.estimate(now) * f64::from(self.history.in_flight.load(Ordering::Relaxed) + 1)
    }

    fn sample(&self, latency: Duration, now: Instant) {
        self.history.latency.lock().unwrap_or_else(PoisonError::into_inner).add(latency, now);
    }
}

/// An attempt's instance. While it lives the instance counts one more call in flight. Whoever drops it without a verdict
/// (the call was cancelled, or given too little time) leaves the time so far as a sample if that is slower than expected:
/// it is only a lower bound.
#[derive(Debug)]
pub(crate) struct Pick {
    endpoint: Arc<Endpoint>,
    since: Instant,
    judged: bool,
}

impl Pick {
    fn new(endpoint: Arc<Endpoint>, since: Instant) -> Self {
        endpoint.history.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { endpoint, since, judged: false }
    }

    pub(crate) fn instance(&self) -> &str {
        &self.endpoint.instance.record.instance
    }

    pub(crate) fn channel(&self) -> Channel {
        self.endpoint.channel.clone()
    }

    /// The instance answered, or found fault with the request: either way it works.
    pub(crate) fn succeeded(mut self) {
        self.judge(Duration::ZERO);
    }

    /// The instance failed; `retry_after` is what it asked for.
    pub(crate) fn failed(mut self, retry_after: Option<Duration>) {
        self.judge(retry_after.unwrap_or(PENALTY).clamp(PENALTY, MAX_PENALTY));
    }

    fn judge(&mut self, at_least: Duration) {
        let now = Instant::now();
        self.endpoint.sample((now - self.since).max(at_least), now);
        self.judged = true;
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        if !self.judged && self.since.elapsed().as_secs_f64() > self.endpoint.estimate(Instant::now()) {
            self.judge(Duration::ZERO);
        }
        self.endpoint.history.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use consilium_mesh::registry::{Card, Cost, RECORD_SCHEMA, Record, Slo};

    use super::*;

    struct Lazy;

    impl Connect for Lazy {
        fn connect(&self, instance: &Instance) -> Result<Channel, dial::Error> {
            dial::channel(&dial::Target::plain(&*instance.address))
        }
    }

    fn instance(id: &str, epoch: &str, state: State) -> (String, Arc<Instance>) {
        let address = "127.0.0.1:1".to_owned();
        let record = Record {
            schema: RECORD_SCHEMA,
            instance: id.to_owned(),
            epoch: epoch.to_owned(),
            expert: "labs".to_owned(),
            address: address.clone(),
            version: "1".to_owned(),
            state,
            track: Track::Live,
            card_digest: String::new(),
            models: Vec::new(),
            zone: String::new(),
            tls: false,
            server_name: String::new(),
            executors: 1,
            batch_units: 1,
            cost: Cost::default(),
            keepalive_ms: None,
            software: String::new(),
        };
        (id.to_owned(), Arc::new(Instance { address, record }))
    }

    fn expert<const N: usize>(instances: [(String, Arc<Instance>); N]) -> Expert {
        let card = Card {
            expert: "labs".to_owned(),
            version: "1".to_owned(),
            summary: String::new(),
            examples: Vec::new(),
            serves: BTreeMap::new(),
            accepts: Vec::new(),
            task: String::new(),
            slo: Slo { latency: Duration::from_millis(100), objective: 0.99, first_token: None },
            price: None,
            idempotent: true,
            hedge: false,
            models: Vec::new(),
        };
        Expert {
            name: "labs".to_owned(),
            cards: BTreeMap::from([("1".to_owned(), Arc::new(card))]),
            instances: instances.into(),
        }
    }

    /// How many of 100 picks went to `id`, each answered at once.
    fn share(pool: &Pool, id: &str) -> usize {
        let picks = (0..100).map(|_| pool.pick("1", &[]).expect("somebody serves"));
        picks.map(|pick| (pick.instance() == id, pick.succeeded()).0).filter(|picked| *picked).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_a_slow_sample_and_a_new_process_starts_without_it() {
        let serving = |epoch| expert([instance("a", epoch, State::Serving), instance("b", "1", State::Serving)]);
        let pool = Pool::default().next(&serving("1"), &Lazy);
        let failed = loop {
            let pick = pool.pick("1", &["b".to_owned()]).expect("a serves");
            if pick.instance() == "a" {
                break pick;
            }
        };
        failed.failed(None);
        assert_eq!(share(&pool, "a"), 0);

        let unchanged = pool.next(&serving("1"), &Lazy);
        assert_eq!(share(&unchanged, "a"), 0, "a snapshot that leaves it alone leaves its history alone");

        let restarted = pool.next(&serving("2"), &Lazy);
        drop(restarted.pick("1", &["b".to_owned()]).expect("a serves again"));
        let pick = restarted.pick("1", &["b".to_owned()]).expect("a serves again");
        assert!(pick.endpoint.estimate(Instant::now()) < 1.0, "a new epoch is a new process");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_instance_is_tried_again_later() {
        let both = expert([instance("a", "1", State::Serving), instance("b", "1", State::Serving)]);
        let pool = Pool::default().next(&both, &Lazy);
        pool.pick("1", &["b".to_owned()]).expect("a serves").failed(None);
        let busy: Vec<_> = (0..3).map(|_| pool.pick("1", &["a".to_owned()]).expect("b serves")).collect();
        assert_eq!(pool.pick("1", &[]).expect("both serve").instance(), "b", "at first it is shunned");
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(pool.pick("1", &[]).expect("both serve").instance(), "a", "once forgiven, it relieves the busy one");
        drop(busy);
    }

    #[tokio::test]
    async fn only_serving_instances_of_the_version_are_picked_and_calls_in_flight_are_counted() {
        let pool = Pool::default()
            .next(&expert([instance("a", "1", State::Serving), instance("b", "1", State::Draining)]), &Lazy);
        assert_eq!((pool.live("1"), pool.live("2")), (1, 0));
        assert!(pool.pick("2", &[]).is_none());
        assert!(pool.pick("1", &["a".to_owned()]).is_none(), "b drains and a was tried");
        let pick = pool.pick("1", &[]).expect("a serves");
        assert_eq!(pool.in_flight("a"), 1);
        drop(pick);
        assert_eq!(pool.in_flight("a"), 0);
    }
}
