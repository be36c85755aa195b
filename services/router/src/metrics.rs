//! Everything that the router measures, with names, label keys and meanings. Labels are bounded: experts come from cards,
//! instances from the registry, rules and names of feedback from `mesh.yaml`, everything else from enums.
//!
//! What is counted when it happens is counted here; what is read when the page is printed is in `collect`.

mod collect;

use std::time::Duration;

use consilium_gate::Tier;
use consilium_mesh::metrics::{Metrics as Page, code_name};
use consilium_metrics::{Amounts, CALL_SECONDS, Counts, Described, OBJECTIVE_SECONDS, RATIOS, STEP_SECONDS, Unit};
use prometheus_client::encoding::EncodeLabelSet;
use tonic::Code;
use tracing::Span;

pub(crate) use self::collect::watch;
use crate::{gate::Decision, reload::Source};

const SLO_GOOD: Described =
    Described::counter("consilium_slo_good", &["expert"], "Legs that met their expert's objective");
const SLO: Described = Described::counter("consilium_slo", &["expert"], "Legs that count for their expert's objective");
// Shares end in `_ratio` by their names: with a unit, the format's library would call them `_ratios`.
const SLO_OBJECTIVE: Described = Described::gauge(
    "consilium_slo_objective_ratio",
    &["expert"],
    "Share of its legs that an expert promises to be good",
);
const SLO_LATENCY: Described =
    Described::gauge("consilium_slo_latency", &["expert"], "How long a good leg takes at the most").of(Unit::Seconds);
const DECISIONS: Described = Described::counter(
    "consilium_router_decisions",
    &["outcome", "reason", "tier"],
    "What the gate decided, once per request",
);
const SELECTIONS: Described =
    Described::counter("consilium_router_selections", &["expert", "outcome"], "Times that an expert was chosen");
const CONFIDENCE: Described = Described::histogram(
    "consilium_router_confidence_ratio",
    &["expert"],
    "Probability of the most probable expert, of queries that the gate read",
);
const GATE_DURATION: Described =
    Described::histogram("consilium_gate_duration", &["tier"], "How long the gate took to decide").of(Unit::Seconds);
const RULES_MATCHED: Described =
    Described::counter("consilium_gate_rules_matched", &["rule"], "Queries that a rule of the gate matched");
const RULE_ERRORS: Described = Described::counter(
    "consilium_gate_rule_errors",
    &[],
    "Conditions of rules that could not be evaluated: no match, except that a rule which forbids then does",
);
const TRUNCATED: Described = Described::counter(
    "consilium_gate_truncated",
    &[],
    "Queries that were longer than the gate reads, so that a part of them was not read",
);
const GATE_EXPERTS: Described = Described::gauge("consilium_gate_experts", &[], "Experts that the gate is fitted to");
const FITS: Described = Described::counter("consilium_gate_fits", &["result"], "Times that the gate was fitted");
const FIT_DURATION: Described =
    Described::histogram("consilium_gate_fit_duration", &[], "How long it took to fit the gate to changed cards")
        .of(Unit::Seconds);
const RELOADS: Described = Described::counter(
    "consilium_gate_reloads",
    &["source", "result"],
    "Times that the gate was set anew by mesh.yaml and its files or by the registry: ok, or failed, when the old settings \
     stay",
);
const STEP_DURATION: Described =
    Described::histogram("consilium_router_step_duration", &["step"], "How long a step of a request's walk took")
        .of(Unit::Seconds);
