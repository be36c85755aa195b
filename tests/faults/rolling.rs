//! A rolling restart of all instances, five rounds.

use consilium_tests::processes::{Event, Options, Row};
use tokio::time::Instant;

use crate::scene::Scene;

const ROUNDS: usize = 5;

/// SIGTERM, the ordered way out, and the next one only when this one is back.
pub(crate) async fn all_instances_are_replaced(scene: &Scene) -> Vec<Row> {
    let mut clinic = scene.clinic(Options::default()).await;
    let load = clinic.load().await;
    let (mut events, mut drains) = (Vec::new(), Vec::new());
    for instance in ["a", "b", "c"].into_iter().cycle().take(3 * ROUNDS) {
        let leaving = clinic.take(instance);
        let at = Instant::now();
        leaving.leave().await;
        let gone = Instant::now();
        drains.push(gone - at);
        clinic.join(instance).await;
        events.push(Event { at, until: gone, instance: Some(instance.to_owned()) });
    }
    let tally = clinic.rest(load).await;
    vec![Row::new("SIGTERM, rolling restart of 3 instances, 5 rounds", tally, &events).measured("drain", &drains)]
}
