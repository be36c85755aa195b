//! New subjects join while others are asked about.

use consilium_tests::processes::{Event, NEWCOMERS, Options, Row};
use tokio::time::Instant;

use crate::scene::Scene;

/// One new expert after the other. What is measured is the time from the moment that etcd lists it to the first query that
/// would go to it.
pub(crate) async fn new_subjects_join(scene: &Scene) -> Vec<Row> {
    let clinic = scene.clinic(Options::default()).await;
    let load = clinic.load().await;
    let (mut events, mut routable, mut running) = (Vec::new(), Vec::new(), Vec::new());
    for (name, examples) in NEWCOMERS {
        let at = Instant::now();
        running.push(clinic.newcomer(name, &examples).await);
        routable.push(clinic.routes(examples[0], name).await);
        events.push(Event { at, until: Instant::now(), instance: None });
    }
    let tally = clinic.rest(load).await;
    vec![Row::new("3 new experts join, one after the other", tally, &events).measured("routable after", &routable)]
}
