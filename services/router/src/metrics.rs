//! Everything that the router counts, with the names and label keys. Labels are bounded: experts come from cards,
//! outcomes, tiers and codes from enums, names of feedback from `mesh.yaml`.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use consilium_mesh::metrics::Metrics as Page;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
    metrics::{MetricType, counter::Counter, family::Family, histogram::Histogram},
};

use crate::{balance::Health, catalog::Catalog};

// `_total` is appended by the format.
const SLO_GOOD: &str = "consilium_slo_good";
const SLO: &str = "consilium_slo";
const DECISIONS: &str = "consilium_router_decisions";
const ATTEMPTS: &str = "consilium_router_attempts";
const INSTANCES: &str = "consilium_router_instances";
const FEEDBACK: &str = "consilium_feedback";
const FEEDBACK_NUMBER: &str = "consilium_feedback_number";

/// The router's counters. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    slo_good: Family<ExpertLabels, Counter>,
    slo_total: Family<ExpertLabels, Counter>,
    decisions: Family<DecisionLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    feedback: Family<FeedbackLabels, Counter>,
    feedback_number: Family<FeedbackNumberLabels, Histogram, fn() -> Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            slo_good: Family::default(),
            slo_total: Family::default(),
            decisions: Family::default(),
            attempts: Family::default(),
            feedback: Family::default(),
            // For its sum and its count: what would be good bounds of buckets, only each mesh knows.
            feedback_number: Family::new_with_constructor(|| Histogram::new([])),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExpertLabels {
    expert: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    outcome: &'static str,
    reason: &'static str,
    tier: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    expert: String,
    rpc_response_status_code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FeedbackLabels {
    expert: String,
    metric: String,
    value: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FeedbackNumberLabels {
    expert: String,
    metric: String,
}

/// Counts instances when it is asked for: nothing is left behind of an expert that is gone.
#[derive(Debug)]
struct Instances {
    /// Metrics outlive a router, and what it knows holds connections.
    catalog: Weak<ArcSwap<Catalog>>,
}

impl Collector for Instances {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(catalog) = self.catalog.upgrade() else { return Ok(()) };
        let catalog = catalog.load();
        let help = "Registered instances by what this router last heard of them";
        let mut metric = encoder.encode_descriptor(INSTANCES, help, None, MetricType::Gauge)?;
        for expert in catalog.snapshot().experts.values() {
            let healths: Vec<_> = expert.instances.values().map(|instance| catalog.health(instance)).collect();
            for state in Health::ALL {
                let count = healths.iter().filter(|health| **health == state).count();
                let labels = [("expert", expert.name.as_str()), ("state", state.as_str())];
                metric.encode_family(&labels)?.encode_gauge(&i64::try_from(count).unwrap_or(i64::MAX))?;
            }
        }
        Ok(())
    }
}

impl Metrics {
    /// Counters that `page` prints, and the instances of `catalog` as they are when it does.
    pub(crate) fn on(page: &Page, catalog: &Arc<ArcSwap<Catalog>>) -> Self {
        let metrics = Self::default();
        page.register(|registry| {
            registry.register(SLO_GOOD, "Legs that met their expert's objective", metrics.slo_good.clone());
            registry.register(SLO, "Legs that count for their expert's objective", metrics.slo_total.clone());
            registry.register(DECISIONS, "What the gate decided, once per request", metrics.decisions.clone());
            registry.register(ATTEMPTS, "Attempts on instances, retries included", metrics.attempts.clone());
            registry.register(FEEDBACK, "What callers said about answers", metrics.feedback.clone());
            let help = "Numbers that callers gave to answers";
            registry.register(FEEDBACK_NUMBER, help, metrics.feedback_number.clone());
            registry.register_collector(Box::new(Instances { catalog: Arc::downgrade(catalog) }));
        });
        metrics
    }

    /// One leg of `expert` that counts.
    pub(crate) fn leg(&self, expert: &str, good: bool) {
        let labels = ExpertLabels { expert: expert.to_owned() };
        self.slo_total.get_or_create(&labels).inc();
        self.slo_good.get_or_create(&labels).inc_by(u64::from(good));
    }

    /// Good legs and all legs of `expert` so far.
    pub(crate) fn legs(&self, expert: &str) -> (u64, u64) {
        let labels = ExpertLabels { expert: expert.to_owned() };
        // Good is read first and counted last: it can lag behind the total, never run ahead of it.
        let good = self.slo_good.get_or_create(&labels).get();
        (good, self.slo_total.get_or_create(&labels).get())
    }

    pub(crate) fn decision(&self, outcome: &'static str, reason: &'static str, tier: &'static str) {
        self.decisions.get_or_create(&DecisionLabels { outcome, reason, tier }).inc();
    }

    pub(crate) fn attempt(&self, expert: &str, code: tonic::Code) {
        let rpc_response_status_code = consilium_mesh::metrics::code_name(code);
        self.attempts.get_or_create(&AttemptLabels { expert: expert.to_owned(), rpc_response_status_code }).inc();
    }

    /// One word about an answer of `expert`, which is empty for a refusal; `metric` is a declared one.
    pub(crate) fn feedback(&self, expert: &str, metric: &str, value: &'static str) {
        let labels = FeedbackLabels { expert: expert.to_owned(), metric: metric.to_owned(), value };
        self.feedback.get_or_create(&labels).inc();
    }

    /// One number for an answer of `expert`, with the same limits.
    pub(crate) fn feedback_number(&self, expert: &str, metric: &str, number: f64) {
        let labels = FeedbackNumberLabels { expert: expert.to_owned(), metric: metric.to_owned() };
        self.feedback_number.get_or_create(&labels).observe(number);
    }
}

#[cfg(test)]
mod tests {
    use consilium_mesh::{
        dial,
        registry::{Expert, Instance, Record, Snapshot},
    };

    use super::*;
    use crate::balance::{Connect, Line};

    #[test]
    fn legs_show_under_the_names_that_alerts_read() {
        let page = Page::new();
        let metrics = Metrics::on(&page, &Arc::default());
        for good in [true, true, false] {
            metrics.leg("labs", good);
        }
        assert_eq!(metrics.legs("labs"), (2, 3));
        let text = page.encode();
        assert!(text.contains(r#"consilium_slo_good_total{expert="labs"} 2"#), "{text}");
        assert!(text.contains(r#"consilium_slo_total{expert="labs"} 3"#), "{text}");
    }
    #[test]
    fn instances_show_by_health_until_their_expert_is_gone() {
        struct Nowhere;
        impl Connect for Nowhere {
            fn connect(&self, instance: &Instance) -> Result<Line, dial::Error> {
                Err(dial::Error::Address { address: instance.address.clone() })
            }
        }

        let page = Page::new();
        let catalog = Arc::<ArcSwap<Catalog>>::default();
        let _metrics = Metrics::on(&page, &catalog);
        let value =
            r#"{"Addr":"h:1","Record":{"schema":1,"instance":"a","epoch":"e","version":"1","state":"serving"}}"#;
        let record = Record::decode("labs", value).unwrap();
        let instance = Arc::new(Instance { address: record.address.clone(), record, expired: false });
        let labs =
            Expert { name: "labs".to_owned(), instances: [("a".to_owned(), instance)].into(), ..Expert::default() };
        let experts = [("labs".to_owned(), Arc::new(labs))].into();
        catalog.store(Arc::new(catalog.load().next(Arc::new(Snapshot { revision: 1, experts }), &Nowhere)));
        let text = page.encode();
        assert!(text.contains(r#"consilium_router_instances{expert="labs",state="unreachable"} 1"#), "{text}");
        assert!(text.contains(r#"consilium_router_instances{expert="labs",state="serving"} 0"#), "{text}");

        catalog.store(Arc::default());
        assert!(!page.encode().contains("labs"));
        let known = Arc::downgrade(&catalog);
        drop(catalog);
        assert!(known.upgrade().is_none(), "metrics outlive a router and do not hold what it knew");
        assert!(!page.encode().contains("consilium_router_instances"));
    }
}
