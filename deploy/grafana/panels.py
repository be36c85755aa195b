"""The parts that dashboards are built of: queries, panels, rows, variables. Nothing here knows what a mesh measures.

Everything becomes Grafana's classic JSON, which every way of importing takes. Written by hand, not with Grafana's typed
builders for Python: those know neither the panel of one trace nor Jaeger's queries, which a third of this is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
JAEGER = {"type": "jaeger", "uid": "${jaeger}"}
TEMPO = {"type": "tempo", "uid": "${tempo}"}

GOOD, WARN, BAD = "green", "orange", "red"
COLUMNS = 24


# Queries


def query(expr: str, legend: str = "", *, exemplar: bool = False) -> Json:
    """PromQL over the range of the dashboard. With `exemplar`, single requests of it stand in the graph as well."""
    return {
        "datasource": PROMETHEUS,
        "editorMode": "code",
        "exemplar": exemplar,
        "expr": expr,
        "format": "time_series",
        "instant": False,
        "legendFormat": legend or "__auto",
        "range": True,
    }


def now(expr: str, legend: str = "", *, table: bool = False) -> Json:
    """PromQL at the end of the range only."""
    shape = {"format": "table" if table else "time_series", "instant": True, "range": False}
    return query(expr, legend) | shape


def buckets(expr: str, *, exemplar: bool) -> Json:
    """A histogram's buckets over the range, for a heatmap."""
    return query(expr, "{{le}}", exemplar=exemplar) | {"format": "heatmap"}


def jaeger_search(service: str, *, tags: str, slower: str = "") -> Json:
    """Traces with a span of this service and tags that took at least as long: all of it true of one span."""
    return {
        "datasource": JAEGER,
        "limit": 20,
        "maxDuration": "",
        "minDuration": slower,
        "operation": "",
        "queryType": "search",
        "service": service,
        "tags": tags,
    }


def traceql(text: str) -> Json:
    """TraceQL, one line a trace."""
    return {
        "datasource": TEMPO,
        "filters": [],
        "limit": 20,
        "query": text,
        "queryType": "traceql",
        "tableType": "traces",
    }


# What a field looks like


def steps(*bounds: tuple[float | None, str]) -> Json:
    """Colours from these values on. The first is the colour below all of them, with `None`."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in bounds]}


def link(title: str, url: str) -> Json:
    """Where a click on a value leads."""
    return {"targetBlank": False, "title": title, "url": url}


def override(name: str, **properties: Any) -> Json:
    """Differences for the fields with that name; `/…/` is a regular expression. `custom_x` is `custom.x`."""
    matcher = "byRegexp" if name.startswith("/") else "byName"
    changes = [{"id": key.replace("custom_", "custom."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": matcher, "options": name}, "properties": changes}


def line(name: str, color: str = "dark-red") -> Json:
    """An override: a bound that others are compared with, dashed and not filled."""
    return override(
        name,
        color={"fixedColor": color, "mode": "fixed"},
        custom_fillOpacity=0,
        custom_lineStyle={"dash": [8, 6], "fill": "dash"},
        custom_lineWidth=2,
        custom_stacking={"group": "A", "mode": "none"},
    )


def colored(name: str, color: str) -> Json:
    """An override: always this colour, because the name means something."""
    return override(name, color={"fixedColor": color, "mode": "fixed"})


def codes() -> list[Json]:
    """Overrides: gRPC's codes in colours. The mesh's own faults are red or orange, the caller's blue."""
    meant = {
        "OK": "green",
        "UNAVAILABLE": "red",
        "INTERNAL": "dark-red",
        "DEADLINE_EXCEEDED": "orange",
        "RESOURCE_EXHAUSTED": "yellow",
        "INVALID_ARGUMENT": "blue",
    }
    return [colored(f"/(^| ){code}$/", color) for code, color in meant.items()]


# Panels


@dataclass(frozen=True)
class Panel:
    """A panel before it has a place."""

    title: str
    description: str
    kind: str
    targets: list[Json]
    width: int
    height: int
    options: Json
    unit: str = "short"
    fields: Json = field(default_factory=dict)
    overrides: list[Json] = field(default_factory=list)
    transformations: list[Json] = field(default_factory=list)

    def placed(self, number: int, x: int, y: int) -> Json:
        """As Grafana reads it."""
        refs = [target | {"refId": chr(ord("A") + at)} for at, target in enumerate(self.targets)]
        placed = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": refs[0]["datasource"],
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "fieldConfig": {"defaults": {"unit": self.unit} | self.fields, "overrides": self.overrides},
            "options": self.options,
            "targets": refs,
        }
        if self.transformations:
            placed["transformations"] = self.transformations
        return placed


