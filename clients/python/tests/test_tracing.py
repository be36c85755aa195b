"""The trace of the caller goes along, if there is one."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from test_asking import METHODS, call

from consilium import _trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from both import AnyClient
    from scripted import ScriptedRouter

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def span() -> Iterator[None]:
    """Inside of somebody's span."""
    of_the_caller = SpanContext(
        trace_id=0x0AF7651916CD43DD8448EB211C80319C,
        span_id=0xB7AD6B7169203331,
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState([("vendor", "value")]),
    )
    inside = trace.set_span_in_context(NonRecordingSpan(of_the_caller))
    token = context.attach(baggage.set_baggage("ward", "north", inside))
    yield
    context.detach(token)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("span")
def test_the_trace_goes_along_with_every_call(client: AnyClient, router: ScriptedRouter, method: str) -> None:
    call(client, method)

    metadata = router.seen[0].metadata
    assert metadata["traceparent"] == TRACEPARENT
    assert metadata["tracestate"] == "vendor=value"
    assert metadata["baggage"] == "ward=north"


def test_outside_a_trace_nothing_is_sent(client: AnyClient, router: ScriptedRouter) -> None:
    client.ask("?")

    assert {"traceparent", "tracestate", "baggage"}.isdisjoint(router.seen[0].metadata)


def test_a_propagator_may_write_names_as_it_likes(
    client: AnyClient, router: ScriptedRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # gRPC would refuse the call.
    monkeypatch.setattr(propagate, "inject", lambda carrier: carrier.update({"X-Trace-Id": "Root=1"}))

    client.ask("?")

    assert router.seen[0].metadata["x-trace-id"] == "Root=1"


@pytest.mark.usefixtures("span")
def test_without_opentelemetry_there_is_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "opentelemetry", None)
        importlib.reload(_trace)
        assert _trace.metadata() == ()
    importlib.reload(_trace)
    assert _trace.metadata() != ()
