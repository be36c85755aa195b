"""Passes the caller's trace context on, if OpenTelemetry is there: `pip install consilium-client[tracing]`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

try:
    from opentelemetry import propagate as _propagate
    from opentelemetry.environment_variables import OTEL_PROPAGATORS as _CHOICE
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator as _TraceContext
except ImportError:  # The extra is not installed: there is no trace to pass on.
    _propagate = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator

# What OpenTelemetry's propagator writes when nobody has chosen one: baggage as well, which is the application's own
# data and nobody asked for it to leave.
_NOBODYS_CHOICE = {"traceparent", "tracestate", "baggage"}


def metadata(propagator: TextMapPropagator | None) -> dict[str, str]:
    """What `propagator`, or else the program's own, writes for the current context; outside a trace that is nothing."""
    propagator = _of_the_program() if propagator is None else propagator
    if propagator is None:
        return {}
    carrier: dict[str, str] = {}
    propagator.inject(carrier)
    # gRPC refuses names in upper case; a propagator is free to use them.
    return {name.lower(): value for name, value in carrier.items()}


def _of_the_program() -> TextMapPropagator | None:
    """The one that the program has chosen, and W3C's trace context if it has chosen none.

    OpenTelemetry does not tell whether anybody has: its default shows by the fields that it writes. It is asked at
    every call, because a program may choose after it has made its client.
    """
    if _propagate is None:
        return None
    chosen = _propagate.get_global_textmap()
    if os.environ.get(_CHOICE) or chosen.fields != _NOBODYS_CHOICE:
        return chosen
    return _TraceContext()
