"""Numbers as Grafana writes them, for the units that the dashboards use."""

from __future__ import annotations

import math
from datetime import UTC, datetime

_TIMES = ((86400, "day"), (3600, "hour"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SUFFIXES = {"reqps": " req/s", "ops": " ops/s", "cps": " c/s"}
_IN_SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


def written(value: float | str, unit: str, decimals: int | None = None) -> str:
    """The value with its unit. Times are Unix milliseconds in UTC."""
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return ""
    if unit == "percentunit":
        return f"{_short(value * 100, decimals)}%"
    if unit in _IN_SECONDS:
        return _duration(value * _IN_SECONDS[unit], decimals)
    if unit == "bytes":
        return _scaled(value, ("B", "KiB", "MiB", "GiB", "TiB"), 1024)
    if unit == "dateTimeAsIso":
        return datetime.fromtimestamp(value / 1e3, UTC).strftime("%Y-%m-%d %H:%M:%S")
    if unit == "dateTimeFromNow":
        return f"{_duration(datetime.now(UTC).timestamp() - value / 1e3, 0)} ago"
    if abs(value) >= 1000:
        return _scaled(value, ("", "K", "Mil", "Bil"), 1000) + _SUFFIXES.get(unit, "")
    return _short(value, decimals) + _SUFFIXES.get(unit, "")


def _duration(seconds: float, decimals: int | None) -> str:
    for size, name in _TIMES:
        if abs(seconds) >= size:
            return f"{_short(seconds / size, decimals)} {name}"
    return f"{_short(seconds, decimals)} s"


def _scaled(value: float, names: tuple[str, ...], base: int) -> str:
    power = 0
    while abs(value) >= base and power + 1 < len(names):
        value, power = value / base, power + 1
    return f"{_short(value, None)} {names[power]}".rstrip()


def _short(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    if value == 0:
        return "0"
    digits = max(0, min(4, 2 - math.floor(math.log10(abs(value)))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
