//! How each instance is, as it says itself: a `grpc.health.v1` watch on the channel that its calls use, so that the
//! watch breaks when calls would. Whoever picks reads the last word without a lock; nothing here picks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use consilium_mesh::backoff::Backoff;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::Lines;
use crate::metrics::Metrics;

/// From opening a watch to its first word, connecting included. Pings find out sooner, where they are welcome.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// The bounds of the wait before a watch is opened again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// An absence that is shorter is none: a connection that breaks whenever it is called must not be forgiven each time that
/// it is made again.
const LASTING: Duration = Duration::from_secs(1);
/// An instance without a health service may have been replaced by one that has it.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// What was last heard of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Health {
    /// Nothing yet.
    Unknown,
    Serving,
    /// It said so, or it is not who the record says it is: somebody else lives at the address now.
    NotServing,
    /// The connection or the watch failed, and no word has come since.
    Unreachable,
}

impl Health {
    pub(crate) const ALL: [Self; 4] = [Self::Unknown, Self::Serving, Self::NotServing, Self::Unreachable];

    /// Whether it may be picked while there is a choice. One that nobody has heard of may: it was registered just now.
    pub(crate) fn is_sound(self) -> bool {
        matches!(self, Self::Unknown | Self::Serving)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Serving => "serving",
            Self::NotServing => "not_serving",
            Self::Unreachable => "unreachable",
        }
    }
}

/// How often the health of an instance became another one, over all monitors of a router: a change of the count is the news.
pub(crate) type News = u64;

/// The health of one instance, kept up to date for as long as this lives.
#[derive(Debug)]
pub(crate) struct Monitor {
    vital: Arc<Vital>,
    _watching: Option<AbortOnDropHandle<()>>,
}

/// What was heard, for whoever looks.
#[derive(Debug)]
struct Vital {
    health: AtomicU8,
    came_back: AtomicBool,
}

/// Whose health is asked for.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) channel: Channel,
    /// The name of the health service.
    pub(crate) expert: String,
    pub(crate) instance: String,
}

impl Monitor {
    /// Watches `subject` in a task of the lines, until these stop at the latest.
    pub(super) fn start(subject: Subject, lines: &Lines) -> Self {
        let monitor = Self::of(Health::Unknown);
        let Lines { tls: _, news, metrics, tasks, stop } = lines;
        let (news, metrics, stop) = (news.clone(), metrics.clone(), stop.clone());
        let watcher = Watcher { subject, vital: Arc::clone(&monitor.vital), since: Instant::now(), news, metrics };
        let watching = tasks.spawn(async move {
            stop.run_until_cancelled_owned(watcher.run()).await;
        });
        Self { _watching: Some(AbortOnDropHandle::new(watching)), ..monitor }
    }

    /// One that hears nothing.
    pub(super) fn of(health: Health) -> Self {
        let vital = Vital { health: AtomicU8::new(health as u8), came_back: AtomicBool::new(false) };
        Self { vital: Arc::new(vital), _watching: None }
    }

    /// As if it had been out of reach.
    #[cfg(test)]
    pub(super) fn returned(&self) {
        self.vital.came_back.store(true, Ordering::Relaxed);
    }

    pub(crate) fn health(&self) -> Health {
        decode(self.vital.health.load(Ordering::Relaxed))
    }

    /// Whether it was out of reach and answers again. Said once.
    pub(super) fn came_back(&self) -> bool {
        self.vital.came_back.swap(false, Ordering::Relaxed)
    }
}

fn decode(health: u8) -> Health {
    Health::ALL.into_iter().find(|known| *known as u8 == health).unwrap_or(Health::Unknown)
}

struct Watcher {
    subject: Subject,
    vital: Arc<Vital>,
    /// When its health became what it is.
    since: Instant,
    news: watch::Sender<News>,
    metrics: Metrics,
}

/// How a stream went.
enum Ended {
    /// It said something before it ended.
    Heard,
    Failed,
    /// There is no health service to ask.
    Unimplemented,
}

