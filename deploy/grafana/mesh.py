"""The dashboard of the whole mesh, which says whether it is well and, if not, which step or which expert it is."""

from __future__ import annotations

from inside import ROUTER, ROUTERS, TRACES, experts, gate, processes
from panels import (
    BAD,
    GOOD,
    WARN,
    Dashboard,
    Panel,
    Row,
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
from promql import (
    ASIDE,
    BURNS,
    FAULTS,
    burn,
    burn_alerts,
    choice,
    or_zero,
    or_zero_each,
    others,
    quantile,
    quantiles,
    rate,
    share,
    source,
    to_expert,
)

SERVED = f'server="router", {ROUTER}'
CALLS = f'{SERVED}, rpc_method!~"{ASIDE}"'
DURATION = "rpc_server_call_duration_seconds"


def dashboard() -> Dashboard:
    """As it is read from top to bottom: what callers get, what experts promise, and then what is inside."""
    return Dashboard(
        uid="consilium-mesh",
        title="Consilium / Mesh",
        description="The whole mesh: what callers get, what the gate decides, which experts keep their objectives.",
        tags=["consilium"],
        variables=[
            source("datasource", "Data source", "prometheus"),
            choice(
                "instance",
                "Instance",
                "consilium_gate_experts",
                "instance",
                several=True,
                description="Routers, as Prometheus calls what it scrapes. Experts and objectives are shown whole.",
            ),
        ],
        links=others("consilium-mesh"),
        annotations=[burn_alerts()],
        rows=[
            Row("At a glance", glance()),
            Row("Golden signals of the router", golden()),
            Row("Objectives", objectives()),
            Row("The gate", gate()),
            Row("Steps and experts", experts()),
            Row("Registry and processes", processes()),
        ],
    )


def glance() -> list[Panel]:
    """Six numbers."""
    all_calls = rate(f"{DURATION}_count", CALLS)
    faults = rate(f"{DURATION}_count", f'{CALLS}, rpc_response_status_code=~"{FAULTS}"')
    # The recorded promises alone are there without a single scrape.
    promised = "consilium_slo_objective_ratio and on (expert) slo:objective:ratio"
    return [
        stat(
            "Requests",
            "Calls that the routers answered. Probes (health, reflection, the Open Inference Protocol's live and "
            "ready) and streams without an end are left out here, and from failures and durations.",
            query(all_calls),
            steps((None, "text")),
            unit="reqps",
        ),
        stat(
            "Failed",
            "Share of calls that ended with a code that is the mesh's fault, sheds included; probes and endless "
            "streams left out.",
            query(share(faults, all_calls, rare=True)),
            steps((None, GOOD), (0.001, WARN), (0.01, BAD)),
            unit="percentunit",
            fields={"decimals": 2},
        ),
        stat(
            "p99",
            "99 of 100 calls took at most this long, probes and endless streams left out.",
            query(quantile(0.99, DURATION, CALLS)),
            steps((None, GOOD), (0.25, WARN), (1, BAD)),
            unit="s",
        ),
        stat(
            "Shed",
            "Calls refused at once because the router had no room for them.",
            query(rate("consilium_rpc_server_shed_total", SERVED)),
            steps((None, GOOD), (0.001, BAD)),
            unit="reqps",
        ),
        stat(
            "Objectives in danger",
            "Experts that have burnt budget over the last hour faster than it comes in. Empty while no rules "
            "are loaded.",
            query(or_zero(f"count({burn('1h')} > 1)", promised)),
            steps((None, GOOD), (1, BAD)),
            unit="none",
        ),
        stat(
            "Experts without an instance",
            "Experts with a card of which no router has a serving instance.",
            query('sum(sum by (expert) (consilium_router_instances{state=~"serving|unknown"}) == bool 0)'),
            steps((None, GOOD), (1, BAD)),
            unit="none",
        ),
    ]


def golden() -> list[Panel]:
    """Rate, errors, duration, saturation."""
    return [
        series(
            "Requests by method",
            "Calls answered per second, by method; probes and endless streams left out.",
            [query(rate(f"{DURATION}_count", CALLS, "rpc_method"), "{{rpc_method}}")],
            unit="reqps",
            stacked=True,
        ),
        series(
            "Calls that did not end OK",
            "By code. INVALID_ARGUMENT and NOT_FOUND are the caller's, UNAVAILABLE and "
            "DEADLINE_EXCEEDED the mesh's, RESOURCE_EXHAUSTED is a shed or a quota. A refusal is OK. Probes and "
            "endless streams are left out.",
            [
                query(
                    or_zero(
                        rate(
                            f"{DURATION}_count", f'{CALLS}, rpc_response_status_code!="OK"', "rpc_response_status_code"
                        ),
                        ROUTERS,
                        "rpc_response_status_code",
                    ),
                    "{{rpc_response_status_code}}",
                )
            ],
            overrides=codes(),
            unit="reqps",
            stacked=True,
        ),
        series(
            "Duration",
            "Of calls, probes and endless streams left out. A diamond is one request; it leads to its trace.",
            quantiles(DURATION, CALLS),
            unit="s",
            fields={"links": [TRACES]},
        ),
        series(
            "In flight",
            "Calls that are open at the router. Whoever watches, health or experts, is one of them for as long as that "
            "lasts; what the router sheds by counts neither watches nor probes.",
            [query(f"sum by (instance) (consilium_rpc_server_in_flight{{{SERVED}}})", "{{instance}}")],
            unit="none",
        ),
        series(
            "Shed and panicked",
            "Calls refused because the limit was reached, and calls whose code panicked. Both should be zero.",
            [
                query(rate("consilium_rpc_server_shed_total", SERVED), "shed"),
                query(rate("consilium_rpc_server_panics_total", SERVED), "panicked"),
            ],
            unit="reqps",
            overrides=[colored("panicked", "red")],
        ),
        heatmap(
            "How long calls took",
            "Calls per second by duration, probes and endless streams left out: two bands are two kinds of requests.",
            rate(f"{DURATION}_bucket", CALLS, "le"),
            unit="s",
            cells="reqps",
        ),
    ]


def objectives() -> list[Panel]:
    """What experts promise and what they keep, from the recorded rules."""
    columns = [
        now("max by (expert) (slo:objective:ratio)", table=True),
        now("max by (expert) (consilium_slo_latency_seconds)", table=True),
        now("1 - max by (expert) (slo:sli_error:ratio_rate1h)", table=True),
        now(burn("1h"), table=True),
        now("min by (expert) (slo:period_error_budget_remaining:ratio)", table=True),
        now(or_zero_each(rate("consilium_slo_total", by="expert")), table=True),
    ]
    names = ["Objective", "Latency", "Good, 1 h", "Burn, 1 h", "Budget left, 30 d", "Legs per second"]
    order = {"expert": 0} | {f"Value #{chr(ord('A') + at)}": at + 1 for at in range(len(names))}
    colour = {"type": "color-text"}
    detail = link(
        "In detail", "/d/consilium-expert?var-expert=${__value.raw}&var-datasource=${datasource}&${__url_time_range}"
    )
    return [
        table(
            "Promises and budgets",
            "Each expert's promise (that share of legs good and at most that slow, retries included), how "
            "much of the last hour was good, how many times faster than affordable the error budget burns, and what is "
            "left of 30 days' budget. Below 0 the promise is broken.",
            columns,
            width=16,
            height=9,
            unit="percentunit",
            sort=[{"desc": False, "displayName": "Budget left, 30 d"}],
            transformations=[
                {"id": "merge", "options": {}},
                {
                    "id": "organize",
                    "options": {
                        "excludeByName": {"Time": True},
                        "indexByName": order,
                        "renameByName": {"expert": "Expert"} | dict(zip(list(order)[1:], names, strict=True)),
                    },
                },
            ],
            overrides=[
                override("Expert", links=[detail]),
                override("Objective", decimals=2),
                override("Good, 1 h", decimals=2),
                override("Latency", unit="s"),
                override(
                    "Burn, 1 h",
                    unit="none",
                    decimals=2,
                    custom_cellOptions=colour,
                    thresholds=steps((None, GOOD), (1, WARN), (6, BAD)),
                ),
                override(
                    "Budget left, 30 d",
                    decimals=1,
                    min=0,
                    max=1,
                    custom_cellOptions={"mode": "gradient", "type": "gauge"},
                    thresholds=steps((None, BAD), (0.25, WARN), (0.5, GOOD)),
                ),
                override("Legs per second", unit="reqps", decimals=2),
            ],
        ),
        series(
            "Burn rate, 1 h",
            "1: the budget would last exactly its 30 days. 6 over six hours and 14.4 over one page; see the alerts.",
            [query(burn("1h"), "{{expert}}")],
            height=9,
            unit="none",
            legend=["lastNotNull", "max"],
            bounds=steps((None, GOOD), (BURNS[0], WARN), (BURNS[2], BAD)),
            fields={"links": [to_expert()]},
        ),
    ]
