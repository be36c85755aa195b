//! Everything that the router counts, with the names and label keys. Labels are bounded: experts come from cards,
//! outcomes, tiers and codes from enums, names of feedback from `mesh.yaml`.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use consilium_mesh::metrics::Metrics as Page;
use consilium_metrics::{Amounts, Counts, Described};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
};

use crate::{balance::Health, catalog::Catalog};

const SLO_GOOD: Described =
    Described::counter("consilium_slo_good", &["expert"], "Legs that met their expert's objective");
const SLO: Described = Described::counter("consilium_slo", &["expert"], "Legs that count for their expert's objective");
const DECISIONS: Described = Described::counter(
    "consilium_router_decisions",
    &["outcome", "reason", "tier"],
    "What the gate decided, once per request",
);
const ATTEMPTS: Described = Described::counter(
    "consilium_router_attempts",
    &["expert", "rpc_response_status_code"],
    "Attempts on instances, retries included",
);
const INSTANCES: Described = Described::gauge(
    "consilium_router_instances",
    &["expert", "state"],
    "Registered instances by what this router last heard of them",
);
const FEEDBACK: Described =
    Described::counter("consilium_feedback", &["expert", "metric", "value"], "What callers said about answers");
const FEEDBACK_NUMBER: Described =
    Described::histogram("consilium_feedback_number", &["expert", "metric"], "Numbers that callers gave to answers");

/// Everything that this crate measures.
pub(crate) const METRICS: &[&Described] =
    &[&SLO_GOOD, &SLO, &DECISIONS, &ATTEMPTS, &INSTANCES, &FEEDBACK, &FEEDBACK_NUMBER];

/// The router's counters. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    slo_good: Counts<ExpertLabels>,
    slo_total: Counts<ExpertLabels>,
    decisions: Counts<DecisionLabels>,
    attempts: Counts<AttemptLabels>,
    feedback: Counts<FeedbackLabels>,
    feedback_number: Amounts<FeedbackNumberLabels>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            slo_good: Counts::default(),
            slo_total: Counts::default(),
            decisions: Counts::default(),
            attempts: Counts::default(),
            feedback: Counts::default(),
            // For its sum and its count: what would be good bounds of buckets, only each mesh knows.
            feedback_number: Amounts::new(&[]),
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
        let mut metric = INSTANCES.encode(&mut encoder)?;
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
        page.register(|sheet| {
            sheet.counts(&SLO_GOOD, &metrics.slo_good);
            sheet.counts(&SLO, &metrics.slo_total);
            sheet.counts(&DECISIONS, &metrics.decisions);
            sheet.counts(&ATTEMPTS, &metrics.attempts);
            sheet.counts(&FEEDBACK, &metrics.feedback);
            sheet.amounts(&FEEDBACK_NUMBER, &metrics.feedback_number);
            sheet.collect(Instances { catalog: Arc::downgrade(catalog) });
        });
        metrics
    }

    /// One leg of `expert` that counts.
    pub(crate) fn leg(&self, expert: &str, good: bool) {
        let labels = ExpertLabels { expert: expert.to_owned() };
        self.slo_total.add(&labels, 1);
        self.slo_good.add(&labels, u64::from(good));
    }

    /// Good legs and all legs of `expert` so far.
    pub(crate) fn legs(&self, expert: &str) -> (u64, u64) {
        let labels = ExpertLabels { expert: expert.to_owned() };
        // Good is read first and counted last: it can lag behind the total, never run ahead of it.
        let good = self.slo_good.get(&labels);
        (good, self.slo_total.get(&labels))
    }

    pub(crate) fn decision(&self, outcome: &'static str, reason: &'static str, tier: &'static str) {
        self.decisions.add(&DecisionLabels { outcome, reason, tier }, 1);
    }

    pub(crate) fn attempt(&self, expert: &str, code: tonic::Code) {
        let rpc_response_status_code = consilium_mesh::metrics::code_name(code);
        self.attempts.add(&AttemptLabels { expert: expert.to_owned(), rpc_response_status_code }, 1);
    }

    /// One word about an answer of `expert`, which is empty for a refusal; `metric` is a declared one.
    pub(crate) fn feedback(&self, expert: &str, metric: &str, value: &'static str) {
        let labels = FeedbackLabels { expert: expert.to_owned(), metric: metric.to_owned(), value };
        self.feedback.add(&labels, 1);
    }

    /// One number for an answer of `expert`, with the same limits.
    pub(crate) fn feedback_number(&self, expert: &str, metric: &str, number: f64) {
        let labels = FeedbackNumberLabels { expert: expert.to_owned(), metric: metric.to_owned() };
        self.feedback_number.observe(&labels, number, &tracing::Span::none());
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
