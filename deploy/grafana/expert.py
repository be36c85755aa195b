"""The dashboard of one expert, which says whether it keeps its objective and, if not, where its time and calls go."""

from __future__ import annotations

from panels import (
    BAD,
    GOOD,
    WARN,
    Dashboard,
    Panel,
    Row,
    codes,
    colored,
    gauge,
    heatmap,
    line,
    link,
    now,
    query,
    series,
    stat,
    steps,
)
from promql import (
    BURNS,
    CALLED,
    COUNTED,
    burn,
    burn_alerts,
    choice,
    mean,
    or_zero,
    others,
    quantile,
    quantiles,
    rate,
    share,
    source,
)

EXPERT = 'expert="$expert"'
MODEL = 'model=~"$model"'

# The engine knows models, not experts: only its models in the processes where this expert runs. An expert that shares a
# model and a process with others cannot be told from them there.
OF_EXPERT = f" * on (instance, model) group_left () group by (instance, model) (consilium_expert_model{{{EXPERT}}})"
SHARED = "Experts that share a model in one process share its engine."

LEG = "consilium_router_leg_duration_seconds"

# What the routers show of every expert that they know, whatever happens to it.
KNOWN = f"consilium_slo_objective_ratio{{{EXPERT}}}"
WINDOWS = ("5m", "30m", "1h", "6h", "1d", "3d")

TRACES = link(
    "Traces of these minutes",
    "/d/consilium-traces?var-expert=${expert}&var-datasource=${datasource}&${__url_time_range}",
)


def dashboard() -> Dashboard:
    """As it is read from top to bottom: the promise, the calls, the instances, the engine, what it answers with."""
    return Dashboard(
        uid="consilium-expert",
        title="Consilium / Expert",
        description="One expert: its objective, its instances, its queue and batches, its knowledge.",
        tags=["consilium"],
        variables=[
            source("datasource", "Data source", "prometheus"),
            choice(
                "expert",
                "Expert",
                "consilium_slo_objective_ratio",
                "expert",
                description="Every expert that has a card, whether it lives or not.",
            ),
            choice(
                "model",
                "Model",
                f"consilium_expert_model{{{EXPERT}}}",
                "model",
                several=True,
                description="The models that this expert runs; the panels of the engine show these.",
            ),
        ],
        links=others("consilium-expert"),
        annotations=[burn_alerts(EXPERT)],
        rows=[
            Row("Objective", objective()),
            Row("Calls from the routers", calls()),
            Row("Instances", instances()),
            Row("Engine", engine()),
            Row("Answers", answers()),
        ],
    )


def objective() -> list[Panel]:
    """Promised and kept."""
    good, counted = rate("consilium_slo_good_total", EXPERT), rate("consilium_slo_total", EXPERT)
    promise = f"max({KNOWN})"
    burns = [query(burn(window, EXPERT), window) for window in WINDOWS]
    return [
        gauge(
            "Budget left",
            "Of the error budget of the last 30 days. At 0 the promise is broken.",
            query(f"min(slo:period_error_budget_remaining:ratio{{{EXPERT}}})"),
            steps((None, BAD), (0.25, WARN), (0.5, GOOD)),
            height=4,
            unit="percentunit",
        ),
        stat(
            "Promise",
            "The promised share of legs that answer without a fault and in time.",
            now(promise),
            steps((None, "text")),
            unit="percentunit",
            fields={"decimals": 2},
        ),
        stat(
            "Good, 1 h",
            "Share of the last hour's legs that did.",
            query(f"1 - max(slo:sli_error:ratio_rate1h{{{EXPERT}}})"),
            steps((None, "text")),
            unit="percentunit",
            fields={"decimals": 2},
        ),
        stat(
            "Burn, 1 h",
            "How many times faster than affordable the budget was burnt over the last hour.",
            query(burn("1h", EXPERT)),
            steps((None, GOOD), (BURNS[0], WARN), (BURNS[2], BAD)),
            unit="none",
            fields={"decimals": 2},
        ),
        stat(
            "Latency objective",
            "What counts as in time, retries included, as a router sees it.",
            now(f"max(consilium_slo_latency_seconds{{{EXPERT}}})"),
            steps((None, "text")),
            unit="s",
        ),
        stat(
            "Legs",
            "Parts of requests that this expert was asked for.",
            query(rate(f"{LEG}_count", EXPERT)),
            steps((None, "text")),
            unit="reqps",
        ),
        series(
            "Latency against the objective",
            "Of legs that count for the objective. The dashed line is the objective; a diamond is one request and "
            "leads to its trace.",
            [
                *quantiles(LEG, f"{EXPERT}, {COUNTED}"),
                query(f"max(consilium_slo_latency_seconds{{{EXPERT}}})", "objective"),
            ],
            width=12,
            height=9,
            unit="s",
            overrides=[line("objective")],
            fields={"links": [TRACES]},
        ),
        series(
            "Kept",
            "Share of legs that met the objective. The dashed line is the promise.",
            [query(share(good, counted), "kept"), query(promise, "promised")],
            width=6,
            height=9,
            unit="percentunit",
            overrides=[line("promised")],
            legend=["mean", "min"],
            fields={"max": 1, "min": None},
        ),
        series(
            "Burn rates",
            "How fast the budget burns over each window. The alerts ask a long and a short one together: "
            "14.4 over 1 h and 5 m, 6 over 6 h and 30 m page; 3 over 1 d and 1 over 3 d make a ticket.",
            burns,
            width=6,
            height=9,
            unit="none",
            legend=["lastNotNull"],
            bounds=steps((None, GOOD), *zip(BURNS, (WARN, WARN, BAD, BAD), strict=True)),
        ),
        heatmap(
            "How long legs took",
            "Legs per second by duration, those that do not count for the objective too.",
            rate(f"{LEG}_bucket", EXPERT, "le"),
            width=12,
            unit="s",
            cells="reqps",
        ),
        series(
            "Legs by what became of them",
            "Met and missed count for the objective; uncounted ones do not: the caller erred, or went away in time.",
            [query(rate(f"{LEG}_count", EXPERT, "slo"), "{{slo}}")],
            width=12,
            unit="reqps",
            stacked=True,
            overrides=[colored("met", "green"), colored("missed", "red"), colored("uncounted", "blue")],
        ),
    ]


