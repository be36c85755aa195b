//! SIGKILL of one of three instances, ten times.

use consilium_tests::processes::{Event, Options, Row};
use tokio::time::Instant;

use crate::scene::Scene;

const TIMES: usize = 10;

/// Nobody hears about it: the connection breaks, and the lease runs on for seconds.
pub(crate) async fn an_instance_is_killed(scene: &Scene) -> Vec<Row> {
    let mut clinic = scene.clinic(Options::default()).await;
    let load = clinic.load().await;
    let (mut events, mut returns) = (Vec::new(), Vec::new());
    for instance in ["a", "b", "c"].into_iter().cycle().take(TIMES) {
        let mut killed = clinic.take(instance);
        let at = Instant::now();
        killed.process.kill().await;
        // Under the same name at once, as its supervisor would start it: its old record is still there.
        let start = Instant::now();
        clinic.begin(instance).await;
        // From here on calls may be for the new life.
        events.push(Event { at, until: Instant::now(), instance: Some(instance.to_owned()) });
        clinic.routed(instance).await;
        returns.push(start.elapsed());
    }
    let tally = clinic.rest(load).await;
    vec![Row::new("SIGKILL of 1 of 3 instances", tally, &events).measured("routed to again, from its start", &returns)]
}
