"""What a failed call says."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from scripted import LONG, PATIENCE, ScriptedRouter, fail, say

from consilium import ConsiliumError, Violation
from consilium.errors import from_rpc
from consilium.v1 import DispatchResponse

if TYPE_CHECKING:
    from both import AnyClient
    from conftest import Connect
    from google.protobuf.message import Message

CODE = grpc.StatusCode
REQUEST_ID = (("consilium-request-id", "r-7"),)


def failed(client: AnyClient, timeout: float | None = None) -> ConsiliumError:
    with pytest.raises(ConsiliumError) as caught:
        client.ask("?", timeout=timeout)
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    return caught.value


def test_every_detail_is_read(client: AnyClient, router: ScriptedRouter) -> None:
    details = (
        ErrorInfo(reason="INVALID_REQUEST", domain="consilium.dev", metadata={"expert": "general"}),
        BadRequest(
            field_violations=[
                BadRequest.FieldViolation(field="options.top_k", description="at most 16"),
                BadRequest.FieldViolation(field="query.text", description="empty"),
            ]
        ),
        RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)),
    )
    router.script.append(fail(CODE.INVALID_ARGUMENT, "2 fields are wrong", details, REQUEST_ID))

    error = failed(client)

    assert error.code is CODE.INVALID_ARGUMENT
    assert error.reason == "INVALID_REQUEST"
    assert error.message == "2 fields are wrong"
    assert error.request_id == "r-7"
    assert error.violations == (Violation("options.top_k", "at most 16"), Violation("query.text", "empty"))
    assert error.retry_after == 1.5
    assert error.metadata == {"expert": "general"}
    assert error.retryable
    assert str(error) == "INVALID_ARGUMENT INVALID_REQUEST: 2 fields are wrong (request r-7)"


def test_an_error_without_details_has_a_code_and_a_message(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(fail(CODE.INTERNAL, "broken"))

    error = failed(client)

    assert (error.code, error.message, error.retryable) == (CODE.INTERNAL, "broken", False)
    assert (error.reason, error.request_id, error.violations, error.retry_after, error.metadata) == (
        None,
        None,
        (),
        None,
        {},
    )
    assert str(error) == "INTERNAL: broken"


def test_a_reason_of_another_domain_is_not_ours(client: AnyClient, router: ScriptedRouter) -> None:
    foreign = ErrorInfo(reason="INVALID_REQUEST", domain="example.org", metadata={"a": "b"})
    unknown = QuotaFailure(violations=[QuotaFailure.Violation(subject="s")])
    wrong = BadRequest(field_violations=[BadRequest.FieldViolation(field="f", description="d")])
    router.script.append(fail(CODE.INVALID_ARGUMENT, "no", (foreign, unknown, wrong)))

    error = failed(client)

    assert (error.reason, error.metadata) == (None, {})
    assert error.violations == (Violation("f", "d"),), "what comes after an unknown detail is read all the same"


def test_details_that_cannot_be_read_cost_only_themselves(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(
        fail(CODE.INTERNAL, "still said", trailers=(("grpc-status-details-bin", b"\xff\xff"), *REQUEST_ID))
    )

    error = failed(client)

    assert (error.code, error.message, error.request_id) == (CODE.INTERNAL, "still said", "r-7")


def test_a_request_id_in_the_headers_is_found(client: AnyClient, router: ScriptedRouter) -> None:
    def behave(context: grpc.ServicerContext) -> None:
        context.send_initial_metadata(REQUEST_ID)
        context.abort(CODE.INTERNAL, "no")

    router.script.append(behave)

    assert failed(client).request_id == "r-7"


def test_nobody_there_is_worth_another_try(connect: Connect, router: ScriptedRouter) -> None:
    router.stop()

    error = failed(connect(router.target, timeout=LONG))

    assert (error.code, error.reason, error.retryable) == (CODE.UNAVAILABLE, None, True)


def test_a_deadline_ends_a_call_on_both_sides(client: AnyClient, router: ScriptedRouter) -> None:
    client.ask("?")  # So that the connection is there.
    router.script.append(router.hold)

    error = failed(client, timeout=1)

    assert (error.code, error.retryable) == (CODE.DEADLINE_EXCEEDED, False)
    assert router.gone.wait(PATIENCE)


GONE = ErrorInfo(reason="NO_LIVE_INSTANCE", domain="consilium.dev")
SOON = RetryInfo(retry_delay=Duration(seconds=1))


@pytest.mark.parametrize(
    ("code", "details", "retryable"),
    [
        (CODE.UNAVAILABLE, (), True),
        (CODE.UNAVAILABLE, (GONE,), False),
        (CODE.UNAVAILABLE, (GONE, SOON), True),
        (CODE.RESOURCE_EXHAUSTED, (), False),
        (CODE.RESOURCE_EXHAUSTED, (SOON,), True),
    ],
)
def test_another_try_is_worth_it_if_the_server_says_so_or_none_of_ours_was_reached(
    client: AnyClient, router: ScriptedRouter, code: grpc.StatusCode, details: tuple[Message, ...], retryable: bool
) -> None:
    router.script.extend([fail(code, "no", details)] * 3)

    assert failed(client).retryable is retryable


# Those that gRPC takes for a no: a negative number, and what is none.
FORBIDS = pytest.mark.parametrize("pushback", ["-1", "soon", ""])


@FORBIDS
@pytest.mark.parametrize("details", [(), (SOON,)], ids=["silent", "with a time"])
def test_a_server_that_forbids_another_try_has_the_last_word(
    client: AnyClient, router: ScriptedRouter, details: tuple[Message, ...], pushback: str
) -> None:
    router.script.append(fail(CODE.UNAVAILABLE, "no", details, (("grpc-retry-pushback-ms", pushback),)))

    error = failed(client)

    assert (error.retry_after, error.retryable) == (None, False)
    assert len(router.seen) == 1


@FORBIDS
def test_in_the_headers_it_is_said_as_well(pushback: str) -> None:
    # Not through a server: of headers right before the end gRPC loses this one now and then.
    headers = grpc.aio.Metadata(("grpc-retry-pushback-ms", pushback))

    error = from_rpc(grpc.aio.AioRpcError(CODE.UNAVAILABLE, headers, grpc.aio.Metadata(), "no"))

    assert (error.retry_after, error.retryable) == (None, False)


def test_a_server_that_names_a_pause_forbids_nothing(client: AnyClient, router: ScriptedRouter) -> None:
    # Not 0, with which gRPC waits until the deadline.
    router.script.extend([fail(CODE.UNAVAILABLE, "no", (SOON,), (("grpc-retry-pushback-ms", "1"),))] * 3)

    error = failed(client)

    assert (error.retry_after, error.retryable) == (1.0, True)


def test_details_may_be_as_long_as_a_router_sends_them(client: AnyClient, router: ScriptedRouter) -> None:
    many = BadRequest(field_violations=[BadRequest.FieldViolation(field="f" * 40, description="d" * 100)] * 250)
    router.script.append(fail(CODE.INVALID_ARGUMENT, "no", (many,)))

    assert len(failed(client).violations) == 250


def test_no_error_that_is_made_here_contains_the_query(connect: Connect, router: ScriptedRouter) -> None:
    client = connect(router.target, timeout=LONG)
    client.ask("?")
    router.script.extend([router.hold, say(DispatchResponse(feedback_token="x" * (33 * 1024 * 1024)))])
    failing: dict[type[Exception], list[dict[str, Any]]] = {
        # Out of time, and then too long a reply.
        ConsiliumError: [{"timeout": 1}, {}],
        TypeError: [{"timeout": "5"}, {"no_such": 1}, {"labels": {"secret": 5}}, {"attributes": {"secret": 5}}],
        ValueError: [{"timeout": 0}, {"metadata": {"authorization": "secret\n"}}, {"subject": "secret \ud800"}],
    }

    for kind, calls in failing.items():
        for said in calls:
            with pytest.raises(kind) as caught:
                client.ask("a secret query", **said)
            assert "secret" not in repr(caught.value) + str(caught.value)
    with pytest.raises(ValueError, match="surrogate") as without_utf8:
        client.ask("a secret query \ud800")
    assert "secret" not in repr(without_utf8.value)

    router.stop()
    with pytest.raises(ConsiliumError, match="UNAVAILABLE") as unreachable:
        client.ask("a secret query")
    assert "secret" not in repr(unreachable.value) + repr(unreachable.value.__cause__)


def test_feedback_and_explain_fail_the_same_way(client: AnyClient, router: ScriptedRouter) -> None:
    info = ErrorInfo(reason="NO_FEEDBACK", domain="consilium.dev")
    router.script.extend([fail(CODE.UNIMPLEMENTED, "no", (info,)), fail(CODE.UNIMPLEMENTED, "no", (info,))])

    for asked in (lambda: client.feedback("t", {}), lambda: client.explain("?")):
        with pytest.raises(ConsiliumError) as caught:
            asked()
        assert caught.value.reason == "NO_FEEDBACK"


def test_an_error_goes_from_process_to_process() -> None:
    error = ConsiliumError(
        CODE.UNAVAILABLE,
        "gone",
        reason="NO_LIVE_INSTANCE",
        request_id="r-7",
        violations=[Violation("f", "d")],
        retry_after=1.0,
        metadata={"experts": "general"},
    )

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes

    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
