"""What a call carries, and what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import struct_pb2
from scripted import LONG, ScriptedRouter, say

from consilium.v1 import (
    COMBINE_ALL,
    PRIORITY_BATCH,
    CallContext,
    Decision,
    DispatchOptions,
    DispatchResponse,
    Done,
    Part,
    Query,
    SendFeedbackRequest,
    Values,
)

if TYPE_CHECKING:
    from both import AnyClient
    from conftest import Connect

EVERYTHING: dict[str, Any] = {
    "attributes": {"audience": "patient", "jurisdiction": ("us", "eu")},
    "labels": {"desk": "discharge"},
    "top_k": 2,
    "min_confidence": 0.0,
    "experts": ["general", "care-coordination"],
    "versions": {"general": "1"},
    "combine": COMBINE_ALL,
    "priority": PRIORITY_BATCH,
    "request_id": "r-1",
    "tenant": "north",
    "tier": "gold",
    "subject": "someone",
    "purpose": "treatment",
}


def call(client: AnyClient, method: str, **said: Any) -> None:
    """One call of that method, to its end."""
    if method == "Dispatch":
        client.ask("?", **said)
    elif method == "Explain":
        client.explain("?", **said)
    elif method == "StreamDispatch":
        list(client.stream("?", **said))
    else:
        client.feedback("token", {"helpful": True}, **said)


ASKING = ["Dispatch", "Explain", "StreamDispatch"]
METHODS = [*ASKING, "SendFeedback"]


@pytest.mark.parametrize("method", ASKING)
def test_everything_that_is_said_arrives(client: AnyClient, router: ScriptedRouter, method: str) -> None:
    call(client, method, **EVERYTHING)

    (seen,) = router.seen
    assert seen.method == method
    assert seen.request.query == Query(
        text="?",
        attributes={"audience": Values(values=["patient"]), "jurisdiction": Values(values=["us", "eu"])},
        labels={"desk": "discharge"},
    )
    assert seen.request.context == CallContext(
        request_id="r-1", tenant="north", tier="gold", subject="someone", purpose="treatment"
    )
    assert seen.request.options == DispatchOptions(
        top_k=2,
        min_confidence=0.0,
        experts=["general", "care-coordination"],
        versions={"general": "1"},
        combine=COMBINE_ALL,
        priority=PRIORITY_BATCH,
    )
    assert seen.request.options.HasField("min_confidence"), "zero is not unset"


@pytest.mark.parametrize("method", ASKING)
def test_what_is_not_said_is_unset(client: AnyClient, router: ScriptedRouter, method: str) -> None:
    call(client, method)

    assert router.seen[0].request.options == DispatchOptions()
    assert router.seen[0].request.context == CallContext()
    assert router.seen[0].request.query == Query(text="?")


def test_one_expert_needs_no_list(client: AnyClient, router: ScriptedRouter) -> None:
    client.ask("?", experts="general")

    assert list(router.seen[0].request.options.experts) == ["general"]


def test_a_query_of_ones_own_is_sent_as_it_is(client: AnyClient, router: ScriptedRouter) -> None:
    record = struct_pb2.Struct()
    record.update({"age": 61})
    query = Query(text="Which dose?", parts=[Part(record=record)], labels={"a": "b"})

    client.ask(query, top_k=1)

    assert router.seen[0].request.query == query


def test_a_refusal_is_a_reply(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(say(DispatchResponse(decision=Decision(outcome=Decision.OUTCOME_REFUSED))))

    reply = client.ask("Who won the cup?")

    assert reply.decision.outcome == Decision.OUTCOME_REFUSED
    assert not reply.HasField("answer")


def test_a_reply_may_be_as_long_as_four_answers(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(say(DispatchResponse(feedback_token="x" * (31 * 1024 * 1024))))

    assert len(client.ask("?").feedback_token) == 31 * 1024 * 1024


@pytest.mark.parametrize("method", METHODS)
def test_every_call_has_a_deadline(connect: Connect, router: ScriptedRouter, method: str) -> None:
    client = connect(router.target)
    call(client, method, timeout=LONG)  # So that the connection is there, and takes nothing of the 5 s.

    call(client, method)

    remaining = router.seen[1].remaining
    assert remaining is not None
    assert 0 < remaining < 10


@pytest.mark.parametrize("method", METHODS)
def test_a_clients_deadline_can_be_set_and_a_calls_wins(connect: Connect, router: ScriptedRouter, method: str) -> None:
    client = connect(router.target, timeout=60)

    call(client, method)
    call(client, method, timeout=3600)

    first, second = (seen.remaining for seen in router.seen)
    assert first is not None
    assert second is not None
    # Not to the second: gRPC rounds long timeouts up.
    assert 10 < first < 100 < second < 4000


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e300])
def test_a_timeout_that_is_none_is_refused(
    connect: Connect, client: AnyClient, router: ScriptedRouter, timeout: float
) -> None:
    with pytest.raises(ValueError, match="timeout"):
        connect(router.target, timeout=timeout)
    for method in METHODS:
        with pytest.raises(ValueError, match="timeout"):
            call(client, method, timeout=timeout)
    assert router.seen == []


@pytest.mark.parametrize("timeout", [None, True, "5"])
def test_a_client_cannot_be_made_without_a_timeout(connect: Connect, router: ScriptedRouter, timeout: object) -> None:
    with pytest.raises(TypeError, match="number of seconds"):
        connect(router.target, timeout=timeout)


@pytest.mark.parametrize(
    ("query", "said", "problem"),
    [
        ("?", {"attribute": {}}, "no such argument: attribute"),
        (Query(text="?"), {"labels": {"a": "b"}}, "a Query has attributes and labels of its own"),
        (Query(text="?"), {"attributes": {"a": "b"}}, "a Query has attributes and labels of its own"),
        (None, {}, "a query is a text or a Query, not NoneType"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(
    client: AnyClient,
    router: ScriptedRouter,
    query: Any,
    said: dict[str, Any],
    problem: str,
) -> None:
    for method in (client.ask, client.explain, client.stream):
        with pytest.raises(TypeError, match=problem):
            method(query, **said)
    assert router.seen == []


@pytest.mark.parametrize(
    "about", ["signed", DispatchResponse(feedback_token="signed"), Done(feedback_token="signed")], ids=type
)
def test_feedback_goes_back_with_its_token(
    client: AnyClient, router: ScriptedRouter, about: str | DispatchResponse | Done
) -> None:
    client.feedback(about, {"helpful": False, "rating": 4, "comment": "clear"})

    metric = SendFeedbackRequest.Metric
    assert router.seen[0].request == SendFeedbackRequest(
        token="signed",
        metrics=[
            metric(name="helpful", boolean=False),
            metric(name="rating", number=4),
            metric(name="comment", text="clear"),
        ],
    )


def test_the_server_sees_which_client_it_is(client: AnyClient, router: ScriptedRouter) -> None:
    client.ask("?")

    assert str(router.seen[0].metadata["user-agent"]).startswith("consilium-python/0.1.0 ")


def test_an_applications_channel_options_win(connect: Connect, router: ScriptedRouter) -> None:
    client = connect(router.target, channel_options=[("grpc.primary_user_agent", "mine")])

    client.ask("?")

    assert str(router.seen[0].metadata["user-agent"]).startswith("mine ")


@pytest.mark.parametrize("method", METHODS)
def test_metadata_of_ones_own_goes_along(client: AnyClient, router: ScriptedRouter, method: str) -> None:
    call(client, method, metadata={"Authorization": "Bearer abc", "ward-bin": b"\x00\xff"})

    assert router.seen[0].metadata["authorization"] == "Bearer abc"
    assert router.seen[0].metadata["ward-bin"] == b"\x00\xff"


@pytest.mark.parametrize(
    ("metadata", "kind", "problem"),
    [
        ({"authorization": "secret\n"}, ValueError, "the metadata authorization is not printable ASCII"),
        ({"authorization": "sécret"}, ValueError, "the metadata authorization is not printable ASCII"),
        ({"authorization": b"secret"}, TypeError, "the metadata authorization is str, not bytes"),
        ({"ward-bin": "secret"}, TypeError, "the metadata ward-bin is bytes, not str"),
        ({"grpc-timeout": "1S"}, ValueError, "'grpc-timeout' is no name of metadata"),
        ({"two words": "secret"}, ValueError, "'two words' is no name of metadata"),
    ],
)
def test_metadata_that_cannot_be_sent_is_refused_and_not_quoted(
    client: AnyClient, router: ScriptedRouter, metadata: dict[str, Any], kind: type[Exception], problem: str
) -> None:
    for method in METHODS:
        with pytest.raises(kind, match=problem) as caught:
            call(client, method, metadata=metadata)
        assert "cret" not in str(caught.value)
    assert router.seen == []


@pytest.mark.parametrize("value", [None, [True], b"clear"])
def test_a_metric_is_a_bool_a_number_or_a_text(client: AnyClient, router: ScriptedRouter, value: Any) -> None:
    with pytest.raises(TypeError, match="the metric rating is a bool, a number or a text, not"):
        client.feedback("signed", {"rating": value})
    assert router.seen == []
