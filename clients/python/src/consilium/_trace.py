"""Passes the caller's trace context on, if OpenTelemetry is there: `pip install consilium-client[tracing]`."""

from __future__ import annotations

try:
    from opentelemetry import propagate as _propagate
except ImportError:  # The extra is not installed: there is no trace to pass on.
    _propagate = None  # type: ignore[assignment]


def metadata() -> tuple[tuple[str, str], ...]:
    """What the propagator that is in use writes for the current context.

    That is W3C's `traceparent`, `tracestate` and `baggage`, unless `OTEL_PROPAGATORS` or the application says
    otherwise; outside a trace it is nothing.
    """
    if _propagate is None:
        return ()
    carrier: dict[str, str] = {}
    _propagate.inject(carrier)
    # gRPC refuses names in upper case; a propagator is free to use them.
    return tuple((name.lower(), value) for name, value in carrier.items())
