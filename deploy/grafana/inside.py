"""The lower half of the mesh's dashboard: the gate, the way of a request, the registry and the processes."""

from __future__ import annotations

from panels import (
    BAD,
    GOOD,
    WARN,
    Panel,
    bars,
    codes,
    colored,
    heatmap,
    link,
    now,
    override,
    query,
    series,
    stat,
    steps,
    table,
)
from promql import CALLED, COUNTED, mean, or_zero, or_zero_each, quantile, rate, to_expert

ROUTER = 'instance=~"$instance"'
# What every router shows from its start, whatever happens to it.
ROUTERS = f"consilium_gate_experts{{{ROUTER}}}"
TRACES = link("Traces of these minutes", "/d/consilium-traces?var-datasource=${datasource}&${__url_time_range}")

# Every program has metrics of its process: only those that are ours.
_OURS = "and on (instance, job) consilium_build_info"


def gate() -> list[Panel]:
    """What is decided, how surely, how fast."""
    decisions = "consilium_router_decisions_total"
    return [
        series(
            "Decisions by outcome",
            "DISPATCHED: sent to experts. FALLBACK: to the one for everything else. REFUSED: "
            "nobody's subject. UNAVAILABLE: could not be decided, or nobody lives.",
            [query(rate(decisions, ROUTER, "outcome"), "{{outcome}}")],
            unit="reqps",
            stacked=True,
            overrides=[
                colored("DISPATCHED", "green"),
                colored("FALLBACK", "yellow"),
                colored("REFUSED", "blue"),
                colored("UNAVAILABLE", "red"),
            ],
        ),
        series(
            "Decisions by reason",
            "The one reason behind each outcome.",
            [query(rate(decisions, ROUTER, "reason"), "{{reason}}")],
            unit="reqps",
            stacked=True,
        ),
        series(
            "Decisions by tier",
            "What it took to decide: rules and lists alone, or the sentence encoder.",
            [query(rate(decisions, ROUTER, "tier"), "{{tier}}")],
            unit="reqps",
            stacked=True,
        ),
        series(
            "Selections by expert",
            "How often each expert was chosen. An expert that falls to zero has lost its "
            "subject to another or to a rule.",
            [query(or_zero_each(rate("consilium_router_selections_total", ROUTER, "expert")), "{{expert}}")],
            unit="reqps",
            fields={"links": [to_expert()]},
        ),
        series(
            "Time to decide",
            "By tier. A diamond is one request.",
            [
                query(quantile(0.5, "consilium_gate_duration_seconds", ROUTER, "tier"), "p50 {{tier}}"),
                query(quantile(0.99, "consilium_gate_duration_seconds", ROUTER, "tier"), "p99 {{tier}}", exemplar=True),
            ],
            unit="s",
            fields={"links": [TRACES]},
        ),
        heatmap(
            "Confidence",
            "Probability of the most probable expert, decisions per second. A band that sinks to the bar "
            "means queries that the examples do not cover.",
            rate("consilium_router_confidence_ratio_bucket", ROUTER, "le"),
            unit="percentunit",
        ),
        series(
            "Mean confidence by expert",
            "Of decisions in which that expert was the most probable one.",
            [query(mean("consilium_router_confidence_ratio", ROUTER, "expert"), "{{expert}}")],
            width=6,
            unit="percentunit",
            fields={"max": 1, "links": [to_expert()]},
        ),
        series(
            "Rules",
            "Rules that matched, and conditions that could not be worked out.",
            [
                query(or_zero(rate("consilium_gate_rules_matched_total", ROUTER, "rule"), ROUTERS, "rule"), "{{rule}}"),
                query(rate("consilium_gate_rule_errors_total", ROUTER), "errors"),
            ],
            width=6,
            unit="reqps",
            overrides=[colored("errors", "red")],
        ),
        series(
            "Experts known, fits",
            "Experts that the gate can choose, and how often an hour it was fitted anew because cards changed.",
            [
                query(f"min by (instance) ({ROUTERS})", "experts, {{instance}}"),
                query(f'sum(increase(consilium_gate_fits_total{{{ROUTER}, result="ok"}}[1h]))', "fits in an hour"),
                query(
                    f'sum(increase(consilium_gate_fits_total{{{ROUTER}, result="failed"}}[1h]))',
                    "failed fits in an hour",
                ),
            ],
            width=6,
            unit="none",
            overrides=[colored("failed fits in an hour", "red")],
            legend=["lastNotNull", "max"],
        ),
        series(
            "The gate's encoder, p95",
            "The sentence encoder within the routers: how long queries wait for it, and how long it runs. In a mesh of "
            "one process, experts on the same model wait in the same queue.",
            [
                query(quantile(0.95, "consilium_engine_queue_duration_seconds", ROUTER), "wait"),
                query(quantile(0.95, "consilium_engine_inference_duration_seconds", ROUTER), "inference"),
            ],
            width=6,
            unit="s",
        ),
    ]


