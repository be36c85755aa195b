//! The router's spans: what each is called and what it says. Facts about how a request went: names that the operator gave,
//! numbers, codes and reasons; never what was asked or answered, nor who asks.

use std::time::Duration;

use consilium_mesh::telemetry::span::{called, set, set_list, set_numbers};
use tonic::Code;
use tracing::{Level, Span, debug_span, span_enabled};

use crate::{balance::Pick, gate::Decision, plan::Leg};

/// Candidates that a decision's span names, the best ones.
const CANDIDATES: usize = 8;

pub(crate) fn admission() -> Span {
    debug_span!("admission")
}

/// Says what was [`decided`] in the end.
pub(crate) fn gate() -> Span {
    debug_span!("gate")
}

pub(crate) fn plan() -> Span {
    debug_span!("plan")
}

pub(crate) fn call() -> Span {
    debug_span!("call")
}

pub(crate) fn combine() -> Span {
    debug_span!("combine")
}

/// Says how it [`ended`](leg_ended).
pub(crate) fn leg(leg: &Leg) -> Span {
    let span = debug_span!("leg");
    if !span.is_none() {
        set(&span, "consilium.expert.name", leg.expert.to_string());
        set(&span, "consilium.expert.version", leg.version.to_string());
        set(&span, "consilium.leg.stage", number(leg.stage));
        set(&span, "consilium.leg.budget_ms", milliseconds(leg.budget));
        set(&span, "consilium.slo.latency_ms", milliseconds(leg.slo.latency));
    }
    span
}

/// `number` counts from 1; says how it [`ended`](attempt_ended).
pub(crate) fn attempt(leg: &Leg, pick: &Pick, method: &'static str, at: usize) -> Span {
    let span = debug_span!("attempt", otel.name = method, otel.kind = "client");
    if span.is_none() {
        return span;
    }
    set(&span, "rpc.system.name", "grpc");
    set(&span, "rpc.method", method);
    let (host, port) = pick.server();
    set(&span, "server.address", host.to_owned());
    if let Some(port) = port {
        set(&span, "server.port", i64::from(port));
    }
    set(&span, "consilium.expert.name", leg.expert.to_string());
    set(&span, "consilium.expert.version", leg.version.to_string());
    set(&span, "consilium.expert.instance", pick.instance().to_owned());
    set(&span, "consilium.attempt.number", number(at));
    set(&span, "consilium.attempt.kind", if at == 1 { "first" } else { "retry" });
    span
}

/// Tells the gate's span, the current one, what the gate saw and chose. Of what the caller said, only values that the mesh
/// declares.
pub(crate) fn decided(decision: &Decision) {
    // Where nobody wants the gate's span, the current one is the call's.
    if !span_enabled!(Level::DEBUG) {
        return;
    }
    let span = &Span::current();
    let gate = decision.gate();
    set(span, "consilium.gate.outcome", gate.outcome.as_str());
    set(span, "consilium.gate.reason", decision.reason());
    set(span, "consilium.gate.tier", gate.tier.as_str());
    set(span, "consilium.gate.revision", gate.revision.clone());
    set_list(span, "consilium.gate.selected", decision.selected().map(|choice| choice.expert));
    let candidates = || gate.candidates.iter().take(CANDIDATES);
    set_list(span, "consilium.gate.candidates", candidates().map(|candidate| candidate.expert.as_str()));
    set_numbers(span, "consilium.gate.probabilities", candidates().map(|candidate| candidate.probability));
    set_list(span, "consilium.gate.rules", gate.rules_matched.iter().map(String::as_str));
    let dimensions = gate.dimensions.iter();
    let values: Vec<_> = dimensions
        .flat_map(|known| known.values.iter().map(|value| format!("{}={}", known.name, value.value)))
        .collect();
    set_list(span, "consilium.gate.dimensions", values.iter().map(String::as_str));
}

/// `good` is `None` where the leg does not count for the objective.
pub(crate) fn leg_ended(span: &Span, code: Code, good: Option<bool>) {
    called(span, code);
    if let Some(good) = good {
        set(span, "consilium.slo.met", good);
    }
}

pub(crate) fn attempt_ended(span: &Span, code: Code, outcome: &'static str) {
    called(span, code);
    set(span, "consilium.attempt.outcome", outcome);
}

fn number(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
