//! SIGSTOP: an instance whose connections stay open and which says nothing any more.

use std::time::Duration;

use consilium_proto::v1::instance::State;
use consilium_tests::processes::{Event, Options, Row, Signal, until};
use tokio::time::{Instant, sleep_until};

use crate::scene::Scene;

/// By then nothing goes there any more.
const EXCLUDED: Duration = Duration::from_secs(3);

pub(crate) async fn an_instance_hangs(scene: &Scene) -> Vec<Row> {
    pause(scene, Duration::from_secs(15), "SIGSTOP of 1 of 3 instances, its lease lives on").await
}

/// So that it has to register again afterwards.
pub(crate) async fn until_its_lease_runs_out(scene: &Scene) -> Vec<Row> {
    pause(scene, Duration::from_secs(3), "SIGSTOP of 1 of 3 instances, its lease runs out").await
}

async fn pause(scene: &Scene, lease: Duration, event: &str) -> Vec<Row> {
    let clinic = scene.clinic(Options { lease, ..Options::default() }).await;
    let load = clinic.load().await;
    let at = Instant::now();
    clinic.experts["b"].process.signal(Signal::STOP);
    let seen = clinic
        .router
        .until("b is out", |table| {
            let listed = table.experts.iter().flat_map(|expert| &expert.instances);
            !listed.filter(|known| known.id == "b").any(|known| known.state() == State::Serving)
        })
        .await;
    // How long it hangs is the subject: twice as long as it may take to be excluded.
    sleep_until(at + 2 * EXCLUDED).await;
    let end = Instant::now();
    clinic.experts["b"].process.signal(Signal::CONT);
    let back = clinic.routed("b").await;
    let from = Instant::now();
    let answers = async || clinic.ledger.answered_by("b", from).then_some(());
    let ((), answering) = until("b answers requests again", answers).await;

    let tally = clinic.rest(load).await;
    let last = tally.last_pick("b", at, end).map_or(Duration::ZERO, |last| last - at);
    assert!(last <= EXCLUDED, "b was picked {last:?} after it had stopped");
    let event = Row::new(event, tally, &[Event { at, until: end, instance: Some("b".to_owned()) }]);
    vec![
        event
            .measured("last pick after", &[last])
            .measured("out of the table after", &[seen])
            .measured("SIGCONT: in the table after", &[back])
            .measured("then answering after", &[answering]),
    ]
}
