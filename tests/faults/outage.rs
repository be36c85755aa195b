//! All members of etcd are down for a minute. Meanwhile a second router starts, and an instance is replaced.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use consilium_tests::processes::{Attempt, Clinic, EXPERT, Event, Ledger, Load, MESH, Options, Row, until};
use tokio::time::{Instant, sleep_until};

use crate::scene::Scene;

const OUTAGE: Duration = Duration::from_mins(1);
/// After etcd is back.
const CONVERGED: Duration = Duration::from_secs(5);

pub(crate) async fn etcd_is_away(scene: &Scene) -> Vec<Row> {
    let mut clinic = scene.clinic(Options { members: 3, ..Options::default() }).await;
    let load = clinic.load().await;
    let table = kept_table(&clinic).await;
    let at = Instant::now();
    clinic.etcd.kill_all().await;

    // All it has is the table that another router kept.
    fs::copy(table, clinic.table("second")).expect("a table can be copied");
    let second = clinic.another_router("second").await;
    second.until_right(&clinic.right().await).await;
    let started = at.elapsed();
    let ledger = Arc::new(Ledger::default());
    let second_load = Load::start(&second.channel, &ledger);

    let leaving = clinic.take("b");
    let address = leaving.address().to_string();
    leaving.leave().await;
    clinic.begin_at("b", &address).await;
    let replaced = Instant::now();
    let right = clinic.right().await;
    let newcomer = &clinic.experts["b"];
    // It answers, but nobody who has not known its address can know of it: whoever replaces instances shall wait.
    assert_eq!(newcomer.page("/readyz").await, None, "ready, and etcd has not heard of it");

    // The length of the outage is the subject.
    sleep_until(at + OUTAGE).await;
    clinic.etcd.start_all();
    clinic.etcd.answers().await;
    let back = Instant::now();
    clinic.router.until_right(&right).await;
    second.until_right(&right).await;
    let converged = back.elapsed();
    assert!(converged <= CONVERGED, "the tables were right {converged:?} after etcd was back");
    // What the routers see is what etcd holds, and not only what they remember.
    let announced = async || {
        let announced = clinic.etcd.announced(MESH, EXPERT).await;
        let announced = announced.iter().map(|found| (found.record.instance.clone(), found.record.epoch.clone()));
        (announced.collect::<BTreeMap<_, _>>() == right).then_some(())
    };
    until("etcd holds all three instances", announced).await;
    let registered = back.elapsed();
    newcomer.ready().await;
    let first = clinic.rest(load).await;
    second_load.stop().await;

    let event = Event { at, until: back, instance: None };
    let given = |attempt: &&Attempt| attempt.instance == "b" && (replaced..back).contains(&attempt.began);
    let meanwhile = first.attempts.iter().filter(given).count();
    let other = ledger.tally();
    other.assert_all_answered();
    vec![
        Row::new("etcd away for 60 s, an expert restarted meanwhile", first, std::slice::from_ref(&event))
            .measured("both tables right after etcd is back", &[converged])
            .measured("all three in etcd after", &[registered])
            .noted("calls that the restarted one was given before", &meanwhile.to_string()),
        Row::new("the same, seen by a router that was started meanwhile", other, &[event])
            .measured("router serving, from the beginning of the outage", &[started]),
    ]
}

/// The first router's file, once all three instances are in it.
async fn kept_table(clinic: &Clinic) -> PathBuf {
    let path = clinic.table("router");
    let epochs: Vec<String> = clinic.right().await.into_values().collect();
    let holds = |path: &Path| {
        let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        epochs.iter().all(|epoch| text.contains(epoch.as_str()))
    };
    until("the router has kept its table", async || holds(&path).then_some(())).await;
    path
}
