//! Step 4: which instance gets an attempt. Only this folder knows addresses and channels.
//!
//! One channel per instance and our own pick: tonic's balanced channel reports a load of zero for everybody and counts
//! a refused connection as ready (38 % of calls failed with one of two endpoints dead). The pick is the power of two
//! choices over `latency estimate × (calls in flight + 1)`, where a failure is a slow sample: a broken instance that
//! answers fast would otherwise draw all the traffic. An instance that says it does not serve, or that cannot be reached,
//! is passed over while there is another one; so is one that does not have what its record lists, for what it lacks.

mod connect;
mod ewma;
mod health;
mod p2c;

use std::{
    cell::LazyCell,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use consilium_mesh::registry::{Expert, Instance, ModelRef, State, Track};
use tokio::time::Instant;
use tonic::transport::Channel;

pub(crate) use self::{
    connect::{Connect, Line, Lines},
    health::Health,
};
use self::{ewma::PeakEwma, health::Monitor};

/// What a failed attempt counts as, at the least.
const PENALTY: Duration = Duration::from_secs(5);
/// The most that an instance can ask for by a push-back.
const MAX_PENALTY: Duration = Duration::from_mins(5);
/// How long an instance is believed to lack what it said that it lacks, unless its record changes before.
const LACKS_FOR: Duration = Duration::from_secs(5);

/// One instance as this router sees it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    instance: Arc<Instance>,
    channel: Channel,
    history: Arc<History>,
    /// Models of the record that are not there, each with when it was said. Not in the history: with another record the
    /// question is open again.
    lacking: Mutex<BTreeMap<String, Instant>>,
}

/// What this router knows of a process; survives changes of its record.
#[derive(Debug)]
struct History {
    monitor: Monitor,
    picks: AtomicU64,
    failures: AtomicU64,
    in_flight: AtomicU32,
    latency: Mutex<PeakEwma>,
}

/// How an instance does, as far as this router has called it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Standing {
    pub(crate) instance: String,
    /// Attempts that it was picked for.
    pub(crate) picks: u64,
    /// Attempts that failed through its own fault.
    pub(crate) failures: u64,
    pub(crate) in_flight: u32,
    /// What it is expected to take.
    pub(crate) latency: Duration,
}

/// The endpoints of one expert.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    endpoints: BTreeMap<String, Arc<Endpoint>>,
}

/// Which instances of an expert will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wanted<'a> {
    /// The expert's.
    pub(crate) version: &'a str,
    /// Only those that have it loaded, as they announce; `None` for what answers under the expert's own name, which may be
    /// a model as well.
    pub(crate) model: Option<&'a str>,
    /// The model's; empty for any.
    pub(crate) model_version: &'a str,
    /// No record lists what is wanted: anybody may have it.
    pub(crate) is_unlisted: bool,
}

impl<'a> From<&'a str> for Wanted<'a> {
    fn from(version: &'a str) -> Self {
        Self { version, ..Self::default() }
    }
}

/// Whether an instance takes what clients ask.
pub(crate) fn is_live(instance: &Instance) -> bool {
    instance.record.state == State::Serving && instance.record.track == Track::Live
}

