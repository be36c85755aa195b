"""The dashboard that finds requests and shows what became of one: in Jaeger and in Tempo, and back to the metrics."""

from __future__ import annotations

from typing import NamedTuple

from panels import (
    JAEGER,
    TEMPO,
    Dashboard,
    Json,
    Panel,
    Row,
    heatmap,
    jaeger_search,
    line,
    link,
    override,
    plain,
    query,
    series,
    table,
    traceql,
)
from promql import ASIDE, COUNTED, FAULTS, box, choice, one_of, others, quantile, quantiles, rate, source

LEG = "consilium_router_leg_duration_seconds"

# The commonest first.
CODES = tuple(dict.fromkeys(["UNAVAILABLE", "DEADLINE_EXCEEDED", *FAULTS.split("|")]))

# The span of a call at a router: of every method, the Open Inference Protocol's and streams among them.
CALL = ("consilium.server=router", 'span.consilium.server = "router"')


class Search(NamedTuple):
    """What is looked for. One span must fit all of it, and is known by its attributes: names differ by method."""

    title: str
    description: str
    tags: str  # for Jaeger
    conditions: str  # for Tempo
    slower: str = ""


SEARCHES = (
    Search("Slow requests", "Took at least the minimum above, as the router saw it.", *CALL, slower="$min"),
    Search(
        "Failed requests",
        "Jaeger is asked for those that ended with the code above, Tempo for all that are counted as the mesh's fault.",
        # Not `error=true`: Jaeger's store in memory (2.13) takes the word for a text, and finds nothing.
        f"{CALL[0]} rpc.response.status_code=$code",
        # A shed is the mesh's fault and not an error of the span, as OpenTelemetry has it.
        f'{CALL[1]} && (status = error || span.rpc.response.status_code = "RESOURCE_EXHAUSTED")',
    ),
    Search(
        "Missed objectives",
        "A leg of the expert above was too slow or failed, which is what burns its error budget.",
        "consilium.slo.met=false consilium.expert.name=$expert",
        'span.consilium.slo.met = false && span.consilium.expert.name = "$expert"',
    ),
    Search(
        "Requests of the expert",
        "In which the expert above had a leg.",
        "consilium.expert.name=$expert",
        'span.consilium.expert.name = "$expert"',
    ),
    Search(
        "Refusals",
        "Queries that the gate took for nobody's subject. Its span says what they were nearest to, and how near.",
        "consilium.gate.outcome=REFUSED",
        'span.consilium.gate.outcome = "REFUSED"',
    ),
    Search(
        "Retries",
        "A second attempt was made, because the first failed or its instance was slow.",
        "consilium.attempt.number=2",
        "span.consilium.attempt.number = 2",
    ),
)


def dashboard() -> Dashboard:
    """Metrics with exemplars first, then one row for each backend, which may be folded away."""
    return Dashboard(
        uid="consilium-traces",
        title="Consilium / Trace explorer",
        description="Slow, failed, refused and retried requests, and the whole way of one of them.",
        tags=["consilium"],
        variables=[
            source("datasource", "Prometheus", "prometheus"),
            source("jaeger", "Jaeger", "jaeger"),
            source("tempo", "Tempo", "tempo"),
            choice(
                "expert",
                "Expert",
                "consilium_slo_objective_ratio",
                "expert",
                description="For the searches that ask for one.",
            ),
            box(
                "service",
                "Service",
                "router",
                "The service whose spans are searched: `router`, or `consilium` for a mesh in one process.",
            ),
            box("min", "Slower than", "200ms", "The least duration of slow requests, such as 200ms or 1.5s."),
            one_of("code", "Code", CODES, "The code of failed requests, for Jaeger."),
            box("trace", "Trace id", "", "The trace that is shown. A click on one found below puts it here."),
        ],
        links=others("consilium-traces"),
        refresh="",
        rows=[
            Row("From metrics to traces", metrics()),
            Row("Jaeger", backend("Jaeger", JAEGER)),
            Row("Tempo", backend("Tempo", TEMPO), folded=True),
        ],
    )


