//! What only this registry has to keep; what every one promises is tested with the others, in the workspace's tests.

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
    let mut same = record("a", "i", "e");
    let registration = registry.register(card("a", "x"), same.clone()).await.unwrap();
    let mut snapshots = registry.watch();
    snapshots.mark_unchanged();
    registration.update(same.clone()).await.unwrap();
    assert!(!snapshots.has_changed().unwrap());
    same.executors = 4;
    registration.update(same.clone()).await.unwrap();
    assert!(snapshots.has_changed().unwrap());
    same.instance = "other".into();
    assert!(matches!(registration.update(same).await, Err(Error::Invalid { .. })));
}