impl Pool {
    /// The pool after a change of the registry. An endpoint lives on as long as its instance keeps id, epoch, address and what
    /// it says of TLS: the same address with a new epoch is a new process, which starts without history.
    pub(crate) fn next(&self, expert: &Expert, connect: &dyn Connect) -> Self {
        let now = Instant::now();
        let typical = LazyCell::new(|| median_latency(self.endpoints.values(), now));
        let mut endpoints = BTreeMap::new();
        for (id, instance) in &expert.instances {
            let known = self.endpoints.get(id).filter(|known| known.is_of(instance));
            let objective = expert.cards.get(&instance.record.version).map(|card| card.slo.latency);
            let endpoint = match known {
                Some(known) if Arc::ptr_eq(&known.instance, instance) => Arc::clone(known),
                Some(known) => Endpoint::new(instance, known.channel.clone(), Arc::clone(&known.history)),
                None => match connect.connect(instance) {
                    Ok(Line { channel, monitor }) => {
                        let seed = typical.unwrap_or(objective.unwrap_or(PENALTY) / 2);
                        Endpoint::new(instance, channel, Arc::new(History::new(monitor, PeakEwma::new(seed, now))))
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

    /// How many of the `wanted` instances a pick chooses from: the best ones, or all where none is sound. An expert whose
    /// only instance cannot be reached is therefore called and not given up: it may be this router that is cut off.
    pub(crate) fn live<'a>(&self, wanted: impl Into<Wanted<'a>>) -> usize {
        self.candidates(wanted.into(), &[], Instant::now()).len()
    }

    /// How many of the `wanted` instances have such a health.
    pub(crate) fn count<'a>(&self, wanted: impl Into<Wanted<'a>>, such: impl Fn(Health) -> bool) -> usize {
        let wanted = wanted.into();
        self.endpoints.values().filter(|endpoint| endpoint.serves(wanted) && such(endpoint.health())).count()
    }

    /// The way to every instance that serves and is sound, for what is asked of all of them.
    pub(crate) fn everybody(&self) -> impl Iterator<Item = Channel> {
        let serving =
            self.endpoints.values().filter(|endpoint| is_live(&endpoint.instance) && endpoint.health().is_sound());
        serving.map(|endpoint| endpoint.channel.clone())
    }

    /// Calls of this router that run on `instance` now.
    pub(crate) fn in_flight(&self, instance: &str) -> u32 {
        self.endpoints.get(instance).map_or(0, |endpoint| endpoint.history.in_flight.load(Ordering::Relaxed))
    }

    /// How every instance does that a channel was made to.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let now = Instant::now();
        let best = best(self.endpoints.values());
        self.endpoints.values().map(|endpoint| endpoint.standing(now, best)).collect()
    }

    /// What is known of `instance`. One that no channel can be made to is out of reach as well.
    pub(crate) fn health(&self, instance: &str) -> Health {
        self.endpoints.get(instance).map_or(Health::Unreachable, |endpoint| endpoint.health())
    }

    /// Picks one of the `wanted` instances that is not in `tried`.
    pub(crate) fn pick<'a>(&self, wanted: impl Into<Wanted<'a>>, tried: &[String]) -> Option<Pick> {
        let now = Instant::now();
        let candidates = self.candidates(wanted.into(), tried, now);
        let (first, second) = p2c::two(candidates.len(), |n| rand::random_range(0..n))?;
        let (first, second) = (*candidates.get(first)?, *candidates.get(second)?);
        let best = first.sampled().min(second.sampled());
        let picked = if p2c::first_wins(first.load(now, best), second.load(now, best)) { first } else { second };
        Some(Pick::new(Arc::clone(picked), now))
    }

    /// Instances that were out of reach and answer again start anew, as good as the others: what they were like before is
    /// full of calls that hung.
    pub(crate) fn readmit(&self) {
        let (back, others): (Vec<_>, Vec<_>) =
            self.endpoints.values().partition(|endpoint| endpoint.history.monitor.came_back());
        if back.is_empty() {
            return;
        }
        let now = Instant::now();
        let Some(seed) = median_latency(others.into_iter(), now) else { return };
        for endpoint in back {
            *endpoint.latency() = PeakEwma::new(seed, now);
        }
    }

    /// Those that serve what is wanted and were not tried; of these the sound ones, where there are any, and of those the
    /// ones that are not known to lack it.
    fn candidates(&self, wanted: Wanted<'_>, tried: &[String], now: Instant) -> Vec<&Arc<Endpoint>> {
        let untried =
            |endpoint: &&Arc<Endpoint>| endpoint.serves(wanted) && !tried.contains(&endpoint.instance.record.instance);
        let all: Vec<_> = self.endpoints.values().filter(untried).collect();
        let sound = preferred(all, |endpoint| endpoint.health().is_sound());
        preferred(sound, |endpoint| !endpoint.lacks(wanted, now))
    }
}

/// Those that are `such`, or all where nobody is.
fn preferred(all: Vec<&Arc<Endpoint>>, such: impl Fn(&Endpoint) -> bool) -> Vec<&Arc<Endpoint>> {
    let preferred: Vec<_> = all.iter().copied().filter(|endpoint| such(endpoint)).collect();
    if preferred.is_empty() { all } else { preferred }
}

/// The lower median: of two instances of which one is broken, a third is expected to be like the sound one.
fn median_latency<'a>(endpoints: impl Iterator<Item = &'a Arc<Endpoint>> + Clone, now: Instant) -> Option<Duration> {
    let best = best(endpoints.clone());
    let mut estimates: Vec<_> = endpoints.map(|endpoint| endpoint.latency().at(now, best)).collect();
    estimates.sort_by(f64::total_cmp);
    let middle = estimates.len().checked_sub(1)? / 2;
    estimates.get(middle).map(|seconds| Duration::from_secs_f64(*seconds))
}

/// The best that any of them was sampled at, seconds.
fn best<'a>(endpoints: impl Iterator<Item = &'a Arc<Endpoint>>) -> f64 {
    endpoints.map(|endpoint| endpoint.sampled()).fold(f64::INFINITY, f64::min)
}

impl History {
    fn new(monitor: Monitor, latency: PeakEwma) -> Self {
        let (picks, failures, in_flight) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU32::new(0));
        Self { monitor, picks, failures, in_flight, latency: Mutex::new(latency) }
    }
}

