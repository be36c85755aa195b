//! Somebody is in a hurry: a second signal ends an expert at once, however long its drain would have been.

use std::time::Duration;

use consilium_tests::processes::{EXPERT, Event, MESH, Options, Row, Signal, until};
use tokio::time::Instant;

use crate::scene::Scene;

/// What a shell expects of a process that SIGTERM ended.
const TERMINATED: i32 = 143;
/// Far from the minutes that the drain would have taken.
const AT_ONCE: Duration = Duration::from_secs(5);

pub(crate) async fn ends_at_once(scene: &Scene) -> Vec<Row> {
    let mut clinic = scene.clinic(Options::default()).await;
    clinic.begin_with("patient", &["settle=5m", "grace=10m"]).await;
    clinic.routed("patient").await;
    let load = clinic.load().await;
    let at = Instant::now();
    let mut leaving = clinic.take("patient");
    leaving.process.signal(Signal::TERM);
    let deregistered = async || {
        let announced = clinic.etcd.announced(MESH, EXPERT).await;
        announced.iter().all(|found| found.record.instance != "patient").then_some(())
    };
    until("the leaving instance is not listed any more", deregistered).await;
    clinic.router.until_right(&clinic.right().await).await;
    assert!(leaving.process.is_alive(), "it drains");
    let second = Instant::now();
    leaving.process.signal(Signal::TERM);
    let status = leaving.process.ended().await;
    let ended = second.elapsed();
    assert_eq!(status.code(), Some(TERMINATED), "{status}");
    assert!(ended <= AT_ONCE, "it ended {ended:?} after the second signal");
    let tally = clinic.rest(load).await;
    let event = Event { at, until: Instant::now(), instance: Some("patient".to_owned()) };
    vec![Row::new("second SIGTERM during a drain of minutes", tally, &[event]).measured("ended after", &[ended])]
}
