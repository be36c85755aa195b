"""How the dashboards put PromQL together, and what they share: selectors, links, variables."""

from __future__ import annotations

from panels import PROMETHEUS, Json, link, query

INTERVAL = "[$__rate_interval]"

# The instance of an expert that a router's metric is about; `instance` is what Prometheus calls the process it scraped.
CALLED = "expert_instance"

# Calls that are no queries: probes, of which there are always some and all well, so that a share of faults looks
# smaller than callers find it; and streams that last as long as the caller likes, whose duration says nothing.
ASIDE = "grpc[.](health|reflection)[.].+|.+/(ServerLive|ServerReady|ModelReady|WatchExperts|ModelStreamInfer)"

# Legs that are held against the objective. The others, a caller's mistake or a caller who left, may be of any length.
COUNTED = 'slo!="uncounted"'

# Codes that are the mesh's fault, as OpenTelemetry has it for servers, and the one for calls that it had no room for.
FAULTS = "UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|RESOURCE_EXHAUSTED"

# How fast a month's error budget may burn: used up in a month, 10 days, 5 days, 2 days. The alerts start at these.
BURNS = (1, 3, 6, 14.4)


def rate(counter: str, matchers: str = "", by: str = "") -> str:
    """Per second, summed over everything but `by`."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({counter}{_braces(matchers)}{INTERVAL}))"


def share(part: str, whole: str, *, rare: bool = False) -> str:
    """`part` of `whole`, and nothing where there is no whole. Both are rates of the same labels.

    With `rare` the share is zero while `part` has never been counted.
    """
    return f"({part} or 0 * {whole}) / ({whole} > 0)" if rare else f"({part}) / ({whole} > 0)"


def or_zero(expr: str, scraped: str, label: str = "", name: str = "none") -> str:
    """Zero while `expr` has no series but `scraped` has, called `name` by its `label`.

    For what gets its labels when it first happens. A zero that were always there would take silence for good news.
    """
    zero = f"0 * max({scraped})"
    return f"{expr} or on () " + (f'label_replace({zero}, "{label}", "{name}", "", "")' if label else zero)


def or_zero_each(expr: str) -> str:
    """Zero for each expert that has a card and nothing in `expr`."""
    return f"{expr} or 0 * max by (expert) (consilium_slo_objective_ratio)"


def burn(window: str, matchers: str = "") -> str:
    """How many times faster than affordable the error budget was burnt over that window, by expert; a recorded rule."""
    ours = _braces(matchers)
    return (
        f"max by (expert) (slo:sli_error:ratio_rate{window}{ours}"
        f" / on (sloth_id, sloth_service, sloth_slo) group_left () slo:error_budget:ratio{ours})"
    )


def quantile(q: float, histogram: str, matchers: str = "", by: str = "", join: str = "") -> str:
    """The quantile of a histogram, by these labels. `join` restricts the series, see `of_expert` in `expert.py`."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{_braces(matchers)}{INTERVAL}){join}))"


def mean(histogram: str, matchers: str = "", by: str = "", join: str = "") -> str:
    """The mean of a histogram, by these labels."""
    grouping = f" by ({by})" if by else ""
    total, count = (
        f"sum{grouping} (rate({histogram}_{of}{_braces(matchers)}{INTERVAL}){join})" for of in ("sum", "count")
    )
    return share(total, count)


def quantiles(histogram: str, matchers: str = "", join: str = "", *, exemplars: bool = True) -> list[Json]:
    """Median, p95 and p99. The exemplars hang on one of them, or each would be drawn three times."""
    return [
        query(quantile(0.5, histogram, matchers, join=join), "p50"),
        query(quantile(0.95, histogram, matchers, join=join), "p95"),
        query(quantile(0.99, histogram, matchers, join=join), "p99", exemplar=exemplars),
    ]


def source(name: str, label: str, kind: str) -> Json:
    """A variable that is a data source of that kind."""
    return {
        "current": {},
        "hide": 0,
        "includeAll": False,
        "label": label,
        "multi": False,
        "name": name,
        "options": [],
        "query": kind,
        "refresh": 1,
        "regex": "",
        "type": "datasource",
    }


def choice(name: str, label: str, series: str, key: str, *, several: bool = False, description: str = "") -> Json:
    """A variable that is one of the values of a label; `several`: any number of them, all at first."""
    asked = f"label_values({series}, {key})"
    made = {
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]} if several else {},
        "datasource": PROMETHEUS,
        "definition": asked,
        "description": description,
        "hide": 0,
        "includeAll": several,
        "label": label,
        "multi": several,
        "name": name,
        "options": [],
        "query": {"qryType": 1, "query": asked, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "type": "query",
    }
    return made | ({"allValue": ".+"} if several else {})


def box(name: str, label: str, value: str, description: str) -> Json:
    """A variable that is typed in."""
    return {
        "current": {"selected": True, "text": value, "value": value},
        "description": description,
        "hide": 0,
        "label": label,
        "name": name,
        "options": [{"selected": True, "text": value, "value": value}],
        "query": value,
        "type": "textbox",
    }


def one_of(name: str, label: str, values: tuple[str, ...], description: str) -> Json:
    """A variable that is one of these values, the first at the beginning."""
    options = [{"selected": at == 0, "text": value, "value": value} for at, value in enumerate(values)]
    return {
        "current": options[0],
        "description": description,
        "hide": 0,
        "includeAll": False,
        "label": label,
        "multi": False,
        "name": name,
        "options": options,
        "query": ",".join(values),
        "type": "custom",
    }


def to_expert() -> Json:
    """From a series of one expert to that expert's dashboard, at the same time."""
    here = "var-datasource=${datasource}&${__url_time_range}"
    return link(
        "${__field.labels.expert} in detail", f"/d/consilium-expert?var-expert=${{__field.labels.expert}}&{here}"
    )


def others(own: str) -> list[Json]:
    """The links at the top to the other two dashboards, which take the time and the variables along."""
    return [
        {
            "asDropdown": False,
            "icon": "dashboard",
            "includeVars": True,
            "keepTime": True,
            "tags": [],
            "targetBlank": False,
            "title": title,
            "tooltip": tooltip,
            "type": "link",
            "url": f"/d/{uid}",
        }
        for uid, title, tooltip in (
            ("consilium-mesh", "Mesh", "Is the mesh well?"),
            ("consilium-expert", "Expert", "What is the matter with one expert?"),
            ("consilium-traces", "Trace explorer", "What happened to one request?"),
        )
        if uid != own
    ]


def burn_alerts(matchers: str = "") -> Json:
    """Marks the times when an objective's alert fired."""
    named = 'alertname="ConsiliumSloBurn", alertstate="firing"'
    return {
        "datasource": PROMETHEUS,
        "enable": True,
        "expr": f"max by (expert, severity) (ALERTS{_braces(', '.join(filter(None, (named, matchers))))})",
        "hide": False,
        "iconColor": "red",
        "name": "Objective in danger",
        "titleFormat": "{{expert}} burns its error budget ({{severity}})",
    }


def _braces(matchers: str) -> str:
    return f"{{{matchers}}}" if matchers else ""
