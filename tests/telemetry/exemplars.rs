//! From a point on a panel to the trace behind it: what a histogram's bucket remembers is a trace that Jaeger has.

use std::collections::BTreeSet;

use crate::scene::{Scene, say};

/// Each with what is in every trace that it points to.
const SELECTORS: [(&str, &str); 6] = [
    ("rpc_server_call_duration_seconds_bucket", ""),
    ("rpc_client_call_duration_seconds_bucket", "leg"),
    ("consilium_router_leg_duration_seconds_bucket", "leg"),
    ("consilium_gate_duration_seconds_bucket", "gate"),
    ("consilium_engine_queue_duration_seconds_bucket", "queue"),
    // Tensors are run without further ado.
    ("consilium_expert_answer_duration_seconds_bucket", ""),
];

pub(crate) async fn resolve(scene: &Scene) {
    let (watched, _) = scene.loaded().await;
    for (selector, span) in SELECTORS {
        let exemplars = watched.prometheus.exemplars(selector).await;
        assert!(!exemplars.is_empty(), "{selector} has no exemplars");
        let traces: BTreeSet<_> = exemplars.iter().filter_map(|exemplar| exemplar.labels.get("trace_id")).collect();
        assert!(!traces.is_empty(), "{selector}: an exemplar names no trace: {:?}", exemplars[0]);
        let mut found = 0;
        for id in &traces {
            let trace = watched.jaeger.until(id, "the trace of an exemplar", |trace| !trace.0.is_empty()).await;
            let has = span.is_empty() || trace.0.iter().any(|one| one.name == span);
            assert!(has, "{selector} points to a trace without {span}:\n{trace}");
            found += 1;
        }
        let one = &exemplars[0];
        let (id, value) = (&one.labels["trace_id"], one.value * 1e3);
        say(&format!(
            "{selector}: {} exemplars, {found} traces, all of them found; {value:.1} ms is {id}",
            exemplars.len()
        ));
    }
}