def experts() -> list[Panel]:
    """The walk of a request, and the experts as the routers see them."""
    step, leg = "consilium_router_step_duration_seconds", "consilium_router_leg_duration_seconds"
    return [
        series(
            "Steps, p95",
            "Where a request's time goes within the router; `call` is the experts' part.",
            [query(quantile(0.95, step, ROUTER, "step"), "{{step}}", exemplar=True)],
            unit="s",
            fields={"links": [TRACES]},
        ),
        series(
            "Legs, p95",
            "One leg is one expert's part of a request, retries included. Those that no objective counts are left out.",
            [query(quantile(0.95, leg, f"{ROUTER}, {COUNTED}", "expert"), "{{expert}}", exemplar=True)],
            unit="s",
            fields={"links": [to_expert()]},
        ),
        series(
            "Attempts that did not end OK",
            "Calls of instances by code. What a retry mended is here and nowhere else.",
            [
                query(
                    or_zero(
                        rate(
                            "consilium_router_attempts_total",
                            f'{ROUTER}, rpc_response_status_code!="OK"',
                            "expert, rpc_response_status_code",
                        ),
                        ROUTERS,
                        "expert",
                    ),
                    "{{expert}} {{rpc_response_status_code}}",
                )
            ],
            overrides=codes(),
            unit="reqps",
            stacked=True,
            fields={"links": [to_expert()]},
        ),
        series(
            "Instances by state",
            "As this router sees them. One that is unknown was registered just now.",
            [query(f"sum by (state) (max by (expert, state) (consilium_router_instances{{{ROUTER}}}))", "{{state}}")],
            unit="none",
            stacked=True,
            legend=["lastNotNull", "min"],
            overrides=[
                colored("serving", "green"),
                colored("unknown", "blue"),
                colored("not_serving", "orange"),
                colored("unreachable", "red"),
            ],
        ),
        series(
            "Retries",
            "Second attempts, because the first failed or its instance was slow; refused: the retry budget was empty.",
            [
                query(rate("consilium_router_retries_total", ROUTER, "cause"), "{{cause}}"),
                query(or_zero(rate("consilium_router_retries_refused_total", ROUTER), ROUTERS), "refused"),
            ],
            unit="reqps",
            overrides=[colored("refused", "red")],
        ),
        series(
            "Ejections",
            "Times that an instance stopped being picked, and why, within five minutes.",
            [query(f"sum by (cause) (increase(consilium_router_ejections_total{{{ROUTER}}}[5m]))", "{{cause}}")],
            unit="none",
        ),
        bars(
            "Busiest instances",
            "Calls in flight on each instance, from all routers. The load should be even.",
            now(
                f"topk(20, sum by (expert, {CALLED}) (consilium_router_instance_in_flight{{{ROUTER}}}))",
                f"{{{{expert}}}} {{{{{CALLED}}}}}",
            ),
            width=12,
            height=7,
            unit="none",
        ),
        bars(
            "Picks",
            "Calls per second that went to each instance.",
            now(
                f"topk(20, {rate('consilium_router_instance_picks_total', ROUTER, f'expert, {CALLED}')})",
                f"{{{{expert}}}} {{{{{CALLED}}}}}",
            ),
            width=12,
            height=7,
            unit="reqps",
        ),
    ]


