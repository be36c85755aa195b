use super::*;
use crate::registry::testing;

fn card(expert: &str, summary: &str) -> Card {
    Card { summary: summary.into(), ..testing::card(expert) }
}

fn record(expert: &str, instance: &str, epoch: &str) -> Record {
    Record { epoch: epoch.into(), ..testing::record(expert, instance) }
}

fn state(snapshot: &Snapshot, expert: &str, instance: &str) -> Option<State> {
    Some(snapshot.experts.get(expert)?.instances.get(instance)?.record.state)
}

#[tokio::test]
async fn an_instance_lives_from_register_to_deregister_and_its_card_longer() {
    let registry = MemoryRegistry::new("test");
    let snapshots = registry.watch();
    let registration = registry.register(card("a", "x"), record("a", "i", "e")).await.unwrap();
    {
        let snapshot = snapshots.borrow();
        assert_eq!(state(&snapshot, "a", "i"), Some(State::Serving));
        let expert = &snapshot.experts["a"];
        assert_eq!(expert.instances["i"].record.card_digest, expert.cards["1"].digest());
        assert_eq!(expert.serving().count(), 1);
    }
    registration.drain().await.unwrap();
    assert_eq!(state(&snapshots.borrow(), "a", "i"), Some(State::Draining));
    assert_eq!(snapshots.borrow().experts["a"].serving().count(), 0);
    registration.deregister().await.unwrap();
    registration.deregister().await.unwrap();
    assert_eq!(state(&snapshots.borrow(), "a", "i"), None);
    assert_eq!(snapshots.borrow().experts["a"].cards.len(), 1);
    assert!(matches!(registration.drain().await, Err(Error::Gone { .. })));
}

#[tokio::test]
async fn a_dropped_registration_vanishes_as_a_crash_would() {
    let registry = MemoryRegistry::new("test");
    drop(registry.register(card("a", "x"), record("a", "i", "e")).await.unwrap());
    let snapshot = registry.watch().borrow().clone();
    assert_eq!(state(&snapshot, "a", "i"), None);
    assert_eq!(snapshot.experts["a"].cards.len(), 1);
}

#[tokio::test]
async fn a_restart_takes_over_and_the_former_life_cannot_touch_it() {
    let registry = MemoryRegistry::new("test");
    let former = registry.register(card("a", "x"), record("a", "i", "e1")).await.unwrap();
    let _latter = registry.register(card("a", "x"), record("a", "i", "e2")).await.unwrap();
    assert!(matches!(former.drain().await, Err(Error::Gone { .. })));
    drop(former);
    assert_eq!(state(&registry.watch().borrow(), "a", "i"), Some(State::Serving));
}

#[tokio::test]
async fn what_a_change_leaves_alone_keeps_its_arc() {
    let registry = MemoryRegistry::new("test");
    let _a = registry.register(card("a", "x"), record("a", "i", "e")).await.unwrap();
    let before = registry.watch().borrow().clone();
    let _b = registry.register(card("b", "x"), record("b", "i", "e")).await.unwrap();
    let _a2 = registry.register(card("a", "x"), record("a", "j", "e")).await.unwrap();
    let after = registry.watch().borrow().clone();
    assert_eq!(after.revision, before.revision + 2);
    assert!(Arc::ptr_eq(&before.experts["a"].cards["1"], &after.experts["a"].cards["1"]));
    assert!(Arc::ptr_eq(&before.experts["a"].instances["i"], &after.experts["a"].instances["i"]));
    let _b2 = registry.register(card("b", "x"), record("b", "j", "e")).await.unwrap();
    assert!(Arc::ptr_eq(&after.experts["a"], &registry.watch().borrow().experts["a"]));
}

#[tokio::test]
async fn a_card_of_other_content_replaces_the_one_of_the_same_version() {
    let registry = MemoryRegistry::new("test");
    let _old = registry.register(card("a", "old"), record("a", "i", "e")).await.unwrap();
    let _new = registry.register(card("a", "new"), record("a", "j", "e")).await.unwrap();
    let snapshot = registry.watch().borrow().clone();
    assert_eq!(snapshot.experts["a"].cards["1"].summary, "new");
    assert_eq!(snapshot.experts["a"].cards.len(), 1);
}

#[tokio::test]
async fn watchers_hear_of_changes_and_of_nothing_else() {
    let registry = MemoryRegistry::new("test");
    let registration = registry.register(card("a", "x"), record("a", "i", "e")).await.unwrap();
    let mut snapshots = registry.watch();
    snapshots.mark_unchanged();
    let mut same = record("a", "i", "e");
    registration.update(same.clone()).await.unwrap();
    assert!(!snapshots.has_changed().unwrap());
    same.executors = 4;
    registration.update(same.clone()).await.unwrap();
    assert!(snapshots.has_changed().unwrap());
    same.instance = "other".into();
    assert!(matches!(registration.update(same).await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn a_card_is_retired_when_nobody_serves_it_any_more() {
    let registry = MemoryRegistry::new("test");
    assert!(matches!(registry.retire("a", "1").await, Err(Error::Unknown { .. })));
    let registration = registry.register(card("a", "x"), record("a", "i", "e")).await.unwrap();
    assert!(matches!(registry.retire("a", "1").await, Err(Error::InUse { .. })));
    registration.deregister().await.unwrap();
    assert!(matches!(registry.retire("a", "2").await, Err(Error::Unknown { .. })));
    registry.retire("a", "1").await.unwrap();
    assert!(registry.watch().borrow().experts.is_empty());
}

type Spoil = fn(&mut Record);

#[tokio::test]
async fn a_record_that_does_not_fit_its_card_is_refused() {
    let registry = MemoryRegistry::new("test");
    let wrong: [(&str, Spoil); 6] = [
        ("record.expert", |record| record.expert = "b".into()),
        ("record.version", |record| record.version = "2".into()),
        ("record.address", |record| record.address = "127.0.0.1:0".into()),
        ("record.address", |record| record.address = "nowhere".into()),
        ("record.instance", |record| record.instance = "a/b".into()),
        ("record.epoch", |record| record.epoch.clear()),
    ];
    for (field, spoil) in wrong {
        let mut record = record("a", "i", "e");
        spoil(&mut record);
        let error = registry.register(card("a", "x"), record).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { what, .. } if what == field), "{error}");
    }
    assert!(registry.watch().borrow().experts.is_empty());
}