def calls() -> list[Panel]:
    """Attempts on instances."""
    return [
        series(
            "Attempts by code",
            "Calls of instances, retries included.",
            [
                query(
                    rate("consilium_router_attempts_total", EXPERT, "rpc_response_status_code"),
                    "{{rpc_response_status_code}}",
                )
            ],
            unit="reqps",
            stacked=True,
            overrides=codes(),
        ),
        series(
            "Attempt duration",
            "One call of one instance, network included. What is here and not in the expert's own time is the way.",
            quantiles("rpc_client_call_duration_seconds", EXPERT),
            unit="s",
            fields={"links": [TRACES]},
        ),
        series(
            "Retries",
            "Second attempts because the first failed, or its instance was slow; refused: the retry budget was empty.",
            [
                query(rate("consilium_router_retries_total", EXPERT, "cause"), "{{cause}}"),
                query(or_zero(rate("consilium_router_retries_refused_total", EXPERT), KNOWN), "refused"),
            ],
            unit="reqps",
            overrides=[colored("refused", "red")],
        ),
    ]


def instances() -> list[Panel]:
    """Whether the load is even, and who is out. Named as they announced themselves."""
    legend = f"{{{{{CALLED}}}}}"
    return [
        series(
            "Instances by state",
            "As the routers see them; where they differ, the highest count of each state.",
            [query(f"max by (state) (consilium_router_instances{{{EXPERT}}})", "{{state}}")],
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
            "Picks",
            "Calls per second that went to each instance.",
            [query(rate("consilium_router_instance_picks_total", EXPERT, CALLED), legend)],
            unit="reqps",
        ),
        series(
            "In flight",
            "Calls on each instance, from all routers.",
            [query(f"sum by ({CALLED}) (consilium_router_instance_in_flight{{{EXPERT}}})", legend)],
            unit="none",
        ),
        series(
            "Latency estimate",
            "What the balancer expects of each instance, the mean over routers. It picks by this and "
            "by what is in flight.",
            [query(f"avg by ({CALLED}) (consilium_router_instance_latency_seconds{{{EXPERT}}})", legend)],
            unit="s",
        ),
        series(
            "Failures",
            "Calls per second that failed because of the instance.",
            [query(rate("consilium_router_instance_failures_total", EXPERT, CALLED), legend)],
            unit="reqps",
        ),
        series(
            "Ejections",
            "Times that an instance stopped being picked, and why, within five minutes.",
            [query(f"sum by (cause) (increase(consilium_router_ejections_total{{{EXPERT}}}[5m]))", "{{cause}}")],
            unit="none",
        ),
    ]


