#!/usr/bin/env python3
r"""Draws a dashboard as a picture, from the same queries and the same JSON, without a Grafana.

For the documentation, and to see that every panel shows something. Folded rows are left folded. Needs requirements.txt.

draw.py dashboards/expert.json --prometheus http://127.0.0.1:9090 --jaeger http://127.0.0.1:16686 \
    --from now-15m --var expert=general --out expert.png
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from datetime import datetime
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure

import pictures
import queries
from pictures import Frame, Json, Line, Lines
from sources import Jaeger, Prometheus, Range

WIDTH, UNIT, GAP, HEADING, DPI = 1500, 38, 8, 64, 100
EXEMPLARS = 60  # as many as can be told apart
AGO = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Drawing:
    """One dashboard over one range, with the values of its variables."""

    def __init__(
        self, dashboard: Json, span: Range, variables: dict[str, str], backends: tuple[Prometheus, Jaeger | None]
    ) -> None:
        self.dashboard = dashboard
        self.span = span
        self.variables = queries.defaults(dashboard) | variables
        self.prometheus, self.jaeger = backends
        self.empty: list[str] = []

    def figure(self) -> Figure:
        """The whole picture. What had nothing to show stands in `empty` afterwards."""
        visible = self.dashboard["panels"]
        units = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in visible)
        height = HEADING + units * UNIT + GAP
        figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor=pictures.PAGE)
        figure.text(
            12 / WIDTH,
            1 - 24 / height,
            self.dashboard["title"],
            color=pictures.TEXT,
            size=14,
            weight="bold",
            va="center",
        )
        figure.text(12 / WIDTH, 1 - 48 / height, self._caption(), color=pictures.FAINT, size=8, va="center")
        for panel in visible:
            place = panel["gridPos"]
            column = (WIDTH - GAP) / 24
            x, y = GAP + place["x"] * column, HEADING + place["y"] * UNIT
            if panel["type"] == "row":
                fold = "▸" if panel["collapsed"] else "▾"
                text = f"{fold}  {panel['title']}"
                figure.text(x / WIDTH, 1 - (y + UNIT / 2) / height, text, color=pictures.TEXT, size=10, va="center")
                continue
            frame = Frame(figure, (x, y, place["w"] * column - GAP, place["h"] * UNIT - GAP), panel["title"])
            self._panel(frame, panel)
        return figure

    def _caption(self) -> str:
        hours = [
            datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")
            for at in (self.span.start, self.span.end)
        ]
        shown = [
            variable["name"] for variable in self.dashboard["templating"]["list"] if variable["type"] != "datasource"
        ]
        values = [f"{name}: {self.variables.get(name) or '(none)'}" for name in shown]
        return "    ".join([" to ".join(hours), *values]).replace(": .+", ": All")

    def _panel(self, frame: Frame, panel: Json) -> None:
        kind = panel["type"]
        if kind in ("traces", "nodeGraph") or panel["targets"][0]["datasource"]["type"] == "jaeger":
            found = self._traced(frame, panel)
        elif kind == "table":
            columns, rows = self._rows(panel)
            pictures.table(frame, panel, columns, rows)
            found = bool(rows)
        else:
            shown = self._lines(panel)
            getattr(pictures, kind)(frame, panel, shown, self.span)
            found = any(line.values for line in shown.lines)
        if not found:
            self.empty.append(panel["title"])

    def _traced(self, frame: Frame, panel: Json) -> bool:
        target = {
            key: self._put(value) if isinstance(value, str) else value for key, value in panel["targets"][0].items()
        }
        if self.jaeger is None or target["datasource"]["type"] != "jaeger":
            return _drawn(frame, panel, pictures.table, [], [])
        if panel["type"] == "traces":
            spans = self.jaeger.trace(target["query"]) if target["query"] else []
            pictures.trace(frame, panel, spans)
            return bool(spans)
        if panel["type"] == "nodeGraph":
            calls = self.jaeger.dependencies(self.span)
            pictures.graph(frame, panel, calls)
            return bool(calls)
        rows = self.jaeger.search(target, self.span)
        return _drawn(frame, panel, pictures.table, ["Trace ID", "Trace name", "Start time", "Duration"], rows)

    def _lines(self, panel: Json) -> Lines:
        lines, exemplars = [], []
        for target in panel["targets"]:
            expr = self._put(target["expr"])
            if target["instant"]:
                found = [
                    (labels, [self.span.end], [value]) for labels, value in self.prometheus.at(expr, self.span.end)
                ]
            else:
                found = self.prometheus.over(expr, self.span)
            lines += [Line(_named(target, labels), times, values) for labels, times, values in found]
            if target["exemplar"]:
                exemplars += self.prometheus.exemplars(expr, self.span)
        every = max(1, len(exemplars) // EXEMPLARS)
        return Lines(lines, sorted(exemplars)[::every])

    def _rows(self, panel: Json) -> tuple[list[str], list[Json]]:
        """Several queries as one table, as Grafana's `merge` and `organize` make it."""
        rows: list[Json] = []
        for target in panel["targets"]:
            column = f"Value #{target['refId']}" if len(panel["targets"]) > 1 else "Value"
            for labels, value in self.prometheus.at(self._put(target["expr"]), self.span.end):
                fits = [row for row in rows if column not in row and all(row.get(key) == labels[key] for key in labels)]
                for row in fits:
                    row[column] = value
                if not fits:
                    rows.append({**labels, column: value})
        change = next(one["options"] for one in panel["transformations"] if one["id"] == "organize")
        order, names, hidden = change["indexByName"], change["renameByName"], change["excludeByName"]
        keys = sorted({key for row in rows for key in row if not hidden.get(key)}, key=lambda key: order.get(key, 99))
        shown = [{names.get(key, key): row[key] for key in keys if key in row} for row in rows]
        for sort in panel["options"]["sortBy"]:
            shown.sort(key=lambda row: row.get(sort["displayName"], 0), reverse=sort["desc"])
        return [names.get(key, key) for key in keys], shown

    def _put(self, text: str) -> str:
        return queries.substitute(text, self.variables)


