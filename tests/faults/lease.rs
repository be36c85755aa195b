//! Registrations vanish behind the backs of those who made them: one, and all of them at once.

use std::time::Duration;

use consilium_tests::processes::{Announced, Clinic, EXPERT, Event, MESH, Options, Row, until};
use tokio::time::Instant;

use crate::scene::Scene;

/// By then it is registered again.
const AGAIN: Duration = Duration::from_secs(5);
const TIMES: usize = 3;

pub(crate) async fn revoked(scene: &Scene) -> Vec<Row> {
    let clinic = scene.clinic(Options::default()).await;
    vanish(clinic, "lease of 1 of 3 instances revoked", async |clinic, announced| {
        clinic.etcd.revoke(announced[0].lease).await;
    })
    .await
}

pub(crate) async fn all_revoked(scene: &Scene) -> Vec<Row> {
    let clinic = scene.clinic(Options::default()).await;
    vanish(clinic, "leases of all instances revoked at once", async |clinic, announced| {
        for instance in announced {
            clinic.etcd.revoke(instance.lease).await;
        }
    })
    .await
}

/// The leases live on: only the keys are gone.
pub(crate) async fn all_deleted(scene: &Scene) -> Vec<Row> {
    let clinic = scene.clinic(Options::default()).await;
    vanish(clinic, "keys of all instances deleted at once", async |clinic, announced| {
        for instance in announced {
            clinic.etcd.delete(&instance.key).await;
        }
    })
    .await
}

/// Makes registrations vanish, and waits until all instances are registered again: the same processes, in the same
/// lives.
async fn vanish(mut clinic: Clinic, event: &str, make: impl AsyncFn(&Clinic, &[Announced])) -> Vec<Row> {
    let load = clinic.load().await;
    let right = clinic.right().await;
    let (mut events, mut again) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let before = clinic.etcd.announced(MESH, EXPERT).await;
        assert_eq!(before.len(), right.len(), "all are registered before");
        let at = Instant::now();
        make(&clinic, &before).await;
        let registered = async || {
            let now = clinic.etcd.announced(MESH, EXPERT).await;
            // A key's life begins anew, so what is there now is not what was there before.
            (now.len() == right.len() && now.iter().any(|found| is_new(found, &before))).then_some(())
        };
        until("all are registered again", registered).await;
        again.push(at.elapsed());
        clinic.router.until_right(&right).await;
        events.push(Event { at, until: Instant::now(), instance: None });
    }
    let tally = clinic.rest(load).await;
    for (instance, expert) in &mut clinic.experts {
        assert!(expert.process.is_alive(), "{instance} has ended");
    }
    assert_eq!(clinic.right().await, right, "nobody was restarted");
    let worst = again.iter().max().copied().unwrap_or_default();
    assert!(worst <= AGAIN, "registered again after {worst:?}");
    vec![Row::new(event, tally, &events).measured("registered again after", &again)]
}

fn is_new(found: &Announced, before: &[Announced]) -> bool {
    before.iter().all(|known| (&known.key, known.created) != (&found.key, found.created))
}