def engine() -> list[Panel]:
    """The model's queue, batches and runs, in the processes of this expert."""

    def level(gauge_name: str) -> str:
        return f"sum ({gauge_name}{{{MODEL}}}{OF_EXPERT})"

    def timed(histogram: str, *, exemplars: bool = True) -> list:
        return quantiles(histogram, MODEL, OF_EXPERT, exemplars=exemplars)

    batch, outcome = "consilium_engine_batch_requests", "consilium_engine_requests_total"
    return [
        series(
            "Queue",
            f"Requests that wait for the model, and that run in a batch. {SHARED}",
            [
                query(level("consilium_engine_queue_requests"), "waiting"),
                query(level("consilium_engine_running_requests"), "running"),
            ],
            unit="none",
        ),
        series(
            "Queue, in units",
            "What waits as the engine reckons it: tokens for text, rows for tensors.",
            [query(level("consilium_engine_queue_units"), "waiting")],
            unit="none",
        ),
        series(
            "Wait",
            "From the queue's end to the batch. When this grows and the inference does not, there are too few "
            "instances. A diamond may be of another expert on the same model.",
            timed("consilium_engine_queue_duration_seconds"),
            unit="s",
            fields={"links": [TRACES]},
        ),
        series(
            "Inference",
            "One run of the model over one batch. A diamond may be of another expert on the same model.",
            timed("consilium_engine_inference_duration_seconds"),
            unit="s",
            fields={"links": [TRACES]},
        ),
        series(
            "Tokenising",
            "From text to token ids.",
            timed("consilium_engine_tokenize_duration_seconds", exemplars=False),
            unit="s",
        ),
        series(
            "Requests by what became of them",
            "Refused because the queue was full, expired in it, given up by the caller, "
            "failed: everything but `answered` is work that was not done.",
            [query(f"sum by (outcome) (rate({outcome}{{{MODEL}}}[$__rate_interval]){OF_EXPERT})", "{{outcome}}")],
            unit="reqps",
            stacked=True,
            overrides=[colored("answered", "green")],
        ),
        heatmap(
            "Batch size",
            f"Batches per second by how many requests ran together. {SHARED}",
            f"sum by (le) (rate({batch}_bucket{{{MODEL}}}[$__rate_interval]){OF_EXPERT})",
            unit="none",
            cells="cps",
        ),
        series(
            "Requests in a batch",
            "Mean and p95. One all the time: nothing ever waits.",
            [
                query(mean(batch, MODEL, join=OF_EXPERT), "mean"),
                query(quantile(0.95, batch, MODEL, join=OF_EXPERT), "p95"),
            ],
            unit="none",
        ),
        series(
            "Padding",
            "Share of a batch that is filling, because texts are of different lengths.",
            [
                query(mean("consilium_engine_padded_ratio", MODEL, join=OF_EXPERT), "mean"),
                query(quantile(0.95, "consilium_engine_padded_ratio", MODEL, join=OF_EXPERT), "p95"),
            ],
            unit="percentunit",
        ),
    ]


def answers() -> list[Panel]:
    """The expert's own work, and what callers thought of it."""
    none = {"noValue": "no knowledge"}
    vectors = "consilium_expert_vectors_total"
    reused = share(rate(vectors, f'{EXPERT}, source="router"'), rate(vectors, EXPERT), rare=True)
    return [
        series(
            "Time to answer",
            "Within the expert: tokenising, waiting, inference, search.",
            quantiles("consilium_expert_answer_duration_seconds", EXPERT),
            unit="s",
            fields={"links": [TRACES]},
        ),
        series(
            "Answers by code",
            "As the expert ended them.",
            [
                query(
                    rate("consilium_expert_answer_duration_seconds_count", EXPERT, "rpc_response_status_code"),
                    "{{rpc_response_status_code}}",
                )
            ],
            unit="reqps",
            stacked=True,
            overrides=codes(),
        ),
        series(
            "Vectors reused",
            "Share of answers that took the vector which the router's gate had made already, instead of "
            "running the encoder again. Only experts on the gate's encoder can.",
            [query(reused, "reused")],
            unit="percentunit",
            fields={"max": 1, "noValue": "no vectors"},
        ),
        stat(
            "Passages",
            "Of the knowledge that is loaded, in one instance. Only experts that retrieve have any.",
            query(f"min(consilium_expert_knowledge_passages{{{EXPERT}}})"),
            steps((None, "text")),
            height=8,
            unit="none",
            fields=none,
        ),
        stat(
            "Knowledge age",
            "Since the file of the knowledge that answers now was written: the oldest of any instance.",
            query(f"max(consilium_expert_knowledge_age_seconds{{{EXPERT}}})"),
            steps((None, "text")),
            height=8,
            unit="s",
            fields=none,
        ),
        series(
            "Knowledge reloads",
            "Within an hour. After a failed one the knowledge of before stays.",
            [
                query(
                    f"sum by (result) (increase(consilium_expert_knowledge_reloads_total{{{EXPERT}}}[1h]))",
                    "{{result}}",
                )
            ],
            width=16,
            fields=none,
            unit="none",
            overrides=[colored("failed", "red")],
        ),
        series(
            "Feedback",
            "What callers said about the answers, by metric and value.",
            [
                query(
                    or_zero(rate("consilium_feedback_total", EXPERT, "metric, value"), KNOWN, "metric"),
                    "{{metric}} {{value}}",
                )
            ],
            width=12,
            unit="ops",
        ),
        series(
            "Feedback in numbers",
            "The mean of each metric that is a number, over what callers said at that time.",
            [query(mean("consilium_feedback_number", EXPERT, "metric"), "{{metric}}")],
            fields={"noValue": "no feedback"},
            width=12,
            unit="none",
            legend=["mean", "min"],
        ),
    ]
