//! What every registry promises.

use std::{future::Future, sync::Arc};

use consilium_mesh::registry::{Card, Error, MAX_GATE_BYTES, MemoryRegistry, Record, Registry, State};

use crate::support::{Mesh, card, expert, instance, record, until};

/// Runs `test` on a registry of each kind.
async fn on_each<F: Future<Output = ()>>(test: impl Fn(Arc<dyn Registry>) -> F) {
    test(Arc::new(MemoryRegistry::new("clinic"))).await;
    let mesh = Mesh::new().await;
    test(Arc::new(mesh.member())).await;
}

#[tokio::test]
async fn an_instance_lives_from_register_to_deregister_and_its_card_longer() {
    on_each(|registry| async move {
        let registration = registry.register(card("labs"), record("labs", "a")).await.expect("it is taken");
        let known = until(&*registry, |known| instance(known, "labs", "a").is_some()).await;
        let labs = expert(&known, "labs").expect("it is known");
        assert_eq!(labs.instances["a"].record.card_digest, labs.cards["1"].digest());
        assert_eq!((labs.serving().count(), labs.instances["a"].expired), (1, false));

        registration.drain().await.expect("it is there");
        let draining = |known: &_| instance(known, "labs", "a").is_some_and(|a| a.record.state == State::Draining);
        until(&*registry, draining).await;
        registration.deregister().await.expect("it is there");
        registration.deregister().await.expect("twice is no error");
        let known = until(&*registry, |known| instance(known, "labs", "a").is_none()).await;
        assert_eq!(expert(&known, "labs").expect("its card is there").cards.len(), 1);
        assert!(matches!(registration.drain().await, Err(Error::Gone { .. })));
    })
    .await;
}

#[tokio::test]
async fn an_instance_changes_what_it_says_but_not_who_it_is() {
    on_each(|registry| async move {
        let first = record("labs", "a");
        let registration = registry.register(card("labs"), first.clone()).await.expect("it is taken");
        let moved = Record { address: "127.0.0.1:7001".into(), zone: "b".into(), ..first.clone() };
        registration.update(moved).await.expect("it is there");
        let there = |known: &_| instance(known, "labs", "a").is_some_and(|a| a.address == "127.0.0.1:7001");
        let known = until(&*registry, there).await;
        let now = &instance(&known, "labs", "a").expect("it is known").record;
        assert_eq!((now.zone.as_str(), now.card_digest.as_str()), ("b", card("labs").digest().as_str()));

        for other in [Record { instance: "b".into(), ..first.clone() }, record("labs", "a")] {
            assert!(matches!(registration.update(other).await, Err(Error::Invalid { .. })));
        }
    })
    .await;
}

#[tokio::test]
async fn a_card_changes_in_place_for_all_who_serve_it() {
    on_each(|registry| async move {
        let first = registry.register(card("labs"), record("labs", "a")).await.expect("it is taken");
        let _second = registry.register(card("labs"), record("labs", "b")).await.expect("it is taken");
        until(&*registry, |known| instance(known, "labs", "b").is_some()).await;
        let edited = Card { examples: vec!["is my sodium low".into()], ..card("labs") };
        first.update_card(edited.clone()).await.expect("it is there");
        let changed = |known: &_| expert(known, "labs").is_some_and(|labs| *labs.cards["1"] == edited);
        until(&*registry, changed).await;
        let announced =
            |known: &_| instance(known, "labs", "a").is_some_and(|a| a.record.card_digest == edited.digest());
        until(&*registry, announced).await;

        // A change of the record is no step back to the card that it was registered with.
        let record = Record { zone: "b".into(), ..first_record(&*registry) };
        first.update(record).await.expect("it is there");
        let known = until(&*registry, |known| instance(known, "labs", "a").is_some_and(|a| a.record.zone == "b")).await;
        assert!(announced(&known) && changed(&known));

        for other in
            [Card { version: "2".into(), ..edited.clone() }, Card { expert: "pharmacy".into(), ..edited.clone() }]
        {
            assert!(matches!(first.update_card(other).await, Err(Error::Invalid { .. })));
        }
        first.deregister().await.expect("it is there");
        assert!(matches!(first.update_card(card("labs")).await, Err(Error::Gone { .. })));
    })
    .await;
}

