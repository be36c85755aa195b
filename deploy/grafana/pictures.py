"""Draws one panel as Grafana's dark theme does, near enough to be read the same way. Asks nobody for numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from sources import Range, Span
from units import written

Json = dict[str, Any]

PAGE, PANEL, EDGE, GRID, TEXT, FAINT = "#111217", "#181b1f", "#2c3235", "#2a2e33", "#ccccdc", "#8e8e9b"
COLORS = {
    "green": "#73bf69", "yellow": "#fade2a", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2",
    "dark-red": "#c4162a", "text": TEXT,
}  # fmt: skip
PALETTE = (
    "#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#5794f2", "#ba43a9", "#9588d1", "#508642", "#cca300",
    "#447ebc", "#c15c17", "#e5a8e2", "#aea2e0", "#9ac48a", "#f2c96d", "#65c5db", "#f9934e", "#ea6460", "#5195ce",
)  # fmt: skip
LINE = 15  # height of a line of text in pixels
SMALL = 7.2


@dataclass
class Line:
    """A series: its name, times and values."""

    name: str
    times: Sequence[float]
    values: Sequence[float]


@dataclass
class Lines:
    """What a panel of series or of single numbers shows."""

    lines: list[Line]
    exemplars: list[tuple[float, float]] = field(default_factory=list)


class Frame:
    """A rectangle of the picture in pixels from the top left, with the panel's border and title drawn."""

    def __init__(self, figure: Figure, box: tuple[float, float, float, float], title: str) -> None:
        self.figure = figure
        self.x, self.y, self.width, self.height = box
        self.whole_width, self.whole_height = figure.get_size_inches() * figure.dpi
        border = FancyBboxPatch(
            (self.x / self.whole_width, 1 - (self.y + self.height) / self.whole_height),
            self.width / self.whole_width,
            self.height / self.whole_height,
            boxstyle="square,pad=0",
            facecolor=PANEL,
            edgecolor=EDGE,
            linewidth=0.8,
            transform=figure.transFigure,
            zorder=-1,
        )
        figure.add_artist(border)
        self.text(10, 8, title, color=TEXT, weight="bold", size=8.5)

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Text whose top left is there, in pixels from the panel's."""
        place = ((self.x + x) / self.whole_width, 1 - (self.y + y) / self.whole_height)
        defaults = {"color": TEXT, "size": SMALL, "va": "top", "ha": "left"}
        self.figure.text(*place, text, **(defaults | style))

    def axes(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """Axes with these margins in pixels."""
        width, height = max(self.width - left - right, 10), max(self.height - top - bottom, 10)
        box = (
            (self.x + left) / self.whole_width,
            1 - (self.y + top + height) / self.whole_height,
            width / self.whole_width,
            height / self.whole_height,
        )
        axes = self.figure.add_axes(box, facecolor="none")
        axes.tick_params(colors=FAINT, labelsize=SMALL, length=0, pad=3)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes


def looks(panel: Json, name: str) -> Json:
    """The properties of a series or a column of that name: the panel's own, then its overrides."""
    found = dict(panel["fieldConfig"]["defaults"])
    found["custom"] = dict(found.get("custom", {}))
    for change in panel["fieldConfig"]["overrides"]:
        wanted = change["matcher"]["options"]
        if re.search(wanted.strip("/"), name) if change["matcher"]["id"] == "byRegexp" else wanted == name:
            for one in change["properties"]:
                if one["id"].startswith("custom."):
                    found["custom"][one["id"].removeprefix("custom.")] = one["value"]
                else:
                    found[one["id"]] = one["value"]
    return found


def graded(value: float, look: Json) -> str:
    """The colour that the thresholds give a value."""
    color = "text"
    for step in look.get("thresholds", {}).get("steps", []):
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    return COLORS[color]


def timeseries(frame: Frame, panel: Json, shown: Lines, span: Range) -> None:
    """Lines or stacked areas, a legend with its calculations, bounds and exemplars."""
    calcs = panel["options"]["legend"]["calcs"]
    rows = min(len(shown.lines), max(1, int((frame.height - 130) // LINE)))
    axes = frame.axes(58, 32, 14, 34 + (rows + 1) * LINE)
    _over_time(axes, span)
    if not shown.lines:
        return _nothing(frame, panel)
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    floor: np.ndarray | None = None
    colors = []
    for at, line in enumerate(shown.lines):
        look = looks(panel, line.name)
        color = COLORS.get(look.get("color", {}).get("fixedColor", ""), PALETTE[at % len(PALETTE)])
        colors.append(color)
        values = np.array(line.values, dtype=float)
        dashes = (
            (0, tuple(look["custom"].get("lineStyle", {}).get("dash", ()))[:2])
            if "lineStyle" in look["custom"]
            else "-"
        )
        if stacked:
            times, values = _on_grid(line, span)
            floor = np.zeros_like(values) if floor is None else floor
            axes.fill_between(times, floor, floor + values, color=color, alpha=0.6, linewidth=0)
            floor = floor + values
        else:
            marker = "o" if len(values) == 1 else ""
            style = {"linewidth": 1.6 if dashes != "-" else 1.1, "marker": marker, "markersize": 3}
            axes.plot(line.times, values, color=color, linestyle=dashes, **style)
            if look["custom"].get("fillOpacity") and look["min"] is not None:
                axes.fill_between(line.times, 0, values, color=color, alpha=0.08, linewidth=0)
    _bound(axes, panel)
    top = axes.get_ylim()[1]
    if shown.exemplars:
        times, values = zip(*shown.exemplars, strict=True)
        axes.scatter(times, values, marker="D", s=9, color="#5794f2", edgecolors="#d8e6ff", linewidths=0.4, zorder=5)
        top = max(top, max(values) * 1.05)
    highest = max((value for line in shown.lines for value in line.values if not math.isnan(value)), default=0)
    if panel["fieldConfig"]["defaults"]["min"] is not None:
        axes.set_ylim(0, top if highest > 0 else 1)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.yaxis.set_major_locator(_ticks(5))
    axes.yaxis.set_major_formatter(lambda value, _: written(value, unit))
    return _legend(frame, panel, shown.lines[:rows], colors, calcs, hidden=len(shown.lines) - rows)


def stat(frame: Frame, panel: Json, shown: Lines, span: Range) -> None:
    """One number, large, over its course."""
    values = [value for line in shown.lines[:1] for value in line.values if not math.isnan(value)]
    if not values:
        return _nothing(frame, panel)
    look = looks(panel, shown.lines[0].name)
    color = graded(values[-1], look)
    text = written(values[-1], look["unit"], look.get("decimals"))
    for mapping in look.get("mappings", []):
        named = mapping["options"].get(f"{values[-1]:g}")
        text, color = (named["text"], COLORS[named["color"]]) if named else (text, color)
    if panel["options"]["graphMode"] == "area" and len(values) > 1:
        axes = frame.axes(2, frame.height * 0.6, 2, 2)
        axes.set_axis_off()
        axes.fill_between(shown.lines[0].times, 0, shown.lines[0].values, color=color, alpha=0.18, linewidth=0)
        axes.plot(shown.lines[0].times, shown.lines[0].values, color=color, linewidth=1)
        axes.set_xlim(span.start, span.end)
        axes.set_ylim(0, max(max(values) * 1.4, 1e-9))
    frame.text(
        frame.width / 2, frame.height / 2 + 4, text, color=color, size=19, ha="center", va="center", weight="bold"
    )
    return None


def gauge(frame: Frame, panel: Json, shown: Lines, _span: Range) -> None:
    """A share as an arc."""
    values = [value for line in shown.lines[:1] for value in line.values if not math.isnan(value)]
    if not values:
        return _nothing(frame, panel)
    look = looks(panel, "")
    axes = frame.axes(20, 30, 20, 4)
    axes.set_axis_off()
    axes.set_aspect("equal")
    low, high = look.get("min", 0), look.get("max", 1)
    share = min(max((values[-1] - low) / (high - low), 0), 1)
    size = min(frame.width, frame.height) / 190
    for until, color in ((1.0, GRID), (share, graded(values[-1], look))):
        angle = np.linspace(math.radians(210), math.radians(210 - 240 * until), 90)
        axes.plot(np.cos(angle), np.sin(angle), color=color, linewidth=9 * size, solid_capstyle="butt")
    axes.set_xlim(-1.25, 1.25)
    axes.set_ylim(-0.8, 1.25)
    color = graded(values[-1], look)
    axes.text(
        0,
        0,
        written(values[-1], look["unit"], look.get("decimals")),
        color=color,
        size=16 * size,
        ha="center",
        va="center",
    )
    return None


def bargauge(frame: Frame, panel: Json, shown: Lines, _span: Range) -> None:
    """A bar for each series."""
    if not shown.lines:
        return _nothing(frame, panel)
    rows = [(line.name, line.values[-1]) for line in shown.lines if line.values]
    room = max(1, int((frame.height - 40) // 22))
    rows = rows[:room]
    top = max((value for _, value in rows), default=0) or 1
    label = frame.width * 0.42
    for at, (name, value) in enumerate(rows):
        y = 36 + at * 22
        frame.text(12, y + 3, _cut(name, label - 20))
        axes = frame.axes(label, y, 90, frame.height - y - 16)
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.add_patch(Rectangle((0, 0), 1, 1, color=GRID, linewidth=0))
        axes.add_patch(Rectangle((0, 0), value / top, 1, color=COLORS["blue"], alpha=0.8, linewidth=0))
        unit = panel["fieldConfig"]["defaults"]["unit"]
        frame.text(frame.width - 84, y + 3, written(value, unit), color=COLORS["blue"])
    return None


def heatmap(frame: Frame, panel: Json, shown: Lines, span: Range) -> None:
    """Buckets of a histogram over time; the lines are cumulative, as Prometheus has them, each with its upper bound."""
    lines = sorted((line for line in shown.lines), key=lambda line: float(line.name.replace("+Inf", "inf")))
    if not lines:
        return _nothing(frame, panel)
    axes = frame.axes(58, 32, 14, 30)
    _over_time(axes, span)
    grid = np.array([_on_grid(line, span)[1] for line in lines])
    cells = np.clip(np.diff(grid, axis=0, prepend=0), 0, None)
    used = np.flatnonzero(cells.sum(axis=1) > 0)
    low, high = (used[0], used[-1] + 1) if len(used) else (0, len(lines))
    cells = np.ma.masked_less_equal(cells[low:high], 1e-9)
    times = _on_grid(lines[0], span)[0]
    edges = np.append(times, times[-1] + span.step) if len(times) else np.array([span.start, span.end])
    axes.pcolormesh(edges, np.arange(high - low + 1), np.sqrt(cells), cmap="turbo", linewidth=0, shading="flat")
    unit = panel["options"]["yAxis"]["unit"]
    bounds = [lines[at].name for at in range(low, high)]
    every = max(1, len(bounds) // 8)
    axes.set_yticks([at + 1 for at in range(0, len(bounds), every)])
    axes.set_yticklabels([_bucket(bounds[at], unit) for at in range(0, len(bounds), every)])
    uppers = [float(bound.replace("+Inf", "inf")) for bound in bounds]
    below = float(lines[low - 1].name) if low else 0.0
    marks = [(time, _height(value, below, uppers)) for time, value in shown.exemplars]
    if marks:
        axes.scatter(
            *zip(*marks, strict=True), marker="D", s=8, color="white", edgecolors="black", linewidths=0.4, zorder=5
        )
    axes.set_ylim(0, high - low)
    return None


def table(frame: Frame, panel: Json, columns: list[str], rows: list[Json]) -> None:
    """Rows and columns."""
    if not rows:
        return _nothing(frame, panel)
    plain = [max(len(column), *(len(_cell(panel, column, row)) for row in rows)) for column in columns]
    scale = (frame.width - 24) / sum(plain)
    lefts = [12 + scale * sum(plain[:at]) for at in range(len(columns))]
    for column, left in zip(columns, lefts, strict=True):
        frame.text(left, 34, column, color=COLORS["blue"], weight="bold")
    room = int((frame.height - 62) // 22)
    for at, row in enumerate(rows[:room]):
        for column, left, share in zip(columns, lefts, plain, strict=True):
            look, text = looks(panel, column), _cell(panel, column, row)
            kind = look["custom"].get("cellOptions", {}).get("type")
            value = row.get(column, math.nan)
            color = graded(value, look) if kind in ("color-text", "gauge") and not isinstance(value, str) else TEXT
            if kind == "gauge" and not isinstance(value, str) and not math.isnan(value):
                axes = frame.axes(
                    left, 58 + at * 22, frame.width - left - share * scale + 64, frame.height - 72 - at * 22
                )
                axes.set_axis_off()
                axes.set_xlim(0, 1)
                axes.set_ylim(0, 1)
                axes.add_patch(Rectangle((0, 0), 1, 1, color=GRID, linewidth=0))
                axes.add_patch(Rectangle((0, 0), min(max(value, 0), 1), 1, color=color, alpha=0.8, linewidth=0))
                left = left + share * scale - 58
            frame.text(left, 58 + at * 22, _cut(text, share * scale), color=color)
    if len(rows) > room:
        frame.text(12, frame.height - 16, f"and {len(rows) - room} more", color=FAINT)
    return None


def trace(frame: Frame, panel: Json, spans: list[Span]) -> None:
    """A waterfall: names on the left, times on the right."""
    if not spans:
        return _nothing(frame, panel)
    whole = max(one.start + one.duration for one in spans) or 1e-9
    room = int((frame.height - 62) // 18)
    left = frame.width * 0.38
    axes = frame.axes(left, 52, 74, frame.height - 52 - room * 18)
    axes.set_xlim(0, whole)
    axes.set_ylim(room, 0)
    axes.set_yticks([])
    axes.xaxis.tick_top()
    axes.xaxis.set_major_locator(_ticks(5))
    axes.xaxis.set_major_formatter(lambda value, _: written(value, "s"))
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    services = list(dict.fromkeys(one.service for one in spans))
    for at, one in enumerate(spans[:room]):
        color = PALETTE[services.index(one.service) % len(PALETTE)]
        axes.barh(at + 0.5, max(one.duration, whole / 600), left=one.start, height=0.55, color=color)
        label = written(one.duration, "s")
        axes.text(one.start + one.duration + whole * 0.006, at + 0.55, label, size=6.6, color=FAINT, va="center")
        y = 52 + at * 18 + 3
        frame.text(12 + one.depth * 12, y, one.service, color=color, weight="bold", size=6.8)
        shift = 12 + one.depth * 12 + len(one.service) * 5.6 + 8
        name = ("! " if one.failed else "") + one.name
        frame.text(shift, y, _cut(name, left - shift), color=COLORS["red"] if one.failed else TEXT, size=6.8)
    if len(spans) > room:
        frame.text(12, frame.height - 14, f"and {len(spans) - room} more spans", color=FAINT)
    return None


def graph(frame: Frame, panel: Json, calls: list[tuple[str, str, int]]) -> None:
    """Services, callers left of those they call."""
    calls = [call for call in calls if call[0] != call[1]]
    if not calls:
        return _nothing(frame, panel)
    depth = dict.fromkeys((name for call in calls for name in call[:2]), 0)
    for _ in depth:  # enough rounds for the longest way; a circle ends with them too
        for parent, child, _count in calls:
            depth[child] = max(depth[child], min(depth[parent] + 1, len(depth)))
    layers: dict[int, list[str]] = {}
    for name, layer in depth.items():
        layers.setdefault(layer, []).append(name)
    places = {
        name: (column, (row + 1) / (len(names) + 1))
        for column, (_, names) in enumerate(sorted(layers.items()))
        for row, name in enumerate(sorted(names))
    }
    axes = frame.axes(40, 40, 40, 20)
    axes.set_axis_off()
    axes.set_xlim(-0.3, len(layers) - 0.7)
    axes.set_ylim(0, 1)
    for parent, child, count in calls:
        (x0, y0), (x1, y1) = places[parent], places[child]
        arrow = {"arrowstyle": "-|>", "color": FAINT, "shrinkA": 20, "shrinkB": 20, "linewidth": 1}
        axes.annotate("", (x1, y1), (x0, y0), arrowprops=arrow)
        axes.text((x0 + x1) / 2, (y0 + y1) / 2 + 0.015, f"{count} calls", color=FAINT, size=6.5, ha="center")
    for name, (x, y) in places.items():
        axes.scatter([x], [y], s=620, facecolor=PANEL, edgecolor=COLORS["green"], linewidth=2, zorder=3)
        axes.text(x, y - 0.09, name, color=TEXT, size=SMALL, ha="center", va="top")
    return None


def _nothing(frame: Frame, panel: Json) -> None:
    text = panel["fieldConfig"]["defaults"].get("noValue", "No data")
    frame.text(frame.width / 2, frame.height / 2, text, color=FAINT, size=10, ha="center", va="center")


def _over_time(axes: Axes, span: Range) -> None:
    axes.set_xlim(span.start, span.end)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    whole = span.end - span.start
    gap = next((gap for gap in (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200) if whole / gap <= 7), 21600)
    ticks = np.arange(math.ceil((span.start + 0.03 * whole) / gap) * gap, span.end, gap)
    form = "%H:%M" if gap >= 60 else "%H:%M:%S"
    axes.set_xticks(ticks, [datetime.fromtimestamp(tick, UTC).strftime(form) for tick in ticks])


def _ticks(count: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(count, steps=[1, 2, 2.5, 5, 10])


def _on_grid(line: Line, span: Range) -> tuple[np.ndarray, np.ndarray]:
    """The values at every point of the range, zero where there is none: what is stacked must be aligned."""
    times = span.start + span.step * np.arange(int((span.end - span.start) / span.step) + 1)
    values = np.zeros_like(times)
    at = np.rint((np.array(line.times, dtype=float) - span.start) / span.step).astype(int)
    values[np.clip(at, 0, len(times) - 1)] = np.nan_to_num(np.array(line.values, dtype=float))
    return times, values


def _bound(axes: Axes, panel: Json) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    if defaults["custom"].get("thresholdsStyle", {}).get("mode") != "dashed":
        return
    top = axes.get_ylim()[1]
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is not None and step["value"] <= top * 1.2:
            axes.axhline(step["value"], color=COLORS[step["color"]], linewidth=1, linestyle=(0, (6, 4)), alpha=0.8)


def _legend(frame: Frame, panel: Json, lines: list[Line], colors: list[str], calcs: list[str], hidden: int) -> None:
    names = {"mean": "Mean", "max": "Max", "min": "Min", "lastNotNull": "Last"}
    y = frame.height - (len(lines) + 1) * LINE - 6
    unit = panel["fieldConfig"]["defaults"]["unit"]
    rights = [frame.width - 14 - 78 * (len(calcs) - 1 - at) for at in range(len(calcs))]
    if hidden > 0:
        frame.text(14, y, f"{hidden} more not listed", color=FAINT, size=6.4)
    for calc, right in zip(calcs, rights, strict=True):
        frame.text(right, y, names[calc], color=COLORS["blue"], ha="right", size=6.8)
    for at, (line, color) in enumerate(zip(lines, colors, strict=False)):
        row = y + (at + 1) * LINE
        frame.text(14, row, "—", color=color, weight="bold")
        frame.text(30, row, _cut(line.name, rights[0] - 90 if rights else frame.width - 40))
        for calc, right in zip(calcs, rights, strict=True):
            frame.text(right, row, written(_calculated(calc, line.values), unit), ha="right")


def _calculated(calc: str, values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan
    ways = {"mean": lambda: sum(known) / len(known), "max": lambda: max(known), "min": lambda: min(known)}
    return ways.get(calc, lambda: known[-1])()


def _cell(panel: Json, column: str, row: Json) -> str:
    look = looks(panel, column)
    value = row.get(column, "")
    return written(value, look["unit"], look.get("decimals"))


def _bucket(bound: str, unit: str) -> str:
    return bound if bound == "+Inf" else written(float(bound), unit)


def _height(value: float, below: float, uppers: list[float]) -> float:
    """Where a value lies among buckets that are drawn equally high."""
    for at, upper in enumerate(uppers):
        if value <= upper:
            floor = uppers[at - 1] if at else below
            return at + (0.5 if math.isinf(upper) else (value - floor) / max(upper - floor, 1e-12))
    return len(uppers)


def _cut(text: str, pixels: float) -> str:
    room = max(3, int(pixels / 5.6))
    return text if len(text) <= room else text[: room - 1] + "…"
