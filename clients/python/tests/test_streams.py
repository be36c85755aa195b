"""Events in order, and what becomes of a stream that ends early."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from scripted import LONG, PATIENCE, ScriptedRouter, events, fail

from consilium import Client, ConsiliumError, Stream
from consilium.v1 import Answer, Decision, Done, Reply, StreamDispatchResponse, TextDelta

if TYPE_CHECKING:
    from collections.abc import Iterator

    from both import AnyClient

DECISION = StreamDispatchResponse(decision=Decision(reason="CLEAR"))
EVENTS = [
    DECISION,
    StreamDispatchResponse(delta=TextDelta(leg=0, text="War")),
    StreamDispatchResponse(delta=TextDelta(leg=0, text="farin")),
    StreamDispatchResponse(reply=Reply(expert="general", answer=Answer(knowledge_revision="7"))),
    StreamDispatchResponse(done=Done(request_id="r-1", feedback_token="signed")),
]


def test_events_come_in_order(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(events(*EVENTS))

    assert list(client.stream("?")) == EVENTS


def test_a_stream_that_is_over_stays_over(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(events(*EVENTS))
    stream = client.stream("?")
    list(stream)

    assert list(stream) == []


def test_an_error_comes_after_the_events_before_it(client: AnyClient, router: ScriptedRouter) -> None:
    info = ErrorInfo(reason="NO_LIVE_INSTANCE", domain="consilium.dev")
    router.script.append(events(DECISION, then=fail(grpc.StatusCode.UNAVAILABLE, "gone", (info,))))

    stream = client.stream("?")

    assert next(stream) == DECISION
    with pytest.raises(ConsiliumError) as caught:
        next(stream)
    assert caught.value.reason == "NO_LIVE_INSTANCE"


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    """What is forgotten goes at once, not when the collector comes round."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collector")
def test_a_forgotten_stream_is_cancelled(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(router.events_then_hold(DECISION))

    for _event in client.stream("?", timeout=LONG):
        break

    assert router.gone.wait(PATIENCE)


@pytest.mark.usefixtures("no_garbage_collector")
def test_a_stream_is_cancelled_that_nobody_ever_read(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(router.events_then_hold(DECISION))
    stream = client.stream("?", timeout=LONG)
    assert router.holding.wait(PATIENCE)

    del stream

    assert router.gone.wait(PATIENCE)


def test_a_stream_is_cancelled_at_the_end_of_its_block(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(router.events_then_hold(DECISION))

    with client.stream("?", timeout=LONG) as stream:
        assert next(stream) == DECISION

    assert router.gone.wait(PATIENCE)
    assert list(stream) == [], "it is over, and that is no error"


def test_the_deadline_is_that_of_the_whole_stream(client: AnyClient, router: ScriptedRouter) -> None:
    client.ask("?")  # So that the connection is there.
    router.script.append(router.events_then_hold(DECISION))

    stream = client.stream("?", timeout=1)

    assert next(stream) == DECISION
    with pytest.raises(ConsiliumError) as caught:
        next(stream)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_another_thread_may_close_a_stream(router: ScriptedRouter) -> None:
    router.script.append(router.events_then_hold())
    ends: list[object] = []

    def read(stream: Stream) -> None:
        try:
            ends.append(list(stream))
        except ConsiliumError as error:
            ends.append(error)

    with Client(router.target) as client:
        stream = client.stream("?", timeout=LONG)
        reader = threading.Thread(target=read, args=[stream])
        reader.start()
        assert router.holding.wait(PATIENCE)

        stream.close()

        reader.join(PATIENCE)
    assert ends == [[]]
