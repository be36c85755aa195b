"""What gRPC tries again by the service config, and what it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from scripted import ScriptedRouter, events, fail, say

from consilium import ConsiliumError
from consilium.v1 import Decision, DispatchResponse, StreamDispatchResponse

if TYPE_CHECKING:
    from both import AnyClient

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
DECISION = StreamDispatchResponse(decision=Decision(reason="CLEAR"))


def pushback(milliseconds: str) -> tuple[tuple[str, str], ...]:
    return (("grpc-retry-pushback-ms", milliseconds),)


def test_a_router_that_comes_back_is_asked_again(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.extend([fail(UNAVAILABLE), fail(UNAVAILABLE), say(DispatchResponse(request_id="third"))])

    assert client.ask("?").request_id == "third"
    assert len(router.seen) == 3
    assert all(seen.remaining for seen in router.seen), "the deadline is that of all attempts together"


def test_there_are_three_attempts_at_most(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.extend([fail(UNAVAILABLE)] * 4)

    with pytest.raises(ConsiliumError, match="UNAVAILABLE"):
        client.ask("?")
    assert len(router.seen) == 3


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_other_errors_are_final(client: AnyClient, router: ScriptedRouter, code: grpc.StatusCode) -> None:
    router.script.append(fail(code))

    with pytest.raises(ConsiliumError, match=code.name):
        client.ask("?")
    assert len(router.seen) == 1


def test_a_server_can_say_that_another_try_is_useless(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(fail(UNAVAILABLE, trailers=pushback("-1")))

    with pytest.raises(ConsiliumError, match="UNAVAILABLE"):
        client.ask("?")
    assert len(router.seen) == 1


def test_a_server_can_say_when(client: AnyClient, router: ScriptedRouter) -> None:
    client.ask("?")  # So that the connection is there.
    # Further off than the deadline: were it not obeyed, the second attempt would come after 0.1 s and succeed.
    router.script.append(fail(UNAVAILABLE, trailers=pushback("60000")))

    with pytest.raises(ConsiliumError):
        client.ask("?", timeout=1)
    assert len(router.seen) == 2


def test_a_long_query_is_tried_again_like_a_short_one(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(fail(UNAVAILABLE))

    client.ask("x" * (8 * 1024 * 1024))

    assert [len(seen.request.query.text) for seen in router.seen] == [8 * 1024 * 1024] * 2


def test_a_stream_is_tried_again_before_its_first_event_only(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.extend([events(then=fail(UNAVAILABLE)), events(DECISION, then=fail(UNAVAILABLE))])

    stream = client.stream("?")
    assert next(stream) == DECISION
    with pytest.raises(ConsiliumError, match="UNAVAILABLE"):
        next(stream)
    assert len(router.seen) == 2


def test_feedback_is_tried_again(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(fail(UNAVAILABLE))

    client.feedback("token", {"helpful": True})

    assert len(router.seen) == 2
