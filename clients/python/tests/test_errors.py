"""What a failed call says."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from scripted import ScriptedRouter, fail

from consilium import ConsiliumError, Violation

if TYPE_CHECKING:
    from both import AnyClient
    from conftest import Connect

CODE = grpc.StatusCode
REQUEST_ID = (("consilium-request-id", "r-7"),)


def failed(client: AnyClient, timeout: float | None = None) -> ConsiliumError:
    with pytest.raises(ConsiliumError) as caught:
        client.ask("a secret query", timeout=timeout)
    assert "secret" not in str(caught.value)
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

    error = failed(connect(router.target))

    assert (error.code, error.reason, error.retryable) == (CODE.UNAVAILABLE, None, True)


def test_a_deadline_ends_a_call_on_both_sides(client: AnyClient, router: ScriptedRouter) -> None:
    router.script.append(router.hold)

    error = failed(client, timeout=0.2)

    assert (error.code, error.retryable) == (CODE.DEADLINE_EXCEEDED, False)
    assert router.gone.wait(30)


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