fn first_record(registry: &dyn Registry) -> Record {
    instance(&registry.watch().borrow(), "labs", "a").expect("it is known").record.clone()
}

#[tokio::test]
async fn the_gates_settings_reach_everybody_until_they_are_taken_back() {
    on_each(|registry| async move {
        assert_eq!(registry.get_gate().await.expect("it can be asked"), None);
        let settings = "top_k: 2\nmin_confidence: 0.7\n";
        registry.put_gate(Some(settings.to_owned())).await.expect("they are taken");
        assert_eq!(registry.get_gate().await.expect("it can be asked").as_deref(), Some(settings));
        until(&*registry, |known| known.gate.as_deref() == Some(settings)).await;
        for wrong in [" \n".to_owned(), "x".repeat(MAX_GATE_BYTES + 1)] {
            assert!(matches!(registry.put_gate(Some(wrong)).await, Err(Error::Invalid { what: "gate", .. })));
        }
        let _labs = registry.register(card("labs"), record("labs", "a")).await.expect("it is taken");
        let known = until(&*registry, |known| instance(known, "labs", "a").is_some()).await;
        assert_eq!(known.gate.as_deref(), Some(settings), "whoever comes or goes");
        for _ in 0..2 {
            registry.put_gate(None).await.expect("taking back what is not there is no error");
        }
        until(&*registry, |known| known.gate.is_none()).await;
        assert_eq!(registry.get_gate().await.expect("it can be asked"), None);
    })
    .await;
}

#[tokio::test]
async fn a_later_start_of_an_instance_takes_its_place() {
    on_each(|registry| async move {
        let (before, after) = (record("labs", "a"), record("labs", "a"));
        let epoch = after.epoch.clone();
        let there = |epoch: &str| {
            let epoch = epoch.to_owned();
            move |known: &_| instance(known, "labs", "a").is_some_and(|a| a.record.epoch == epoch)
        };
        let first = registry.register(card("labs"), before.clone()).await.expect("it is taken");
        until(&*registry, there(&before.epoch)).await;
        let _second = registry.register(card("labs"), after).await.expect("it is taken");
        until(&*registry, there(&epoch)).await;
        assert!(matches!(first.drain().await, Err(Error::Gone { .. })));
        first.deregister().await.expect("going twice is no error");
        drop(first);
        // What comes after that is seen after that.
        let _other = registry.register(card("pharmacy"), record("pharmacy", "b")).await.expect("it is taken");
        let known = until(&*registry, |known| instance(known, "pharmacy", "b").is_some()).await;
        assert!(there(&epoch)(&known), "the later one is left alone");
    })
    .await;
}

#[tokio::test]
async fn a_card_is_retired_when_nobody_serves_it() {
    on_each(|registry| async move {
        let retire = |version: &'static str| registry.retire("labs", version);
        assert!(matches!(retire("1").await, Err(Error::Unknown { .. })));
        let registration = registry.register(card("labs"), record("labs", "a")).await.expect("it is taken");
        until(&*registry, |known| instance(known, "labs", "a").is_some()).await;
        assert!(matches!(retire("2").await, Err(Error::Unknown { .. })));
        let refused = retire("1").await.expect_err("somebody serves it");
        assert!(matches!(&refused, Error::InUse { instance, .. } if instance == "a"), "{refused}");
        registration.deregister().await.expect("it is there");
        retire("1").await.expect("nobody serves it");
        until(&*registry, |known| expert(known, "labs").is_none()).await;
    })
    .await;
}

#[tokio::test]
async fn what_breaks_the_rules_is_refused_with_its_field() {
    on_each(|registry| async move {
        let right = record("labs", "a");
        for (field, wrong) in [
            ("record.instance", Record { instance: "a/b".into(), ..right.clone() }),
            ("record.epoch", Record { epoch: String::new(), ..right.clone() }),
            ("record.expert", Record { expert: "pharmacy".into(), ..right.clone() }),
            ("record.version", Record { version: "2".into(), ..right.clone() }),
            ("record.address", Record { address: "somewhere".into(), ..right.clone() }),
        ] {
            let refused = registry.register(card("labs"), wrong).await.expect_err(field);
            assert!(matches!(&refused, Error::Invalid { what, .. } if *what == field), "{field}: {refused}");
        }
    })
    .await;
}
