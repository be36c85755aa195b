//! Every certificate of a mesh under TLS is replaced, and then the authority that they are of.

use std::sync::Arc;

use consilium_tests::processes::{Authority, Event, Ledger, Load, Row, Secured, until};
use tokio::time::Instant;

use crate::scene::Scene;

/// The files change under running processes, in the order in which nobody meets a stranger: first everybody believes the new
/// authority as well, then everybody shows its certificates, then nobody believes the old one.
pub(crate) async fn all_certificates_are_replaced(scene: &Scene) -> Vec<Row> {
    let (old, new) = (Authority::new(), Authority::new());
    let mut mesh = Secured::start(&scene.logs, &old, &new).await;
    assert!(!mesh.answers_in_the_clear().await, "plaintext is not spoken");
    mesh.refused(&old, &new).await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&mesh.router.channel, &ledger);
    let steady = async || {
        let enough = ledger.answered() + 60;
        until("requests are answered", async || (ledger.answered() >= enough).then_some(())).await;
    };
    steady().await;

    let at = Instant::now();
    mesh.renew(&old, &[&old, &new]);
    mesh.known(&old, &new).await;
    let both = Instant::now();
    mesh.renew(&new, &[&old, &new]);
    mesh.known(&new, &new).await;
    let shown = Instant::now();
    mesh.renew(&new, &[&new]);
    mesh.refused(&new, &old).await;
    let end = Instant::now();

    // Who starts now has never heard of the old authority: router, experts and etcd meet by the new one alone.
    mesh.join("c").await;
    steady().await;
    load.stop().await;
    let tally = ledger.tally();
    tally.assert_all_answered();
    assert!(ledger.answered_by("c", end), "the newcomer is called");
    let event = Event { at, until: end, instance: None };
    vec![
        Row::new("TLS everywhere: all certificates and their authority replaced", tally, &[event])
            .measured("files to everybody's connections", &[both - at, shown - both, end - shown]),
    ]
}