impl Endpoint {
    fn new(instance: &Arc<Instance>, channel: Channel, history: Arc<History>) -> Arc<Self> {
        Arc::new(Self { instance: Arc::clone(instance), channel, history, lacking: Mutex::default() })
    }

    fn serves(&self, wanted: Wanted<'_>) -> bool {
        let record = &self.instance.record;
        // Texts, or nobody knows whether a model stands behind the name.
        let is_open = wanted.model.is_none() && record.default_model.is_empty();
        let has = wanted.is_unlisted || is_open || self.listed(wanted).is_some();
        record.version == wanted.version && is_live(&self.instance) && has
    }

    /// The wanted model as the record lists it.
    fn listed(&self, wanted: Wanted<'_>) -> Option<&ModelRef> {
        let record = &self.instance.record;
        let name = wanted.model.unwrap_or(&record.default_model);
        let fits = |version: &str| [version, wanted.model_version].contains(&"") || version == wanted.model_version;
        record.models.iter().find(|model| model.name == name && fits(&model.version))
    }

    /// The name of what the record promises to who wants this: one of its models, or nothing but its own, which is empty.
    /// `None` where it promises nothing, for example not this version.
    fn promised(&self, wanted: Wanted<'_>) -> Option<&str> {
        match self.listed(wanted) {
            _ if wanted.is_unlisted => None,
            Some(model) => ["", &model.version].contains(&wanted.model_version).then_some(&model.name),
            None => (wanted.model.is_none() && wanted.model_version.is_empty()).then_some(""),
        }
    }

    fn lacks(&self, wanted: Wanted<'_>, now: Instant) -> bool {
        self.promised(wanted)
            .and_then(|name| self.lacking().get(name).copied())
            .is_some_and(|said| now < said + LACKS_FOR)
    }

    /// To be held for one statement.
    fn lacking(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> Health {
        self.history.monitor.health()
    }

    /// Whether this is the way to `instance` still.
    fn is_of(&self, instance: &Instance) -> bool {
        fn way(of: &Instance) -> (&str, &str, bool, &str) {
            (&of.record.epoch, &of.address, of.record.tls, &of.record.server_name)
        }
        way(&self.instance) == way(instance)
    }

    /// What its latency was sampled at last, seconds.
    fn sampled(&self) -> f64 {
        self.latency().sampled()
    }

    /// To be held for one statement about one endpoint: two of them at once could wait for each other.
    fn latency(&self) -> MutexGuard<'_, PeakEwma> {
        self.history.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, now: Instant, best: f64) -> f64 {
        self.latency().at(now, best) * f64::from(self.history.in_flight.load(Ordering::Relaxed) + 1)
    }

    fn standing(&self, now: Instant, best: f64) -> Standing {
        let History { picks, failures, in_flight, .. } = &*self.history;
        Standing {
            instance: self.instance.record.instance.clone(),
            picks: picks.load(Ordering::Relaxed),
            failures: failures.load(Ordering::Relaxed),
            in_flight: in_flight.load(Ordering::Relaxed),
            latency: Duration::from_secs_f64(self.latency().at(now, best)),
        }
    }

    fn sample(&self, latency: Duration, now: Instant) {
        self.latency().add(latency, now);
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

    /// The attempt that it was picked for begins.
    pub(crate) fn is_tried(&self) {
        self.endpoint.history.picks.fetch_add(1, Ordering::Relaxed);
    }

    /// Host and port that it is called at.
    pub(crate) fn server(&self) -> (&str, Option<u16>) {
        let address = &self.endpoint.instance.address;
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        (host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok())
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
        self.endpoint.history.failures.fetch_add(1, Ordering::Relaxed);
        self.judge(retry_after.unwrap_or(PENALTY).clamp(PENALTY, MAX_PENALTY));
    }

    /// The instance does not have what is wanted: while its record promises it, it is passed over for that. Says whether it
    /// was not before.
    pub(crate) fn lacks(self, wanted: Wanted<'_>) -> bool {
        let now = Instant::now();
        let Some(name) = self.endpoint.promised(wanted) else { return false };
        let known = self.endpoint.lacking().insert(name.to_owned(), now);
        known.is_none_or(|said| now >= said + LACKS_FOR)
    }

    /// Whether the instance's record names a model that is what is wanted.
    pub(crate) fn is_promised(&self, wanted: Wanted<'_>) -> bool {
        self.endpoint.promised(wanted).is_some_and(|name| !name.is_empty())
    }

    fn judge(&mut self, at_least: Duration) {
        let now = Instant::now();
        self.endpoint.sample((now - self.since).max(at_least), now);
        self.judged = true;
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        if !self.judged && self.since.elapsed().as_secs_f64() > self.endpoint.sampled() {
            self.judge(Duration::ZERO);
        }
        self.endpoint.history.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
