use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::registry::{Card, Error, Record};

/// Writes down what it is asked, and may never answer.
#[derive(Debug, Default)]
struct Scripted {
    asked: Mutex<Vec<&'static str>>,
    stuck: bool,
    failing: bool,
}

impl Scripted {
    async fn answer(&self, what: &'static str) -> Result<(), Error> {
        self.asked.lock().unwrap().push(what);
        if self.stuck {
            std::future::pending::<()>().await;
        }
        if self.failing { Err(Error::Unavailable("etcd is away".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Registration for Scripted {
    async fn update(&self, _: Record) -> Result<(), Error> {
        Ok(())
    }

    async fn update_card(&self, _: Card) -> Result<(), Error> {
        Ok(())
    }

    async fn drain(&self) -> Result<(), Error> {
        self.answer("drain").await
    }

    async fn deregister(&self) -> Result<(), Error> {
        self.answer("deregister").await
    }
}

const OPTIONS: Options =
    Options { registry: Duration::from_secs(2), settle: Duration::from_secs(3), budget: Duration::from_secs(20) };

struct Mesh {
    readiness: Readiness,
    registration: Scripted,
    long_streams: CancellationToken,
    stop: CancellationToken,
}

impl Mesh {
    fn new(registration: Scripted) -> Self {
        let readiness = Readiness::new("x");
        readiness.latch("model").set();
        Self { readiness, registration, long_streams: CancellationToken::new(), stop: CancellationToken::new() }
    }

    fn leaving(&self) -> Leaving<'_> {
        Leaving {
            readiness: &self.readiness,
            registration: Some(&self.registration),
            long_streams: self.long_streams.clone(),
            stop: self.stop.clone(),
            in_flight: InFlight::default(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_stops_before_everybody_had_time_to_hear_of_it() {
    let mesh = Mesh::new(Scripted::default());
    let started = Instant::now();
    let leaving = leave(mesh.leaving(), mesh.stop.cancelled(), OPTIONS);
    tokio::pin!(leaving);

    // Up to the settling nothing waits: one poll gets there.
    assert!(futures::poll!(&mut leaving).is_pending());
    assert!(!mesh.readiness.is_ready());
    assert_eq!(*mesh.registration.asked.lock().unwrap(), ["drain", "deregister"]);
    assert!(!mesh.long_streams.is_cancelled() && !mesh.stop.is_cancelled());

    let report = leaving.await;
    assert_eq!(started.elapsed(), OPTIONS.settle);
    assert!(mesh.long_streams.is_cancelled() && mesh.stop.is_cancelled());
    assert!(report.is_clean(), "{report:?}");
    let steps: Vec<_> = report.steps.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [Step::Announce, Step::Deregister, Step::Settle, Step::EndStreams, Step::Finish]);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_delays_and_never_prevents() {
    for (registration, outcome, took) in [
        (Scripted { stuck: true, ..Scripted::default() }, Outcome::TimedOut, 2 + 2 + 3),
        (Scripted { failing: true, ..Scripted::default() }, Outcome::Failed, 3),
    ] {
        let mesh = Mesh::new(registration);
        let started = Instant::now();
        let report = leave(mesh.leaving(), mesh.stop.cancelled(), OPTIONS).await;
        assert_eq!(report.steps[..2], [(Step::Announce, outcome), (Step::Deregister, outcome)]);
        assert_eq!(report.steps[4], (Step::Finish, Outcome::Done));
        assert!(!report.is_clean());
        assert_eq!(started.elapsed().as_secs(), took);
    }
}

#[tokio::test(start_paused = true)]
async fn everything_together_stays_within_the_budget() {
    let mesh = Mesh::new(Scripted { stuck: true, ..Scripted::default() });
    let started = Instant::now();
    let options = Options { budget: Duration::from_secs(5), ..OPTIONS };
    let report = leave(mesh.leaving(), std::future::pending(), options).await;
    assert_eq!(started.elapsed(), options.budget);
    assert_eq!(report.steps[2], (Step::Settle, Outcome::TimedOut));
    assert_eq!(report.steps[4], (Step::Finish, Outcome::TimedOut));
}