impl Watcher {
    async fn run(mut self) {
        let mut backoff = Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE);
        loop {
            let since = Instant::now();
            match self.follow().await {
                Ended::Heard if since.elapsed() > LONGEST_PAUSE => backoff.worked(),
                Ended::Heard | Ended::Failed => {}
                Ended::Unimplemented => {
                    sleep(ASK_AGAIN).await;
                    continue;
                }
            }
            sleep(backoff.failed(rand::random())).await;
        }
    }

    /// One stream, from its opening to its end.
    async fn follow(&mut self) -> Ended {
        let mut statuses = match timeout(FIRST_WORD, self.open()).await {
            Ok(Ok((first, statuses))) => {
                self.heard(said(first), None);
                statuses
            }
            Ok(Err(status)) => {
                let health = refused(&status);
                self.heard(health, Some(&status));
                return if health == Health::Serving { Ended::Unimplemented } else { Ended::Failed };
            }
            Err(_) => {
                self.heard(Health::Unreachable, None);
                return Ended::Failed;
            }
        };
        loop {
            match statuses.message().await {
                Ok(Some(status)) => self.heard(said(status), None),
                end => {
                    let error = end.err();
                    self.heard(ended(error.as_ref()), error.as_ref());
                    return Ended::Heard;
                }
            }
        }
    }

    async fn open(&self) -> Result<(HealthCheckResponse, Streaming<HealthCheckResponse>), Status> {
        let request = HealthCheckRequest { service: self.subject.expert.clone() };
        let mut statuses = HealthClient::new(self.subject.channel.clone()).watch(request).await?.into_inner();
        let first = statuses.message().await?.ok_or_else(|| Status::unavailable("the watch ended without a word"))?;
        Ok((first, statuses))
    }

    /// `error` is how that came out, where it was one.
    fn heard(&mut self, now: Health, error: Option<&Status>) {
        let before = decode(self.vital.health.swap(now as u8, Ordering::Relaxed));
        if before == now {
            return;
        }
        let lasted = std::mem::replace(&mut self.since, Instant::now()).elapsed();
        if (before, now) == (Health::Unreachable, Health::Serving) && lasted >= LASTING {
            self.vital.came_back.store(true, Ordering::Relaxed);
        }
        let Subject { expert, instance, .. } = &self.subject;
        if before.is_sound() && !now.is_sound() {
            self.metrics.ejected(expert, now.as_str());
        }
        // One that went after it had said so is no surprise.
        if now == Health::Unreachable && before != Health::NotServing {
            let (before, error) = (before.as_str(), error.map(why));
            tracing::warn!(%expert, %instance, before, error, "an instance cannot be reached");
        } else {
            tracing::info!(%expert, %instance, before = before.as_str(), health = now.as_str(), "an instance changed");
        }
        self.news.send_modify(|news| *news += 1);
    }
}

/// What a message of a watch means.
fn said(message: HealthCheckResponse) -> Health {
    match message.status() {
        ServingStatus::Serving => Health::Serving,
        ServingStatus::Unknown | ServingStatus::NotServing | ServingStatus::ServiceUnknown => Health::NotServing,
    }
}

/// What it means that a watch failed before its first word.
fn refused(status: &Status) -> Health {
    match status.code() {
        _ if broke(status) => Health::Unreachable,
        // As gRPC has it: a server that does not tell its health is taken for a healthy one.
        Code::Unimplemented => Health::Serving,
        // Some servers answer with an error where the protocol has a message, SERVICE_UNKNOWN.
        Code::NotFound => Health::NotServing,
        _ => Health::Unreachable,
    }
}

/// What it means that a watch ended after it had spoken; `None` is an end without an error. A server ends a watch only
/// when it goes, and it may not have had the time to say so first.
fn ended(status: Option<&Status>) -> Health {
    if status.is_some_and(broke) { Health::Unreachable } else { Health::NotServing }
}

/// Whether a status was made here, of an error of the connection, and is no word of the server.
fn broke(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// What went wrong, in one line: with the connection, down to its cause, such as a certificate that is not believed. Of what a
/// server says, the code alone.
fn why(status: &Status) -> String {
    let source = std::error::Error::source(status);
    let causes: Vec<_> = std::iter::successors(source, |error| error.source()).map(ToString::to_string).collect();
    if causes.is_empty() { status.code().description().to_owned() } else { causes.join(": ") }
}

#[cfg(test)]
mod tests;
