//! Everything that the router counts, with the names and label keys. Labels are bounded: experts come from cards,
//! outcomes, tiers and codes from enums.

use consilium_mesh::metrics::Metrics as Page;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

// `_total` is appended by the format.
const SLO_GOOD: &str = "consilium_slo_good";
const SLO: &str = "consilium_slo";
const DECISIONS: &str = "consilium_router_decisions";
const ATTEMPTS: &str = "consilium_router_attempts";

/// The router's counters. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    slo_good: Family<ExpertLabels, Counter>,
    slo_total: Family<ExpertLabels, Counter>,
    decisions: Family<DecisionLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
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

impl Metrics {
    /// Counters that `page` prints.
    pub(crate) fn on(page: &Page) -> Self {
        let metrics = Self::default();
        page.register(|registry| {
            registry.register(SLO_GOOD, "Legs that met their expert's objective", metrics.slo_good.clone());
            registry.register(SLO, "Legs that count for their expert's objective", metrics.slo_total.clone());
            registry.register(DECISIONS, "What the gate decided, once per request", metrics.decisions.clone());
            registry.register(ATTEMPTS, "Attempts on instances, retries included", metrics.attempts.clone());
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legs_show_under_the_names_that_alerts_read() {
        let page = Page::new();
        let metrics = Metrics::on(&page);
        for good in [true, true, false] {
            metrics.leg("labs", good);
        }
        assert_eq!(metrics.legs("labs"), (2, 3));
        let text = page.encode();
        assert!(text.contains(r#"consilium_slo_good_total{expert="labs"} 2"#), "{text}");
        assert!(text.contains(r#"consilium_slo_total{expert="labs"} 3"#), "{text}");
    }
}