def main() -> int:
    """The exit code: 1 when a panel had nothing to show and all were wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dashboard", type=Path)
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--jaeger", metavar="URL", help="without it the panels of traces stay empty")
    parser.add_argument(
        "--from", dest="start", default="now-1h", metavar="TIME", help="Unix seconds, ISO 8601, or now-15m"
    )
    parser.add_argument("--to", dest="end", default="now", metavar="TIME")
    parser.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="also __rate_interval")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")
    parser.add_argument("--full", action="store_true", help="fail when a panel has no data")
    arguments = parser.parse_args()

    start, end = (_time(text) for text in (arguments.start, arguments.end))
    span = Range(start, end, max(5.0, round((end - start) / 240)))
    variables = dict(one.split("=", 1) for one in arguments.var)
    backends = (Prometheus(arguments.prometheus), Jaeger(arguments.jaeger) if arguments.jaeger else None)
    drawing = Drawing(queries.load(arguments.dashboard), span, variables, backends)
    drawing.figure().savefig(arguments.out, facecolor=pictures.PAGE, metadata={"Software": None})
    for title in drawing.empty:
        print(f"no data: {title}", file=sys.stderr)
    return 1 if arguments.full and drawing.empty else 0


def _drawn(frame: Frame, panel: Json, draw: object, columns: list[str], rows: list[Json]) -> bool:
    draw(frame, panel, columns, rows)
    return bool(rows)


def _named(target: Json, labels: dict[str, str]) -> str:
    """The legend of a series: its format with the labels put in, or all labels."""
    form = target["legendFormat"]
    if form == "__auto":
        return " ".join(value for key, value in labels.items() if key != "__name__")
    return re.sub(r"\{\{ *(\w+) *\}\}", lambda match: labels.get(match[1], ""), form).strip()


def _time(text: str) -> float:
    if text.startswith("now"):
        match = re.fullmatch(r"now(?:-(\d+)([smhd]))?", text)
        if not match:
            raise SystemExit(f"not a time: {text}")
        return time.time() - (int(match[1]) * AGO[match[2]] if match[1] else 0)
    return float(text) if re.fullmatch(r"[\d.]+", text) else datetime.fromisoformat(text).timestamp()


if __name__ == "__main__":
    sys.exit(main())