def series(title: str, description: str, targets: list[Json], **look: Any) -> Panel:
    """Lines over time. `stacked`, `legend` (what its table calculates), `bounds` (drawn across); else as `Panel`."""
    stacked, legend, bounds = look.pop("stacked", False), look.pop("legend", ["mean", "max"]), look.pop("bounds", None)
    custom = {
        "drawStyle": "line",
        "fillOpacity": 60 if stacked else 8,
        "gradientMode": "none",
        "lineInterpolation": "linear",
        # A stacked series of zeros would lie on top of the others as a line of its own colour.
        "lineWidth": 0 if stacked else 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if bounds else "off"},
    }
    fields = {"color": {"mode": "palette-classic"}, "custom": custom, "min": 0} | look.pop("fields", {})
    if bounds:
        fields["thresholds"] = bounds
    options = {
        "legend": {"calcs": legend, "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    size = {"width": 8, "height": 8}
    return Panel(title, description, "timeseries", targets, options=options, fields=fields, **(size | look))


def stat(title: str, description: str, target: Json, thresholds: Json, **look: Any) -> Panel:
    """One number, coloured by its thresholds, over its course."""
    fields = {"color": {"mode": "thresholds"}, "thresholds": thresholds} | look.pop("fields", {})
    options = {
        "colorMode": "value",
        "graphMode": "none" if target["instant"] else "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
        "wideLayout": True,
    }
    size = {"width": 4, "height": 4}
    return Panel(title, description, "stat", [target], options=options, fields=fields, **(size | look))


def gauge(title: str, description: str, target: Json, thresholds: Json, **look: Any) -> Panel:
    """One share as a dial."""
    fields = {"color": {"mode": "thresholds"}, "max": 1, "min": 0, "thresholds": thresholds} | look.pop("fields", {})
    options = {
        "minVizHeight": 75,
        "minVizWidth": 75,
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showThresholdLabels": False,
        "showThresholdMarkers": True,
        "sizing": "auto",
    }
    size = {"width": 4, "height": 8}
    return Panel(title, description, "gauge", [target], options=options, fields=fields, **(size | look))


def bars(title: str, description: str, target: Json, **look: Any) -> Panel:
    """One bar for each series, longest first as the query sorts them."""
    fields = {"color": {"mode": "continuous-BlPu"}, "min": 0} | look.pop("fields", {})
    options = {
        "displayMode": "gradient",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "auto",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    }
    size = {"width": 8, "height": 8}
    return Panel(title, description, "bargauge", [target], options=options, fields=fields, **(size | look))


def heatmap(title: str, description: str, expr: str, **look: Any) -> Panel:
    """How many observations fell into each bucket, over time."""
    unit = look.pop("unit", "short")
    options = {
        "calculate": False,
        "cellGap": 1,
        "cellValues": {"unit": look.pop("cells", "cps")},
        "color": {"mode": "scheme", "scheme": "Turbo", "steps": 64, "scale": "exponential", "exponent": 0.5},
        "exemplars": {"color": "rgba(255,255,255,0.9)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "showColorScale": True, "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    fields = {"custom": {"scaleDistribution": {"type": "linear"}}}
    look = {"width": 8, "height": 8, "unit": unit, "options": options, "fields": fields} | look
    return Panel(title, description, "heatmap", [buckets(expr, exemplar=unit == "s")], **look)


def table(title: str, description: str, targets: list[Json], **look: Any) -> Panel:
    """Rows and columns."""
    custom = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False, "inspect": False}
    fields = {"custom": custom, "thresholds": steps((None, "text"))} | look.pop("fields", {})
    sort = look.pop("sort", [])
    options = {"cellHeight": "sm", "footer": {"countRows": False, "fields": "", "reducer": ["sum"], "show": False}}
    options |= {"showHeader": True, "sortBy": sort}
    size = {"width": 24, "height": 8}
    return Panel(title, description, "table", targets, options=options, fields=fields, **(size | look))


def plain(kind: str, title: str, description: str, target: Json, **look: Any) -> Panel:
    """A panel that has nothing to set: of one trace, of a graph of services."""
    return Panel(title, description, kind, [target], **({"width": 24, "height": 12, "options": {}} | look))


# The whole


@dataclass(frozen=True)
class Row:
    """Panels under a heading, laid out from left to right."""

    title: str
    panels: list[Panel]
    folded: bool = False


@dataclass(frozen=True)
class Dashboard:
    """A dashboard before it is laid out."""

    uid: str
    title: str
    description: str
    tags: list[str]
    variables: list[Json]
    links: list[Json]
    rows: list[Row]
    annotations: list[Json] = field(default_factory=list)
    refresh: str = "10s"

    def classic(self) -> Json:
        """Grafana's classic JSON."""
        self._check()
        panels: list[Json] = []
        number, y = 0, 0
        for row in self.rows:
            number += 1
            heading = {"id": number, "type": "row", "title": row.title, "collapsed": row.folded, "panels": []}
            heading["gridPos"] = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
            placed, number, y = _flow(row.panels, number, y + 1)
            if row.folded:
                heading["panels"] = placed
                y = heading["gridPos"]["y"] + 1
                placed = []
            panels += [heading, *placed]
        return {
            "annotations": {"list": [_BUILT_IN_ANNOTATIONS, *self.annotations]},
            "description": self.description,
            "editable": False,
            "fiscalYearStartMonth": 0,
            "graphTooltip": 1,
            "id": None,
            "links": self.links,
            "panels": panels,
            "preload": False,
            "refresh": self.refresh,
            "schemaVersion": 39,
            "tags": self.tags,
            "templating": {"list": self.variables},
            "time": {"from": "now-1h", "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "title": self.title,
            "uid": self.uid,
            "version": 1,
            "weekStart": "",
        }

    def _check(self) -> None:
        """Raises `ValueError` for what a reader would stumble over."""
        panels = [panel for row in self.rows for panel in row.panels]
        titles = [row.title for row in self.rows] + [panel.title for panel in panels]
        if twice := sorted({title for title in titles if titles.count(title) > 1}):
            raise ValueError(f"{self.title}: titles that are there twice: {', '.join(twice)}")
        if silent := [panel.title for panel in panels if not panel.description]:
            raise ValueError(f"{self.title}: panels without a description: {', '.join(silent)}")


def _flow(panels: list[Panel], number: int, y: int) -> tuple[list[Json], int, int]:
    """The panels side by side, a new line where one does not fit; with them the last number and the first free line."""
    placed, x, tallest = [], 0, 0
    for panel in panels:
        if x + panel.width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        number += 1
        placed.append(panel.placed(number, x, y))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return placed, number, y + tallest


_BUILT_IN_ANNOTATIONS = {
    "builtIn": 1,
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
    "name": "Annotations & Alerts",
    "type": "dashboard",
}
