"""What the dashboards ask, for whoever runs it without a Grafana: the picture, and the test of every expression.

Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# What Grafana puts in by itself. It makes rates over four scrapes: a minute at the usual 15 s.
BUILT_IN: Mapping[str, str] = {"__rate_interval": "1m", "__interval": "15s", "__range": "1h", "__range_s": "3600"}

# What the option "All" of a variable is worth.
ALL = "$__all"

_VARIABLE = re.compile(r"\$(?:(?P<bare>\w+)|\{(?P<braced>\w+)(?::(?P<form>\w+))?\})")


def load(path: Path | str) -> Json:
    """The dashboard in a file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def panels(dashboard: Mapping[str, Any]) -> Iterator[Json]:
    """The panels that show something, those of folded rows too, in their order."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def targets(dashboard: Mapping[str, Any], source: str = "prometheus") -> Iterator[tuple[Json, Json]]:
    """Each panel with each of its queries to one type of data source."""
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            if target["datasource"]["type"] == source:
                yield panel, target


def expressions(path: Path | str) -> list[dict[str, str]]:
    """Every PromQL expression of a dashboard: `dashboard`, `panel`, `ref`, `expr`, `kind` (`range` or `instant`).

    The queries behind variables are among them, as `$name` in `panel` and of kind `instant`.
    """
    dashboard = load(path)
    found = [
        {
            "dashboard": dashboard["title"],
            "panel": panel["title"],
            "ref": target["refId"],
            "expr": target["expr"],
            "kind": "instant" if target.get("instant") else "range",
        }
        for panel, target in targets(dashboard)
    ]
    for variable in dashboard["templating"]["list"]:
        selector = re.fullmatch(r"label_values\((.+), *\w+\)", _text(variable.get("query")))
        if variable["type"] == "query" and selector:
            found.append(
                {
                    "dashboard": dashboard["title"],
                    "panel": f"${variable['name']}",
                    "ref": "A",
                    "expr": selector[1],
                    "kind": "instant",
                }
            )
    return found


def defaults(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """What each variable is worth when the dashboard is opened. One that has none yet, like `expert`, is missing."""
    values = {}
    for variable in dashboard["templating"]["list"]:
        value = variable.get("current", {}).get("value")
        if value in (ALL, [ALL]):
            values[variable["name"]] = variable.get("allValue") or ".+"
        elif isinstance(value, str) and (value or variable["type"] == "textbox"):
            values[variable["name"]] = value
    return values


def substitute(expr: str, variables: Mapping[str, str | list[str]]) -> str:
    """The expression with its variables replaced, Grafana's own too (`BUILT_IN`, which `variables` may override).

    Several values become a regular expression. Raises `KeyError` for a variable that nobody gave a value.
    """
    known = {**BUILT_IN, **variables}

    def value(match: re.Match[str]) -> str:
        name = match["bare"] or match["braced"]
        if name not in known:
            raise KeyError(f"${name} has no value in {expr!r}")
        given = known[name]
        if isinstance(given, str):
            return given
        return "(" + "|".join(re.escape(one) for one in given) + ")"

    return _VARIABLE.sub(value, expr)


def _text(query: Any) -> str:
    return query["query"] if isinstance(query, dict) else query or ""
