//! Whether a server is ready, in one place: everything that must hold before it serves is a latch, and
//! `grpc.health.v1`, `/readyz` and the drain are projections of them.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use futures::Stream;
use tokio::sync::watch;
use tokio_stream::{StreamExt, wrappers::WatchStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

/// The latches of one server. Clones share them. Ready when every latch is set and it is not draining; one without
/// latches is not ready, because nobody has said yet what it waits for.
#[derive(Debug, Clone)]
pub struct Readiness {
    name: Arc<str>,
    services: Arc<[String]>,
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    latches: BTreeMap<String, bool>,
    draining: bool,
}

impl State {
    fn is_ready(&self) -> bool {
        !self.draining && !self.latches.is_empty() && self.latches.values().all(|set| *set)
    }
}

/// Something that must hold. Made unset.
#[derive(Debug, Clone)]
pub struct Latch {
    name: String,
    state: Arc<watch::Sender<State>>,
}

impl Latch {
    pub fn set(&self) {
        self.put(true);
    }

    pub fn clear(&self) {
        self.put(false);
    }

    fn put(&self, set: bool) {
        self.state.send_if_modified(|state| state.latches.insert(self.name.clone(), set) != Some(set));
    }
}

impl Readiness {
    /// `name` is the expert or `router`; it is also a health service name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), services: Arc::default(), state: Arc::new(watch::Sender::new(State::default())) }
    }

    /// Further health service names, e.g. `consilium.v1.ExpertService`. Two readinesses of one process should not
    /// share one: the later one would be served.
    #[must_use]
    pub fn with_services<S: Into<String>>(mut self, services: impl IntoIterator<Item = S>) -> Self {
        self.services = services.into_iter().map(Into::into).collect();
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a latch, unset. Make all of them before the first is set, or it is ready too early.
    pub fn latch(&self, name: impl Into<String>) -> Latch {
        let latch = Latch { name: name.into(), state: Arc::clone(&self.state) };
        latch.clear();
        latch
    }

    /// Not ready from now on, for good.
    pub fn drain(&self) {
        self.state.send_if_modified(|state| !std::mem::replace(&mut state.draining, true));
    }

    pub fn is_ready(&self) -> bool {
        self.state.borrow().is_ready()
    }

    pub fn is_draining(&self) -> bool {
        self.state.borrow().draining
    }

    /// What it waits for: names of latches that are not set, and `draining`. Empty when ready.
    pub fn missing(&self) -> Vec<String> {
        let state = self.state.borrow();
        let mut missing: Vec<_> =
            state.latches.iter().filter(|(_, set)| !**set).map(|(name, _)| name.clone()).collect();
        if state.draining {
            missing.push("draining".to_owned());
        }
        if state.latches.is_empty() && !state.draining {
            missing.push("starting".to_owned());
        }
        missing
    }

    /// Returns once it is ready.
    pub async fn ready(&self) {
        // An error would mean that the sender is gone, and `self` holds it.
        let _ = self.state.subscribe().wait_for(State::is_ready).await;
    }
}

/// `grpc.health.v1` over any number of readinesses: `""` stands for all of them, and says NOT_SERVING before anything
/// is ready (tonic-health's own reporter says SERVING until told otherwise).
#[derive(Debug)]
pub(crate) struct HealthService {
    all: Vec<Readiness>,
}

impl HealthService {
    pub(crate) fn server(readiness: impl IntoIterator<Item = Readiness>) -> HealthServer<Self> {
        HealthServer::new(Self { all: readiness.into_iter().collect() })
    }

    /// Those that must be ready for `service` to be; empty for a service that is not known.
    fn behind(&self, service: &str) -> Vec<Readiness> {
        let concerns = |one: &&Readiness| {
            service.is_empty() || &*one.name == service || one.services.iter().any(|name| name == service)
        };
        self.all.iter().filter(concerns).cloned().collect()
    }
}

fn status(behind: &[Readiness]) -> ServingStatus {
    if behind.is_empty() {
        ServingStatus::ServiceUnknown
    } else if behind.iter().all(Readiness::is_ready) {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match status(&self.behind(&request.get_ref().service)) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("no such service")),
            status => Ok(Response::new(response(status))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// The status now and after each change. A service that is not known is said to be so, and the stream stays open:
    /// so the protocol has it, and a stock client that gets an error instead gives up.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let behind = self.behind(&request.get_ref().service);
        let mut changes = tokio_stream::StreamMap::new();
        for (at, one) in behind.iter().enumerate() {
            changes.insert(at, WatchStream::from_changes(one.state.subscribe()));
        }
        let mut said = None;
        let statuses = tokio_stream::once(())
            .chain(changes.map(|_| ()))
            // Without this a stream over no readiness would end.
            .chain(tokio_stream::pending())
            .filter_map(move |()| {
                let now = status(&behind);
                (said.replace(now) != Some(now)).then(|| Ok(response(now)))
            });
        Ok(Response::new(Box::pin(statuses)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    async fn check(health: &HealthService, service: &str) -> Option<ServingStatus> {
        health.check(request(service)).await.ok().map(|response| response.into_inner().status())
    }

    #[tokio::test]
    async fn ready_means_every_latch_and_no_drain() {
        let readiness = Readiness::new("x");
        assert_eq!((readiness.is_ready(), readiness.missing()), (false, vec!["starting".to_owned()]));
        let (model, registered) = (readiness.latch("model"), readiness.latch("registered"));
        model.set();
        assert_eq!((readiness.is_ready(), readiness.missing()), (false, vec!["registered".to_owned()]));
        registered.set();
        readiness.ready().await;
        model.clear();
        assert!(!readiness.is_ready());
        model.set();
        readiness.drain();
        assert_eq!((readiness.is_ready(), readiness.missing()), (false, vec!["draining".to_owned()]));
        model.set();
        assert!(!readiness.is_ready(), "draining is for good");
    }

    #[tokio::test]
    async fn each_name_has_its_status_and_the_empty_one_stands_for_all() {
        let a = Readiness::new("a").with_services(["consilium.v1.ExpertService"]);
        let b = Readiness::new("b");
        let health = HealthService { all: vec![a.clone(), b.clone()] };
        assert_eq!(check(&health, "").await, Some(ServingStatus::NotServing));
        a.latch("model").set();
        assert_eq!(check(&health, "a").await, Some(ServingStatus::Serving));
        assert_eq!(check(&health, "consilium.v1.ExpertService").await, Some(ServingStatus::Serving));
        assert_eq!(check(&health, "b").await, Some(ServingStatus::NotServing));
        assert_eq!(check(&health, "").await, Some(ServingStatus::NotServing));
        b.latch("model").set();
        assert_eq!(check(&health, "").await, Some(ServingStatus::Serving));
        assert_eq!(check(&health, "nobody").await, None);
    }

    #[tokio::test]
    async fn a_watch_tells_the_status_at_once_and_each_change_once() {
        let readiness = Readiness::new("a");
        let health = HealthService { all: vec![readiness.clone()] };
        let mut statuses = health.watch(request("")).await.unwrap().into_inner();
        let mut next = async || statuses.next().await.unwrap().unwrap().status();
        assert_eq!(next().await, ServingStatus::NotServing);
        let (one, two) = (readiness.latch("one"), readiness.latch("two"));
        one.set();
        two.set();
        assert_eq!(next().await, ServingStatus::Serving);
        readiness.drain();
        assert_eq!(next().await, ServingStatus::NotServing);
    }

    #[tokio::test]
    async fn a_watch_of_nobody_says_so_and_stays_open() {
        let health = HealthService { all: Vec::new() };
        let mut statuses = health.watch(request("nobody")).await.unwrap().into_inner();
        assert_eq!(statuses.next().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
        assert!(futures::poll!(std::pin::pin!(statuses.next())).is_pending());
    }
}