const LEG_DURATION: Described = Described::histogram(
    "consilium_router_leg_duration",
    &["expert", "slo"],
    "How long legs took, retries included, by what they were for their expert's objective",
)
.of(Unit::Seconds);
const ATTEMPT_DURATION: Described = Described::histogram(
    "rpc_client_call_duration",
    &["expert", "rpc_system_name", "rpc_method", "rpc_response_status_code", "error_type"],
    "Duration of calls to instances, one per attempt",
)
.of(Unit::Seconds);
const ATTEMPTS: Described = Described::counter(
    "consilium_router_attempts",
    &["expert", "rpc_response_status_code"],
    "Attempts on instances, retries included",
);
const RETRIES: Described = Described::counter(
    "consilium_router_retries",
    &["expert", "cause"],
    "Second attempts, by what was wrong with the first: it failed, or it was slow and made room",
);
const RETRIES_REFUSED: Described = Described::counter(
    "consilium_router_retries_refused",
    &["expert"],
    "Second attempts that the retry budget did not allow",
);
const INSTANCES: Described = Described::gauge(
    "consilium_router_instances",
    &["expert", "state"],
    "Registered instances by what this router last heard of them",
);
const PICKS: Described = Described::counter(
    "consilium_router_instance_picks",
    &["expert", "expert_instance"],
    "Times that an instance was picked for an attempt",
);
const FAILURES: Described = Described::counter(
    "consilium_router_instance_failures",
    &["expert", "expert_instance"],
    "Attempts that failed through the instance's own fault",
);
const IN_FLIGHT: Described = Described::gauge(
    "consilium_router_instance_in_flight",
    &["expert", "expert_instance"],
    "Attempts of this router that run on the instance",
);
const LATENCY: Described = Described::gauge(
    "consilium_router_instance_latency",
    &["expert", "expert_instance"],
    "Latency that the balancer expects of the instance, failures counted as slow answers",
)
.of(Unit::Seconds);
const EJECTIONS: Described = Described::counter(
    "consilium_router_ejections",
    &["expert", "cause"],
    "Times that an instance stopped being picked while there is another: it said so, was out of reach, or lacked a model",
);
const FEEDBACK: Described =
    Described::counter("consilium_feedback", &["expert", "metric", "value"], "What callers said about answers");
const FEEDBACK_NUMBER: Described =
    Described::histogram("consilium_feedback_number", &["expert", "metric"], "Numbers that callers gave to answers");

/// A fit takes from milliseconds, when one card has changed, to seconds for a large mesh.
const FIT_SECONDS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

const RETRY_CAUSES: [&str; 2] = ["failed", "slow"];
/// Health that is not sound, and a model that is not there.
const EJECTION_CAUSES: [&str; 3] = ["not_serving", "unreachable", "lacking"];

/// Everything that this crate measures.
pub const METRICS: &[&Described] = &[
    &DECISIONS,
    &SELECTIONS,
    &CONFIDENCE,
    &GATE_DURATION,
    &RULES_MATCHED,
    &RULE_ERRORS,
    &TRUNCATED,
    &GATE_EXPERTS,
    &FITS,
    &FIT_DURATION,
    &RELOADS,
    &STEP_DURATION,
    &LEG_DURATION,
    &ATTEMPT_DURATION,
    &ATTEMPTS,
    &RETRIES,
    &RETRIES_REFUSED,
    &INSTANCES,
    &PICKS,
    &FAILURES,
    &IN_FLIGHT,
    &LATENCY,
    &EJECTIONS,
    &SLO_GOOD,
    &SLO,
    &SLO_OBJECTIVE,
    &SLO_LATENCY,
    &FEEDBACK,
    &FEEDBACK_NUMBER,
];

/// What the router counts. Clones share it. What was counted of an expert stays on the page when its cards are retired,
/// until the process ends: that is as many series as the operator had experts.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    slo_good: Counts<ExpertLabels>,
    slo_total: Counts<ExpertLabels>,
    decisions: Counts<DecisionLabels>,
    selections: Counts<SelectionLabels>,
    confidence: Amounts<ExpertLabels>,
    gate_duration: Amounts<TierLabels>,
    rules_matched: Counts<RuleLabels>,
    truncated: Counts<NoLabels>,
    fits: Counts<FitLabels>,
    fit_duration: Amounts<NoLabels>,
    reloads: Counts<ReloadLabels>,
    step_duration: Amounts<StepLabels>,
    leg_duration: Amounts<LegLabels>,
    attempt_duration: Amounts<CallLabels>,
    attempts: Counts<AttemptLabels>,
    retries: Counts<CauseLabels>,
    retries_refused: Counts<ExpertLabels>,
    ejections: Counts<CauseLabels>,
    feedback: Counts<FeedbackLabels>,
    feedback_number: Amounts<FeedbackNumberLabels>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            slo_good: Counts::default(),
            slo_total: Counts::default(),
            decisions: Counts::default(),
            selections: Counts::default(),
            confidence: Amounts::new(RATIOS),
            gate_duration: Amounts::new(STEP_SECONDS),
            rules_matched: Counts::default(),
            truncated: Counts::default(),
            fits: Counts::default(),
            fit_duration: Amounts::new(FIT_SECONDS),
            reloads: Counts::default(),
            step_duration: Amounts::new(STEP_SECONDS),
            leg_duration: Amounts::new(OBJECTIVE_SECONDS),
            attempt_duration: Amounts::new(CALL_SECONDS),
            attempts: Counts::default(),
            retries: Counts::default(),
            retries_refused: Counts::default(),
            ejections: Counts::default(),
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

