//! The router's spans: what each is called and what it says. Facts about how a request went: names that the operator gave,
//! numbers, codes and reasons; never what was asked or answered, nor who asks.

use std::time::Duration;

use consilium_mesh::telemetry::span::{answered, called, inner, set, set_list, set_numbers};
use consilium_metrics::is_recorded;
use tonic::Code;
use tracing::{Level, Span, debug_span, span_enabled};

use crate::{balance::Pick, gate::Decision, plan::Leg};

/// Candidates that a decision's span names, the best ones.
const CANDIDATES: usize = 8;

/// One request on the `stream` of a call. A stream lasts as long as a client wants, and so does its call's span: whoever
/// decides at the end of a trace which ones to keep could not wait for it. So each request begins a trace of its own, linked
/// to the stream's. Where that is not kept the requests are not either.
pub(crate) fn request(stream: &Span) -> Span {
    if !is_recorded(stream) {
        return stream.clone();
    }
    let request = debug_span!(parent: None, "request");
    request.follows_from(stream);
    request
}

pub(crate) fn admission() -> Span {
    inner(|| debug_span!("admission"))
}

/// Says what was [`decided`] in the end.
pub(crate) fn gate() -> Span {
    inner(|| debug_span!("gate"))
}

pub(crate) fn plan() -> Span {
    inner(|| debug_span!("plan"))
}

pub(crate) fn call() -> Span {
    inner(|| debug_span!("call"))
}

pub(crate) fn combine() -> Span {
    inner(|| debug_span!("combine"))
}

/// Says how it [`ended`](leg_ended).
pub(crate) fn leg(leg: &Leg) -> Span {
    inner(|| {
        debug_span!(
            "leg",
            consilium.expert.name = &*leg.expert,
            consilium.expert.version = &*leg.version,
            consilium.leg.stage = number(leg.stage),
            consilium.leg.budget_ms = milliseconds(leg.budget),
            consilium.slo.latency_ms = milliseconds(leg.slo.latency),
        )
    })
}

/// `at` counts from 1; says how it [`ended`](attempt_ended).
pub(crate) fn attempt(leg: &Leg, pick: &Pick, method: &'static str, at: usize) -> Span {
    inner(|| {
        let (host, port) = pick.server();
        debug_span!(
            "attempt",
            otel.name = method,
            otel.kind = "client",
            rpc.system.name = "grpc",
            rpc.method = method,
            server.address = host,
            server.port = port.map(i64::from),
            consilium.expert.name = &*leg.expert,
            consilium.expert.version = &*leg.version,
            consilium.expert.instance = pick.instance(),
            consilium.attempt.number = number(at),
            consilium.attempt.kind = if at == 1 { "first" } else { "retry" },
        )
    })
}

/// Tells the gate's span, the current one, what the gate saw and chose. Of what the caller said, only values that the mesh
/// declares.
pub(crate) fn decided(decision: &Decision) {
    let span = &Span::current();
    // Where nobody wants the gate's span, the current one is the call's.
    if !span_enabled!(Level::DEBUG) || !is_recorded(span) {
        return;
    }
    let gate = decision.gate();
    set(span, "consilium.gate.outcome", gate.outcome.as_str());
    set(span, "consilium.gate.reason", decision.reason());
    set(span, "consilium.gate.tier", gate.tier.as_str());
    set(span, "consilium.gate.revision", gate.revision.to_string());
    set(span, "consilium.gate.calibrated", gate.calibrated);
    set(span, "consilium.gate.truncated", decision.is_truncated());
    set_list(span, "consilium.gate.selected", decision.selected().map(|choice| choice.expert));
    let candidates = || gate.candidates.iter().take(CANDIDATES);
    set_list(span, "consilium.gate.candidates", candidates().map(|candidate| &*candidate.expert));
    set_numbers(span, "consilium.gate.probabilities", candidates().map(|candidate| candidate.probability));
    set_list(span, "consilium.gate.rules", gate.rules_matched.iter().map(String::as_str));
    let dimensions = gate.dimensions.iter();
    let values: Vec<_> = dimensions
        .flat_map(|known| known.in_effect().iter().map(|value| format!("{}={}", known.name, value.value)))
        .collect();
    set_list(span, "consilium.gate.dimensions", values.iter().map(String::as_str));
}

/// `code` is `None` where the caller left first, `good` where the leg does not count for the objective.
pub(crate) fn leg_ended(span: &Span, code: Option<Code>, good: Option<bool>) {
    ended(span, code);
    if let Some(good) = good {
        set(span, "consilium.slo.met", good);
    }
}

/// `code` is `None` where the caller left first.
pub(crate) fn attempt_ended(span: &Span, code: Option<Code>, outcome: &'static str) {
    ended(span, code);
    set(span, "consilium.attempt.outcome", outcome);
}

fn ended(span: &Span, code: Option<Code>) {
    match code {
        Some(code) => called(span, code),
        // Nobody's fault: whoever keeps the traces that failed would have to keep every one that a caller gave up.
        None => answered(span, Code::Cancelled),
    }
}

fn number(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
