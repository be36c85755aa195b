use std::sync::Arc;

use arc_swap::ArcSwap;
use consilium_gate::{EncodeError, Encoded, Encoder, Gate};
use consilium_mesh::{
    dial,
    registry::{
        Expert, Instance, Slo, Snapshot,
        testing::{card, record},
    },
};
use tokio::time::Instant;

use super::*;
use crate::{
    balance::{Connect, Health, Line},
    catalog::Catalog,
};

#[test]
fn legs_show_under_the_names_that_alerts_read() {
    let page = Page::new();
    let metrics = Metrics::on(&page);
    for good in [Some(true), Some(true), Some(false), None] {
        metrics.leg("labs", good, Duration::from_millis(30), &Span::none());
    }
    assert_eq!(metrics.legs("labs"), (2, 3));
    let text = page.encode();
    for line in [
        r#"consilium_slo_good_total{expert="labs"} 2"#,
        r#"consilium_slo_total{expert="labs"} 3"#,
        r#"consilium_router_leg_duration_seconds_count{expert="labs",slo="met"} 2"#,
        r#"consilium_router_leg_duration_seconds_count{expert="labs",slo="missed"} 1"#,
        r#"consilium_router_leg_duration_seconds_count{expert="labs",slo="uncounted"} 1"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// Reads nothing.
struct Blind;

#[tonic::async_trait]
impl Encoder for Blind {
    fn digest(&self) -> &'static str {
        "blind"
    }

    async fn encode(&self, _: &str, _: Instant) -> Result<Encoded, EncodeError> {
        Err(EncodeError::Failed("blind".into()))
    }
}

/// Lines that nobody watches.
struct Still;

impl Connect for Still {
    fn connect(&self, instance: &Instance) -> Result<Line, dial::Error> {
        Ok(Line::still(dial::channel(&dial::Target::plain(&*instance.address))?, Health::Unreachable))
    }
}

fn snapshot() -> Arc<Snapshot> {
    let slo = Slo { latency: Duration::from_millis(150), objective: 0.95, first_token: None };
    let mut record = record("labs", "a");
    record.address = "127.0.0.1:1".to_owned();
    let instance = Arc::new(Instance { address: record.address.clone(), record, expired: false });
    let labs = Expert {
        name: "labs".to_owned(),
        cards: [("1".to_owned(), Arc::new(consilium_mesh::registry::Card { slo, ..card("labs") }))].into(),
        instances: [("a".to_owned(), instance)].into(),
    };
    Arc::new(Snapshot { revision: 1, experts: [("labs".to_owned(), Arc::new(labs))].into(), ..Snapshot::default() })
}

#[tokio::test]
async fn experts_and_instances_show_until_they_are_gone() {
    let page = Page::new();
    let catalog = Arc::<ArcSwap<Catalog>>::default();
    let gate = Gate::with_background(consilium_gate::Options::default(), Arc::new(Blind), Vec::new()).unwrap();
    let gate = Arc::new(gate);
    watch(&page, &gate, &catalog);
    catalog.store(Arc::new(catalog.load().next(snapshot(), &Still)));

    let pick = || catalog.load().pool("labs").unwrap().pick("1", &[]).expect("it is all there is");
    drop(pick());
    let tried = || {
        let pick = pick();
        pick.is_tried();
        pick
    };
    tried().failed(None);
    tried().succeeded();
    let running = tried();
    let text = page.encode();
    for line in [
        r#"consilium_router_instances{expert="labs",state="unreachable"} 1"#,
        r#"consilium_router_instances{expert="labs",state="serving"} 0"#,
        r#"consilium_router_instance_picks_total{expert="labs",expert_instance="a"} 3"#,
        r#"consilium_router_instance_failures_total{expert="labs",expert_instance="a"} 1"#,
        r#"consilium_router_instance_in_flight{expert="labs",expert_instance="a"} 1"#,
        r#"consilium_router_instance_latency_seconds{expert="labs",expert_instance="a"} "#,
        r#"consilium_slo_objective_ratio{expert="labs"} 0.95"#,
        r#"consilium_slo_latency_seconds{expert="labs"} 0.15"#,
        "consilium_gate_experts 0",
        "consilium_gate_rule_errors_total 0",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }

    drop(running);
    catalog.store(Arc::default());
    assert!(!page.encode().contains("labs"));
    let known = (Arc::downgrade(&catalog), Arc::downgrade(&gate));
    drop((catalog, gate));
    assert!(known.0.upgrade().is_none() && known.1.upgrade().is_none(), "a page holds nothing of a router");
    let text = page.encode();
    assert!(!text.contains("consilium_router_instances") && !text.contains("consilium_gate_experts"), "{text}");
}