impl ExpertLabels {
    fn of(expert: &str) -> Self {
        Self { expert: expert.to_owned() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    outcome: &'static str,
    reason: &'static str,
    tier: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SelectionLabels {
    expert: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierLabels {
    tier: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FitLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    source: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoLabels {}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LegLabels {
    expert: String,
    slo: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    expert: String,
    rpc_system_name: &'static str,
    rpc_method: &'static str,
    rpc_response_status_code: &'static str,
    /// The code's name again for what is no success, empty otherwise.
    error_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    expert: String,
    rpc_response_status_code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    expert: String,
    cause: &'static str,
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

impl Metrics {
    /// Counters that `page` prints.
    pub(crate) fn on(page: &Page) -> Self {
        let metrics = Self::default();
        page.register(|sheet| {
            sheet.counts(&DECISIONS, &metrics.decisions);
            sheet.counts(&SELECTIONS, &metrics.selections);
            sheet.amounts(&CONFIDENCE, &metrics.confidence);
            sheet.amounts(&GATE_DURATION, &metrics.gate_duration);
            sheet.counts(&RULES_MATCHED, &metrics.rules_matched);
            sheet.counts(&TRUNCATED, &metrics.truncated);
            sheet.counts(&FITS, &metrics.fits);
            sheet.amounts(&FIT_DURATION, &metrics.fit_duration);
            sheet.counts(&RELOADS, &metrics.reloads);
            sheet.amounts(&STEP_DURATION, &metrics.step_duration);
            sheet.amounts(&LEG_DURATION, &metrics.leg_duration);
            sheet.amounts(&ATTEMPT_DURATION, &metrics.attempt_duration);
            sheet.counts(&ATTEMPTS, &metrics.attempts);
            sheet.counts(&RETRIES, &metrics.retries);
            sheet.counts(&RETRIES_REFUSED, &metrics.retries_refused);
            sheet.counts(&EJECTIONS, &metrics.ejections);
            sheet.counts(&SLO_GOOD, &metrics.slo_good);
            sheet.counts(&SLO, &metrics.slo_total);
            sheet.counts(&FEEDBACK, &metrics.feedback);
            sheet.amounts(&FEEDBACK_NUMBER, &metrics.feedback_number);
        });
        metrics.truncated.add(&NoLabels {}, 0);
        for result in RESULTS {
            metrics.fits.add(&FitLabels { result }, 0);
            for source in [Source::File, Source::Registry] {
                metrics.reloads.add(&ReloadLabels { source: source.as_str(), result }, 0);
            }
        }
        metrics
    }

    /// An expert is there. What counts for its objective, and what is rare, begins at zero: of a series that begins with its
    /// first event, rates miss that one.
    pub(crate) fn knows(&self, expert: &str) {
        let labels = ExpertLabels::of(expert);
        self.slo_total.add(&labels, 0);
        self.slo_good.add(&labels, 0);
        self.retries_refused.add(&labels, 0);
        let of = |cause| CauseLabels { expert: expert.to_owned(), cause };
        for cause in RETRY_CAUSES {
            self.retries.add(&of(cause), 0);
        }
        for cause in EJECTION_CAUSES {
            self.ejections.add(&of(cause), 0);
        }
    }

    /// One decision, whoever it is about; `span` is the gate's.
    pub(crate) fn decided(&self, decision: &Decision, span: &Span) {
        let gate = decision.gate();
        let (outcome, tier) = (gate.outcome.as_str(), gate.tier.as_str());
        self.decisions.add(&DecisionLabels { outcome, reason: decision.reason(), tier }, 1);
        self.gate_duration.observe(&TierLabels { tier }, gate.elapsed.as_secs_f64(), span);
        for chosen in decision.selected() {
            self.selections.add(&SelectionLabels { expert: chosen.expert.to_owned(), outcome }, 1);
        }
        for rule in &gate.rules_matched {
            self.rules_matched.add(&RuleLabels { rule: rule.clone() }, 1);
        }
        let best = gate.candidates.iter().max_by(|a, b| a.probability.total_cmp(&b.probability));
        // Rules give the experts that they require equal shares: that is no confidence.
        if let Some(best) = best.filter(|_| gate.tier != Tier::Rules) {
            self.confidence.observe(&ExpertLabels::of(&best.expert), best.probability, span);
        }
        if decision.is_truncated() {
            self.truncated.add(&NoLabels {}, 1);
        }
    }

    /// The gate was fitted, or could not be.
    pub(crate) fn fitted(&self, ok: bool, took: Duration) {
        self.fits.add(&FitLabels { result: result(ok) }, 1);
        if ok {
            self.fit_duration.observe(&NoLabels {}, took.as_secs_f64(), &Span::none());
        }
    }

    /// The gate was set anew, or could not be.
    pub(crate) fn reloaded(&self, source: Source, ok: bool) {
        self.reloads.add(&ReloadLabels { source: source.as_str(), result: result(ok) }, 1);
    }

    pub(crate) fn step(&self, step: &'static str, took: Duration, span: &Span) {
        self.step_duration.observe(&StepLabels { step }, took.as_secs_f64(), span);
    }

    /// One leg of `expert`; `good` is `None` where it does not count.
    pub(crate) fn leg(&self, expert: &str, good: Option<bool>, took: Duration, span: &Span) {
        let slo = match good {
            Some(true) => "met",
            Some(false) => "missed",
            None => "uncounted",
        };
        let labels = LegLabels { expert: expert.to_owned(), slo };
        self.leg_duration.observe(&labels, took.as_secs_f64(), span);
        if let Some(good) = good {
            let labels = ExpertLabels::of(expert);
            self.slo_total.add(&labels, 1);
            self.slo_good.add(&labels, u64::from(good));
        }
    }

    /// Good legs and all legs of `expert` so far.
    pub(crate) fn legs(&self, expert: &str) -> (u64, u64) {
        let labels = ExpertLabels::of(expert);
        // Good is read first and counted last: it can lag behind the total, never run ahead of it.
        let good = self.slo_good.get(&labels);
        (good, self.slo_total.get(&labels))
    }

    /// One attempt on an instance of `expert`, by a method's full name.
    pub(crate) fn attempt(&self, expert: &str, rpc_method: &'static str, (code, took): (Code, Duration), span: &Span) {
        let name = code_name(code);
        let labels = AttemptLabels { expert: expert.to_owned(), rpc_response_status_code: name };
        self.attempts.add(&labels, 1);
        let labels = CallLabels {
            expert: expert.to_owned(),
            rpc_system_name: "grpc",
            rpc_method,
            rpc_response_status_code: name,
            error_type: if code == Code::Ok { "" } else { name },
        };
        self.attempt_duration.observe(&labels, took.as_secs_f64(), span);
    }

    /// A second attempt begins. The first failed, or it was only `slow`.
    pub(crate) fn retried(&self, expert: &str, slow: bool) {
        let [failed, too_slow] = RETRY_CAUSES;
        let cause = if slow { too_slow } else { failed };
        self.retries.add(&CauseLabels { expert: expert.to_owned(), cause }, 1);
    }

    /// There would have been a second attempt, had others not used up the retry budget. Once a leg, however often it asked.
    pub(crate) fn retry_refused(&self, expert: &str) {
        self.retries_refused.add(&ExpertLabels::of(expert), 1);
    }

    /// An instance of `expert` is passed over from now on.
    pub(crate) fn ejected(&self, expert: &str, cause: &'static str) {
        self.ejections.add(&CauseLabels { expert: expert.to_owned(), cause }, 1);
    }

    /// One word about an answer of `expert`, which is empty for a refusal; `metric` is a declared one.
    pub(crate) fn feedback(&self, expert: &str, metric: &str, value: &'static str) {
        let labels = FeedbackLabels { expert: expert.to_owned(), metric: metric.to_owned(), value };
        self.feedback.add(&labels, 1);
    }

    /// One number for an answer of `expert`, with the same limits.
    pub(crate) fn feedback_number(&self, expert: &str, metric: &str, number: f64) {
        let labels = FeedbackNumberLabels { expert: expert.to_owned(), metric: metric.to_owned() };
        self.feedback_number.observe(&labels, number, &Span::none());
    }
}

const RESULTS: [&str; 2] = ["ok", "failed"];

fn result(ok: bool) -> &'static str {
    let [good, bad] = RESULTS;
    if ok { good } else { bad }
}

#[cfg(test)]
mod tests;