def processes() -> list[Panel]:
    """What everything runs on."""
    return [
        stat(
            "Registry up",
            "Whether every process that follows or announces has its registry. Without it the mesh serves on "
            "with what it knows.",
            query("min(consilium_registry_up)"),
            steps((None, BAD), (1, GOOD)),
            height=8,
            unit="none",
            fields={
                "mappings": [
                    {
                        "type": "value",
                        "options": {
                            "0": {"color": BAD, "index": 0, "text": "away"},
                            "1": {"color": GOOD, "index": 1, "text": "up"},
                        },
                    }
                ]
            },
        ),
        series(
            "Registry last heard",
            "Seconds since each process last heard from the registry.",
            [query("max by (instance) (consilium_registry_age_seconds)", "{{instance}}")],
            unit="s",
            width=10,
            height=8,
            legend=["lastNotNull", "max"],
            bounds=steps((None, GOOD), (30, WARN), (120, BAD)),
        ),
        series(
            "Registrations that ran out",
            "Instances whose registration has run out and that are kept because they may "
            "still answer; whole lists read again, and announcements made, within five minutes. Nobody announces in a "
            "mesh of one process.",
            [
                query("max(consilium_registry_expired_instances)", "expired instances"),
                query("sum(increase(consilium_registry_lists_total[5m]))", "lists read"),
                query("sum(increase(consilium_registry_announcements_total[5m]))", "announcements made"),
            ],
            unit="none",
            width=10,
            legend=["lastNotNull", "max"],
        ),
        series(
            "CPU",
            "Cores that each process uses.",
            [
                query(
                    f"sum by (job, instance) (rate(process_cpu_seconds_total[$__rate_interval]) {_OURS})",
                    "{{job}} {{instance}}",
                )
            ],
            unit="none",
        ),
        series(
            "Memory",
            "Resident, models included.",
            [query(f"sum by (job, instance) (process_resident_memory_bytes {_OURS})", "{{job}} {{instance}}")],
            unit="bytes",
        ),
        series(
            "File descriptors",
            "Share of the allowed ones that are open.",
            [query(f"max by (job, instance) (process_open_fds / process_max_fds {_OURS})", "{{job}} {{instance}}")],
            unit="percentunit",
            bounds=steps((None, GOOD), (0.7, WARN), (0.9, BAD)),
        ),
        series(
            "Spans",
            "Spans that left the processes, that could not be sent, and that were thrown away because the "
            "collector was slow or away. Requests never wait for them.",
            [query(rate("consilium_trace_spans_total", by="result"), "{{result}}")],
            unit="ops",
            overrides=[colored("exported", "green"), colored("failed", "red"), colored("dropped", "orange")],
        ),
        table(
            "Versions",
            "What runs where, and since when.",
            [
                now("max by (job, instance, version) (consilium_build_info)", table=True),
                now(f"max by (job, instance) (process_start_time_seconds {_OURS}) * 1000", table=True),
            ],
            width=16,
            unit="none",
            transformations=[
                {"id": "merge", "options": {}},
                {
                    "id": "organize",
                    "options": {
                        "excludeByName": {"Time": True, "Value #A": True},
                        "indexByName": {"job": 0, "instance": 1, "version": 2, "Value #B": 3},
                        "renameByName": {
                            "job": "Job",
                            "instance": "Instance",
                            "version": "Version",
                            "Value #B": "Started",
                        },
                    },
                },
            ],
            overrides=[override("Started", unit="dateTimeFromNow")],
        ),
    ]
