//! What only a registry elsewhere has to keep: several processes, lost leases, members that are away, the table on disk.

use std::{sync::Arc, time::Duration};

use consilium_mesh::{
    metrics::Metrics,
    registry::{Card, Error, EtcdRegistry, EtcdSettings, Record, Registry, Track},
};
use consilium_tests::processes::{self, Announced, Etcd};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::support::{Mesh, card, expert, instance, logs, record, until};

#[tokio::test]
async fn processes_see_each_other_and_keys_lie_where_stock_clients_look() {
    let mesh = Mesh::new().await;
    let (one, two) = (mesh.member(), mesh.member());
    let _live = one.register(card("labs"), record("labs", "a")).await.expect("it is taken");
    let canary = Record { track: Track::Canary, ..record("labs", "b") };
    let _canary = one.register(card("labs"), canary).await.expect("it is taken");
    let known = until(&two, |known| expert(known, "labs").is_some_and(|labs| labs.instances.len() == 2)).await;
    assert_eq!(instance(&known, "labs", "b").expect("it is known").record.track, Track::Canary);
    assert_eq!(expert(&known, "labs").expect("it is known").cards["1"].examples, card("labs").examples);
    // A stock resolver takes every key below the prefix for an address: the canary must not be there.
    let announced = mesh.etcd.announced(&mesh.name, "labs").await;
    assert_eq!(announced.iter().map(|it| it.record.instance.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[tokio::test]
async fn an_instance_that_dies_is_marked_when_its_lease_runs_out_and_goes_when_it_is_missed() {
    let mesh = Mesh::new().await;
    let router = mesh.member();
    for id in ["a", "b"] {
        let process = mesh.member();
        let registration = process.register(card("labs"), record("labs", id)).await.expect("it is taken");
        until(&router, |known| instance(known, "labs", id).is_some()).await;
        if id == "a" {
            // As a crash: nobody says goodbye and nobody renews.
            drop((registration, process));
            let expired = |known: &_| instance(known, "labs", id).is_some_and(|it| it.expired);
            let known = until(&router, expired).await;
            router.forget(vec![Arc::clone(instance(&known, "labs", id).expect("it is listed"))]);
            let known = until(&router, |known| instance(known, "labs", id).is_none()).await;
            assert_eq!(expert(&known, "labs").expect("its card is there").cards.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_registration_lives_as_long_as_it_is_held_whoever_holds_the_registry() {
    let mesh = Mesh::new().await;
    let router = mesh.member();
    let registration = mesh.member().register(card("labs"), record("labs", "a")).await.expect("it is taken");
    until(&router, |known| instance(known, "labs", "a").is_some()).await;
    registration.drain().await.expect("somebody still speaks to etcd");
    registration.deregister().await.expect("somebody still speaks to etcd");
    until(&router, |known| instance(known, "labs", "a").is_none()).await;
}

#[tokio::test]
async fn a_registration_that_etcd_loses_is_made_again() {
    let mesh = Mesh::new().await;
    let process = mesh.member();
    let _registration = process.register(card("labs"), record("labs", "a")).await.expect("it is taken");
    until(&process, |known| instance(known, "labs", "a").is_some()).await;
    let etcd = &mesh.etcd;
    let first = etcd.announced(&mesh.name, "labs").await.remove(0);

    etcd.revoke(first.lease).await;
    let second = announced_after(&mesh, first.created).await;
    assert_ne!(second.lease, first.lease);
    assert_eq!(second.record, first.record);

    etcd.delete(&second.key).await;
    let third = announced_after(&mesh, second.created).await;
    assert_eq!((third.lease, &third.record), (second.lease, &first.record));
}

#[tokio::test]
async fn a_card_that_etcd_lost_with_everything_else_comes_back_with_its_instance() {
    let mesh = Mesh::new().await;
    let (process, router) = (mesh.member(), mesh.member());
    let _registration = process.register(card("labs"), record("labs", "a")).await.expect("it is taken");
    until(&router, |known| instance(known, "labs", "a").is_some()).await;
    let first = mesh.etcd.announced(&mesh.name, "labs").await.remove(0);
    mesh.etcd.delete(&format!("consilium/{}/cards/labs/1", mesh.name)).await;
    mesh.etcd.delete(&first.key).await;
    announced_after(&mesh, first.created).await;
    // Whoever comes new finds both; whoever was there never lost either.
    let newcomer = mesh.member();
    let both = |known: &_| {
        instance(known, "labs", "a").is_some() && !expert(known, "labs").is_none_or(|it| it.cards.is_empty())
    };
    until(&newcomer, both).await;
    until(&router, |known| instance(known, "labs", "a").is_some_and(|it| !it.expired)).await;
}

#[tokio::test]
async fn a_member_that_is_away_is_passed_over() {
    let mesh = Mesh::new().await;
    // Nobody listens at the discard port. Which member is asked first is left to chance, so each order comes up.
    let mut endpoints = vec!["http://127.0.0.1:9".to_owned()];
    endpoints.extend(mesh.etcd.urls());
    for id in ["a", "b", "c", "d"] {
        let process = mesh.open(&endpoints, None);
        let registration = process.register(card("labs"), record("labs", id)).await.expect("it is taken");
        until(&process, |known| instance(known, "labs", id).is_some()).await;
        registration.deregister().await.expect("it is there");
    }
    let process = mesh.open(&endpoints, None);
    process.retire("labs", "1").await.expect("nobody serves it");
}

#[tokio::test]
async fn without_etcd_nothing_waits_and_what_was_known_last_is_known() {
    let mesh = Mesh::new().await;
    let dir = TempDir::new().expect("a temporary directory can be made");
    let table = dir.path().join("table.json");
    let router = mesh.open(&mesh.etcd.urls(), Some(&table));
    let process = mesh.member();
    let announced = record("labs", "a");
    let _registration = process.register(card("labs"), announced.clone()).await.expect("it is taken");
    until(&router, |known| instance(known, "labs", "a").is_some()).await;
    // Going down in order, a router writes what it has not written yet.
    drop(router);

    let away = ["http://127.0.0.1:9".to_owned()];
    let router = mesh.open(&away, Some(&table));
    let known = until(&router, |known| known.revision > 0).await;
    let labs = expert(&known, "labs").expect("it is in the table");
    assert_eq!((labs.cards.len(), labs.instances["a"].address.as_str()), (1, announced.address.as_str()));

    // One that has never heard of anybody knows nothing, not even that nobody is there: neither now nor the next time.
    let empty = dir.path().join("empty.json");
    for _ in 0..2 {
        let stranger = mesh.open(&away, Some(&empty));
        let heard = stranger.watch();
        stranger.register(card("labs"), record("labs", "b")).await.expect("it is announced when etcd is there");
        assert!(matches!(stranger.retire("labs", "1").await, Err(Error::Unavailable(_))));
        drop(stranger);
        assert!(!empty.exists(), "there is nothing to keep");
        assert_eq!(heard.borrow().revision, 0);
    }
}

#[tokio::test]
async fn another_meshs_table_is_neither_used_nor_written_over() {
    let (ours, theirs) = (Mesh::new().await, Mesh::new().await);
    let dir = TempDir::new().expect("a temporary directory can be made");
    let table = dir.path().join("table.json");
    for mesh in [&theirs, &ours] {
        let router = mesh.open(&mesh.etcd.urls(), Some(&table));
        let _registration =
            mesh.member().register(card("labs"), record("labs", &mesh.name)).await.expect("it is taken");
        until(&router, |known| instance(known, "labs", &mesh.name).is_some()).await;
    }
    let kept = std::fs::read_to_string(&table).expect("it is kept");
    assert!(kept.contains(&theirs.name) && !kept.contains(&ours.name), "{kept}");
}

#[tokio::test]
async fn a_card_that_somebody_lost_or_retired_too_soon_comes_back() {
    let mesh = Mesh::new().await;
    let (process, router) = (mesh.member(), mesh.member());
    let _registration = process.register(card("labs"), record("labs", "a")).await.expect("it is taken");
    until(&router, |known| instance(known, "labs", "a").is_some()).await;
    mesh.etcd.delete(&format!("consilium/{}/cards/labs/1", mesh.name)).await;
    let newcomer = async || {
        let newcomer = mesh.member();
        let known = until(&newcomer, |known| known.revision > 0).await;
        expert(&known, "labs").is_some_and(|labs| !labs.cards.is_empty()).then_some(())
    };
    processes::until("whoever comes new knows the card", newcomer).await;
}

#[tokio::test]
async fn an_instance_that_goes_does_not_bring_back_the_card_that_it_had() {
    let mesh = Mesh::new().await;
    let registry = mesh.member();
    let before = registry.register(card("labs"), record("labs", "a")).await.expect("it is taken");
    until(&registry, |known| instance(known, "labs", "a").is_some()).await;
    let edited = Card { summary: "Knows more.".into(), ..card("labs") };
    let _after = registry.register(edited, record("labs", "b")).await.expect("it is taken");
    until(&registry, |known| instance(known, "labs", "b").is_some()).await;
    before.drain().await.expect("it is there");
    before.deregister().await.expect("it is there");
    let known = until(&registry, |known| instance(known, "labs", "a").is_none()).await;
    assert_eq!(expert(&known, "labs").expect("it is known").cards["1"].summary, "Knows more.");
}

#[tokio::test]
async fn a_start_under_a_new_id_at_the_same_address_replaces_the_one_before() {
    let mesh = Mesh::new().await;
    let router = mesh.member();
    let before = record("labs", "a");
    let after = Record { address: before.address.clone(), ..record("labs", "b") };
    let dead = mesh.member().register(card("labs"), before).await.expect("it is taken");
    until(&router, |known| instance(known, "labs", "a").is_some()).await;
    drop(dead);
    let _restarted = mesh.member().register(card("labs"), after).await.expect("it is taken");
    until(&router, |known| instance(known, "labs", "b").is_some() && instance(known, "labs", "a").is_none()).await;
}

#[tokio::test]
async fn what_others_write_into_the_mesh_does_no_harm() {
    let mesh = Mesh::new().await;
    let router = mesh.member();
    let mut client = mesh.etcd.client().await;
    let nonsense = [
        ("experts/labs/broken", "{"),
        (
            "experts/labs/other",
            r#"{"Addr":"127.0.0.1:1","Record":{"schema":1,"instance":"x","epoch":"1","version":"1","state":"serving"}}"#,
        ),
        (
            "experts/labs/nowhere",
            r#"{"Addr":"nowhere","Record":{"schema":1,"instance":"nowhere","epoch":"1","version":"1","state":"serving"}}"#,
        ),
        ("cards/labs/1", "[]"),
        ("policy/labs", "{}"),
        ("experts/labs/a/b/c", "{}"),
    ];
    for (key, value) in nonsense {
        client.put(format!("consilium/{}/{key}", mesh.name), value, None).await.expect("etcd can be written");
    }
    let process = mesh.member();
    let _registration = process.register(card("labs"), record("labs", "a")).await.expect("it is taken");
    for registry in [&router, &mesh.member()] {
        let known = until(registry, |known| instance(known, "labs", "a").is_some()).await;
        assert_eq!(expert(&known, "labs").expect("it is known").instances.len(), 1);
        assert_eq!(known.experts.len(), 1);
    }
}

#[tokio::test]
async fn a_mesh_of_more_keys_than_fit_on_a_page_is_listed_whole() {
    let mesh = Mesh::new().await;
    let mut client = mesh.etcd.client().await;
    for at in 0..120 {
        let record = record("labs", &format!("i{at:03}"));
        let key = format!("consilium/{}/experts/labs/{}", mesh.name, record.instance);
        client.put(key, record.encode().expect("it is JSON"), None).await.expect("etcd can be written");
    }
    let router = mesh.member();
    let known = until(&router, |known| known.revision > 0).await;
    assert_eq!(expert(&known, "labs").expect("it is known").instances.len(), 120);
}

/// The instance `labs` as it is announced under a key that was made after `created`.
async fn announced_after(mesh: &Mesh, created: i64) -> Announced {
    let look = async || mesh.etcd.announced(&mesh.name, "labs").await.pop().filter(|it| it.created > created);
    processes::until("it is announced again", look).await.0
}

#[tokio::test]
async fn an_etcd_that_nobody_writes_to_is_not_taken_for_a_silent_one() {
    let etcd = Etcd::start(1, &logs()).await;
    let page = Metrics::new();
    let registry = EtcdRegistry::open("idle", &EtcdSettings::new(etcd.urls()), None, &page).expect("they are right");
    until(&registry, |known| known.revision > 0).await;
    // Longer than a watch may say nothing, shorter than until the next list.
    sleep(Duration::from_secs(22)).await;
    let page = page.encode();
    for line in ["consilium_registry_up 1", "consilium_registry_lists_total 1"] {
        assert!(page.lines().any(|it| it == line), "{line} is not in {page}");
    }
}
