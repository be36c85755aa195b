"""The trace of the caller goes along, if there is one."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.textmap import Setter, TextMapPropagator, default_setter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from scripted import LONG, ScriptedRouter
from test_asking import METHODS, call

from consilium import _trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from both import AnyClient
    from conftest import Connect

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
    assert "baggage" not in metadata, "nobody has asked for it"


def test_outside_a_trace_nothing_is_sent(client: AnyClient, router: ScriptedRouter) -> None:
    client.ask("?")

    assert {"traceparent", "tracestate", "baggage"}.isdisjoint(router.seen[0].metadata)


class Numbered(TextMapPropagator):
    """A propagator that is nobody's default, and writes a name as gRPC would refuse it."""

    def extract(self, *_arguments: Any, **_named: Any) -> context.Context:
        raise NotImplementedError

    def inject(
        self, carrier: Any, context: context.Context | None = None, setter: Setter[Any] = default_setter
    ) -> None:
        setter.set(carrier, "X-Trace-Id", "Root=1")

    @property
    def fields(self) -> set[str]:
        return {"X-Trace-Id"}


@pytest.fixture
def restored() -> Iterator[None]:
    before = propagate.get_global_textmap()
    yield
    propagate.set_global_textmap(before)


@pytest.mark.usefixtures("span", "restored")
def test_the_propagator_that_the_program_has_chosen_is_used(client: AnyClient, router: ScriptedRouter) -> None:
    propagate.set_global_textmap(Numbered())

    client.ask("?")

    assert router.seen[0].metadata["x-trace-id"] == "Root=1"
    assert "traceparent" not in router.seen[0].metadata


@pytest.mark.usefixtures("span")
def test_a_choice_from_outside_the_program_is_one(
    client: AnyClient, router: ScriptedRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What OpenTelemetry has made of it is its default, by name.
    monkeypatch.setenv("OTEL_PROPAGATORS", "tracecontext,baggage")

    client.ask("?")

    assert router.seen[0].metadata["traceparent"] == TRACEPARENT
    assert router.seen[0].metadata["baggage"] == "ward=north"


@pytest.mark.usefixtures("span")
def test_a_client_can_have_a_propagator_of_its_own(connect: Connect, router: ScriptedRouter) -> None:
    connect(router.target, propagator=W3CBaggagePropagator()).ask("?", timeout=LONG)

    assert router.seen[0].metadata["baggage"] == "ward=north"
    assert "traceparent" not in router.seen[0].metadata


@pytest.mark.usefixtures("span")
def test_without_opentelemetry_there_is_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "opentelemetry", None)
        importlib.reload(_trace)
        assert _trace.metadata(None) == {}
    importlib.reload(_trace)
    assert _trace.metadata(None) != {}
