"""Where a picture's numbers come from: the query APIs of Prometheus and of Jaeger. Standard library only."""

from __future__ import annotations

import json
import math
import shlex
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Span:
    """A span of a trace, times in seconds from the trace's beginning."""

    service: str
    name: str
    depth: int
    start: float
    duration: float
    failed: bool


@dataclass(frozen=True)
class Range:
    """A range of time in Unix seconds, and how far apart its points are."""

    start: float
    end: float
    step: float


class Prometheus:
    """Asks a Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def over(self, expr: str, span: Range) -> list[tuple[dict[str, str], list[float], list[float]]]:
        """Each series' labels, times and values."""
        asked = {"query": expr, "start": span.start, "end": span.end, "step": span.step}
        found = self._get("query_range", asked)["result"]
        return [
            (one["metric"], [at for at, _ in one["values"]], [_number(value) for _, value in one["values"]])
            for one in found
        ]

    def at(self, expr: str, time: float) -> list[tuple[dict[str, str], float]]:
        """Each series' labels and value."""
        found = self._get("query", {"query": expr, "time": time})
        if found["resultType"] == "scalar":
            return [({}, _number(found["result"][1]))]
        return [(one["metric"], _number(one["value"][1])) for one in found["result"]]

    def exemplars(self, expr: str, span: Range) -> list[tuple[float, float]]:
        """Times and values of the single observations that were kept with a trace."""
        asked = {"query": expr, "start": span.start, "end": span.end}
        found = [one for series in self._get("query_exemplars", asked) for one in series["exemplars"]]
        return [(one["timestamp"], _number(one["value"])) for one in found if "trace_id" in one["labels"]]

    def _get(self, path: str, asked: Json) -> Any:
        answer = _read(f"{self._url}/api/v1/{path}", asked)
        if answer["status"] != "success":
            raise RuntimeError(f"{answer.get('error')}: {asked['query']}")
        return answer["data"]


class Jaeger:
    """Asks the query API that Jaeger's own page uses."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def search(self, target: Json, span: Range) -> list[Json]:
        """One row a trace, as Grafana's table has them."""
        tags = dict(word.split("=", 1) for word in shlex.split(target["tags"]))
        asked = {
            "service": target["service"],
            "operation": target["operation"],
            "limit": target["limit"],
            "start": int(span.start * 1e6),
            "end": int(span.end * 1e6),
            "minDuration": target["minDuration"],
            "tags": json.dumps(tags) if tags else "",
        }
        found = (
            _read(f"{self._url}/api/traces", {key: value for key, value in asked.items() if value != ""})["data"] or []
        )
        rows = []
        for trace in found:
            spans = _spans(trace)
            if spans:
                start = min(one["startTime"] for one in trace["spans"])
                rows.append(
                    {
                        "Trace ID": trace["traceID"],
                        "Trace name": f"{spans[0].service}: {spans[0].name}",
                        "Start time": start / 1e3,
                        "Duration": max(one["startTime"] + one["duration"] for one in trace["spans"]) - start,
                    }
                )
        return sorted(rows, key=lambda row: -row["Start time"])

    def trace(self, identity: str) -> list[Span]:
        """The spans of a trace as they are called, from the outermost in."""
        try:
            found = _read(f"{self._url}/api/traces/{urllib.parse.quote(identity)}", {})["data"]
        except urllib.error.HTTPError:
            return []
        return _spans(found[0]) if found else []

    def dependencies(self, span: Range) -> list[tuple[str, str, int]]:
        """Who calls whom, and how often."""
        asked = {"endTs": int(span.end * 1e3), "lookback": int((span.end - span.start) * 1e3)}
        found = _read(f"{self._url}/api/dependencies", asked)["data"] or []
        return [(one["parent"], one["child"], one["callCount"]) for one in found]


def _spans(trace: Json) -> list[Span]:
    known = {one["spanID"]: one for one in trace["spans"]}
    children: dict[str, list[Json]] = {}
    for one in trace["spans"]:
        # A span that is linked to its parent too, as batches are, has only the link in Jaeger's answer.
        above = next(
            (
                ref["spanID"]
                for kind in ("CHILD_OF", "FOLLOWS_FROM")
                for ref in one["references"]
                if ref["refType"] == kind
            ),
            "",
        )
        children.setdefault(above if above in known else "", []).append(one)
    start = min((one["startTime"] for one in trace["spans"]), default=0)
    spans: list[Span] = []

    def walk(above: str, depth: int) -> None:
        for one in sorted(children.get(above, []), key=lambda one: one["startTime"]):
            service = trace["processes"][one["processID"]]["serviceName"]
            tags = {tag["key"]: tag["value"] for tag in one["tags"]}
            times = ((one["startTime"] - start) / 1e6, one["duration"] / 1e6)
            spans.append(Span(service, one["operationName"], depth, *times, bool(tags.get("error"))))
            walk(one["spanID"], depth + 1)

    walk("", 0)
    return spans


def _read(url: str, asked: Json) -> Any:
    # As a form in the address: Jaeger takes no other, and Prometheus takes it for expressions of this length.
    address = f"{url}?{urllib.parse.urlencode(asked)}" if asked else url
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as failure:
        if failure.code == 404:
            raise
        raise RuntimeError(f"{failure.code} from {url}: {failure.read(500).decode(errors='replace')}") from failure


def _number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else math.nan