def metrics() -> list[Panel]:
    """Latencies whose exemplars lead to their traces."""
    calls = f'server="router", rpc_method!~"{ASIDE}"'
    expert = 'expert="$expert"'
    return [
        series(
            "Requests",
            "Probes and endless streams left out. Every diamond is one request: point at it and follow `trace_id` to "
            "its trace.",
            quantiles("rpc_server_call_duration_seconds", calls),
            width=12,
            height=9,
            unit="s",
        ),
        series(
            "Legs of the expert",
            "The same for the part of the expert above, with its objective; legs that do not count for it left out.",
            [
                *quantiles(LEG, f"{expert}, {COUNTED}"),
                query(f"max(consilium_slo_latency_seconds{{{expert}}})", "objective"),
            ],
            width=12,
            height=9,
            unit="s",
            overrides=[line("objective")],
        ),
        series(
            "Where the time goes",
            "p95 of each step within the routers.",
            [query(quantile(0.95, "consilium_router_step_duration_seconds", by="step"), "{{step}}", exemplar=True)],
            width=12,
            unit="s",
        ),
        heatmap(
            "Durations",
            "Requests per second by duration; diamonds as above.",
            rate("rpc_server_call_duration_seconds_bucket", calls, "le"),
            width=12,
            unit="s",
            cells="reqps",
        ),
    ]


def backend(name: str, datasource: Json) -> list[Panel]:
    """The searches in one backend, one trace, and who calls whom."""
    found = [
        table(
            f"{search.title} ({name})",
            f"{search.description} A click on an id shows the trace below, one on a time the metrics around it.",
            [_search(name, search)],
            width=12,
            unit="ns",
            height=7,
            fields={"noValue": "none found"},
            overrides=_found(name),
            sort=[{"desc": True, "displayName": "Start time"}],
        )
        for search in SEARCHES
    ]
    one, graph = _trace_and_graph(name, datasource)
    return [
        *found,
        plain(
            "traces",
            f"The trace ({name})",
            "The whole way of the request with the id above. The batch's span is linked to "
            "every request that ran in it.",
            one,
            height=14,
        ),
        plain(
            "nodeGraph",
            f"Who calls whom ({name})",
            "Services and the calls between them. Jaeger makes it from the traces "
            "that it keeps; Tempo needs its metrics generator.",
            graph,
            height=9,
        ),
    ]


def _search(name: str, search: Search) -> Json:
    if name == "Jaeger":
        return jaeger_search("$service", tags=search.tags, slower=search.slower)
    slow = [f"duration > {search.slower}"] if search.slower else []
    conditions = ['resource.service.name = "$service"', search.conditions, *slow]
    return traceql(f"{{ {' && '.join(conditions)} }}")


def _trace_and_graph(name: str, datasource: Json) -> tuple[Json, Json]:
    if name == "Jaeger":
        return {"datasource": datasource, "query": "$trace"}, {"datasource": datasource, "queryType": "dependencyGraph"}
    return (
        {"datasource": datasource, "query": "$trace", "queryType": "traceql", "filters": [], "limit": 20},
        {"datasource": datasource, "query": "", "queryType": "serviceMap", "filters": []},
    )


def _found(name: str) -> list[Json]:
    """The columns of what was found: ids lead to the trace, times to the metrics of ten minutes around."""
    here = "var-datasource=${datasource}&var-jaeger=${jaeger}&var-tempo=${tempo}&var-expert=${expert}"
    here += "&var-service=${service}&var-min=${min}&var-code=${code}"
    shown = link("Show it below", f"/d/consilium-traces?var-trace=${{__value.raw}}&{here}&${{__url_time_range}}")
    mesh, expert = (
        link(
            f"Metrics around it: {title}",
            f"/d/{uid}?var-datasource=${{datasource}}{extra}&time=${{__value.raw}}&time.window=600000",
        )
        for title, uid, extra in (
            ("mesh", "consilium-mesh", ""),
            ("expert", "consilium-expert", "&var-expert=${expert}"),
        )
    )
    unit = "µs" if name == "Jaeger" else "ms"
    return [
        override("/^(traceID|Trace ID)$/", links=[shown]),
        override("/^(startTime|Start time)$/", links=[mesh, expert], unit="dateTimeAsIso"),
        override("/^(duration|traceDuration|Duration)$/", unit=unit),
    ]
