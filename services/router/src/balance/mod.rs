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
            let known = self
                .endpoints
                .get(id)
                .filter(|known| known.instance.record.epoch == instance.record.epoch);
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
                        let history = History {
                            in_flight: AtomicU32::new(0),
                            latency,
                            floor: objective / 2,
                        };
                        Arc::new(Endpoint {
                            instance: Arc::clone(instance),
                            channel,
                            history: Arc::new(history),
                        })
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
        self.endpoints
            .values()
            .filter(|endpoint| endpoint.serves(version))
            .count()
    }

    /// Calls of this router that run on `instance` now.
    pub(crate) fn in_flight(&self, instance: &str) -> u32 {
        self.endpoints
            .get(instance)
            .map_or(0, |endpoint| endpoint.history.in_flight.load(Ordering::Relaxed))
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
        candidates
            .get(index)
            .map(|endpoint| Pick::new(Arc::clone(endpoint), now))
    }

    fn median_latency(&self, now: Instant) -> Option<Duration> {
        let mut estimates: Vec<_> = self.endpoints.values().map(|endpoint| endpoint.estimate(now)).collect();
        estimates.sort_by(f64::total_cmp);
        estimates
            .get(estimates.len() / 2)
            .map(|seconds| Duration::from_secs_f64(*seconds))
    }
}

impl Endpoint {
    fn serves(&self, version: &str) -> bool {
        let record = &self.instance.record;
        record.version == version && record.state == State::Serving && record.track == Track::Live
    }

    fn estimate(&self, now: Instant) -> f64 {
        self.history
            .latency
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .at(now, self.history.floor)
    }

    fn load(&self, now: Instant) -> f64 {
        self.estimate(now) * f64::from(self.history.in_flight.load(Ordering::Relaxed) + 1)
    }

    fn sample(&self, latency: Duration, now: Instant) {
        self.history
            .latency
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(latency, now);
    }
}

/// An attempt's instance. While it lives the instance counts one more call in flight; whoever drops it without a
/// verdict (the call was cancelled) leaves the time so far as a sample.
#[derive(Debug)]
pub(crate) struct Pick {
    endpoint: Arc<Endpoint>,
    since: Instant,
    judged: bool,
}

impl Pick {
    fn new(endpoint: Arc<Endpoint>, since: Instant) -> Self {
        endpoint.history.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            endpoint,
            since,
            judged: false,
        }
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
        if !self.judged {
            self.judge(Duration::ZERO);
        }
        self.endpoint.history.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
