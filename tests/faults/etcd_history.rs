//! etcd forgets its history, changes its leader, goes back in time.

use std::time::Duration;

use consilium_proto::v1;
use consilium_tests::processes::{Clinic, EXPERT, Event, MESH, Options, Row, until};
use tokio::time::Instant;

use crate::scene::Scene;

/// Enough that what was known before cannot be caught up with by a few changes.
const FILLER: usize = 100;
/// A lease comes back with its whole life, and all that time the ghost is listed.
const GHOST: Duration = Duration::from_secs(4);

/// What etcd says when it lists the instances.
const LISTING: &str = "consilium/clinic/experts/drug-interactions/";

/// etcd forgets everything before its newest revision at the worst moment: when the router has listed, and has not begun
/// to watch from there. And each time something has changed while its watch was away.
pub(crate) async fn compacted(scene: &Scene) -> Vec<Row> {
    let mut clinic = scene.clinic(Options { cables: true, ..Options::default() }).await;
    let load = clinic.load().await;
    let (mut events, mut caught_up, mut news) = (Vec::new(), Vec::new(), Vec::new());
    for (gone, new) in [("a", "d"), ("d", "e"), ("e", "f")] {
        let at = Instant::now();
        clinic.cables[0].cut();
        clinic.take(gone).leave().await;
        clinic.begin(new).await;
        announced(&clinic, new).await;
        clinic.cables[0].pinch_after(LISTING);
        clinic.cables[0].pinched().await;
        // It knows its revision, and asks for what comes after it; before etcd hears that, this is history.
        clinic.etcd.compact(10).await;
        let compacted = Instant::now();
        clinic.cables[0].pinch_after(LISTING);
        // So it has to list again.
        clinic.cables[0].pinched().await;
        clinic.cables[0].mend();
        clinic.router.until_right(&clinic.right().await).await;
        caught_up.push(compacted.elapsed());
        // And the new watch tells of what comes after it.
        clinic.take("b").leave().await;
        news.push(clinic.join("b").await);
        events.push(Event { at, until: Instant::now(), instance: None });
    }
    let tally = clinic.rest(load).await;
    vec![
        Row::new("compaction between the list and the watch, after a change that the watch missed", tally, &events)
            .measured("listed again, table right after", &caught_up)
            .measured("next instance routed to after", &news),
    ]
}

/// The lead is handed over in good order.
pub(crate) async fn another_leader(scene: &Scene) -> Vec<Row> {
    let mut clinic = scene.clinic(Options { members: 3, ..Options::default() }).await;
    let load = clinic.load().await;
    let (mut events, mut news) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let at = Instant::now();
        clinic.etcd.move_leader().await;
        clinic.take("a").leave().await;
        news.push(clinic.join("a").await);
        events.push(Event { at, until: Instant::now(), instance: None });
    }
    clinic.router.until_right(&clinic.right().await).await;
    let tally = clinic.rest(load).await;
    vec![Row::new("etcd's lead is handed over", tally, &events).measured("next instance routed to after", &news)]
}

/// The leader is killed; a majority remains, and it is missed by whoever was connected to it.
pub(crate) async fn no_leader(scene: &Scene) -> Vec<Row> {
    let mut clinic = scene.clinic(Options { members: 3, ..Options::default() }).await;
    let load = clinic.load().await;
    let (mut events, mut news) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let leader = clinic.etcd.leader().await;
        let at = Instant::now();
        clinic.etcd.kill_member(leader).await;
        clinic.take("a").leave().await;
        news.push(clinic.join("a").await);
        clinic.etcd.start_member(leader);
        clinic.etcd.answers().await;
        events.push(Event { at, until: Instant::now(), instance: None });
    }
    clinic.router.until_right(&clinic.right().await).await;
    let tally = clinic.rest(load).await;
    vec![Row::new("etcd's leader is killed", tally, &events).measured("next instance routed to after", &news)]
}

/// The snapshot holds an instance that has gone since and lacks one that has come since, and its revision is an old one.
pub(crate) async fn restored(scene: &Scene) -> Vec<Row> {
    let mut clinic = scene.clinic(Options { lease: GHOST, ..Options::default() }).await;
    let load = clinic.load().await;
    let snapshot = clinic.table("snapshot");
    clinic.etcd.save(&snapshot).await;
    clinic.take("c").leave().await;
    clinic.join("d").await;
    clinic.etcd.write_filler(FILLER).await;
    let right = clinic.right().await;

    let at = Instant::now();
    clinic.etcd.restore(&snapshot).await;
    clinic.etcd.answers().await;
    let back = Instant::now();
    announced(&clinic, "d").await;
    let registered = back.elapsed();
    // The ghost is listed for as long as the lease that came back with it. It cannot be reached and is not called.
    let listed = |table: &v1::Catalog| {
        let mut all = table.experts.iter().flat_map(|expert| &expert.instances);
        all.any(|known| known.id == "c")
    };
    clinic.router.until("c is back as a ghost", listed).await;
    clinic.router.until_right(&right).await;
    let converged = back.elapsed();
    clinic.router.until("c is gone", |table| !listed(table)).await;
    let gone = back.elapsed();
    // A watch that waits for a revision of a future that is no more would not hear of this.
    let news = clinic.join("e").await;
    clinic.router.until_right(&clinic.right().await).await;
    let end = Instant::now();
    let tally = clinic.rest(load).await;
    let ghost = tally.attempts.iter().filter(|attempt| attempt.instance == "c" && attempt.began > at);
    assert!(
        ghost.clone().all(|attempt| attempt.code != tonic::Code::Ok),
        "somebody answered for an instance that is gone"
    );
    let ghosts = ghost.count();
    vec![
        Row::new("etcd restored from an older snapshot", tally, &[Event { at, until: end, instance: None }])
            .measured("who was missing is registered after", &[registered])
            .measured("table right after etcd is back", &[converged])
            .measured("the ghost is gone after", &[gone])
            .measured("next instance routed to after", &[news])
            .noted("attempts on the ghost", &ghosts.to_string()),
    ]
}

/// Returns when etcd holds `instance` in the life that it has now.
async fn announced(clinic: &Clinic, instance: &str) {
    let epoch = clinic.experts[instance].epoch().await;
    let look = async || {
        let announced = clinic.etcd.announced(MESH, EXPERT).await;
        announced.iter().any(|found| found.record.epoch == epoch).then_some(())
    };
    until("the instance is registered", look).await;
}
