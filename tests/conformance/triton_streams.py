"""Many requests on one stream: their order, an error among them, and how a stream ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import tritonclient.grpc as triton

from report import Checks, expect, expect_equal
from subject import Subject, tensor
from triton_requests import expect_add_sub, numbers

CHECKS = Checks()

MANY = 40
"""More than a server works on at a time."""
BROKEN = 17


@CHECKS.add("ModelStreamInfer", f"{MANY} requests, of one row to four, answered in order", mode="stream")
def _in_order(subject: Subject) -> None:
    with subject.stream() as (client, reply):
        for at in range(MANY):
            _send(subject, client, at)
        for at in range(MANY):
            _expect_answer(reply(), at)


@CHECKS.add("ModelStreamInfer", "an error in the middle, in its place, leaves the stream open", mode="stream")
def _error_in_the_middle(subject: Subject) -> None:
    with subject.stream() as (client, reply):
        for at in range(MANY):
            _send(subject, client, at, columns=15 if at == BROKEN else 16)
        for at in range(MANY):
            if at == BROKEN:
                _expect_error(reply(), status=None, word="inputs[a].shape")
            else:
                _expect_answer(reply(), at)
        # Not only what was sent before it: what is sent after the error was read, too.
        _send(subject, client, MANY)
        _expect_answer(reply(), MANY)


@CHECKS.add("ModelStreamInfer", "an unknown model and a good one on one stream", mode="stream")
def _unknown_model(subject: Subject) -> None:
    with subject.stream() as (client, reply):
        client.async_stream_infer(subject.model("no-such-model"), [tensor("x", numbers(1, 1))])
        _expect_error(reply(), status=None, word="model")
        _send(subject, client, 3)
        _expect_answer(reply(), 3)


@CHECKS.add("ModelStreamInfer", "models of different kinds on one stream, in order", mode="stream")
def _models_mixed(subject: Subject) -> None:
    with subject.stream() as (client, reply):
        for at in range(12):
            if at % 3 == 0:
                _send(subject, client, at)
            else:
                client.async_stream_infer(
                    subject.model("identity-fp32"), [tensor("x", numbers(at, 2))], request_id=f"{at}"
                )
        for at in range(12):
            result = reply()
            if at % 3 == 0:
                _expect_answer(result, at)
            else:
                expect(isinstance(result, triton.InferResult), str(result))
                expect_equal("the id", result.get_response().id, str(at))


@CHECKS.add(
    "ModelStreamInfer", "with triton_grpc_error the first error ends the stream, with its status", mode="stream"
)
def _grpc_error(subject: Subject) -> None:
    with subject.stream(headers={"triton_grpc_error": "true"}) as (client, reply):
        _send(subject, client, 1)
        _expect_answer(reply(), 1)
        _send(subject, client, 2, columns=15)
        _expect_error(reply(), status="StatusCode.INVALID_ARGUMENT", word="")


@CHECKS.add("ModelStreamInfer", "one reply a request, each marked as the final one", mode="stream")
def _final_response(subject: Subject) -> None:
    with subject.stream() as (client, reply):
        for at in range(5):
            _send(subject, client, at, enable_empty_final_response=True)
        for at in range(5):
            result = reply()
            _expect_answer(result, at)
            parameters = result.get_response().parameters
            expect("triton_final_response" in parameters, "triton_final_response is missing")
            expect(parameters["triton_final_response"].bool_param, "triton_final_response is false")


@CHECKS.add("ModelStreamInfer", "a stream without a request ends well", mode="stream")
def _empty(subject: Subject) -> None:
    expect_equal("the number of replies", len(subject.send_on_stream()), 0)


@CHECKS.add(
    "ModelStreamInfer", "priority, timeout, parameters and requested outputs as in a single request", mode="stream"
)
def _options(subject: Subject) -> None:
    with subject.stream() as (client, reply):
        _send(subject, client, 1, priority=1, timeout=5_000_000, parameters={"custom": 0.5})
        _expect_answer(reply(), 1)
        _send(subject, client, 2, outputs=[triton.InferRequestedOutput("difference")])
        result = reply()
        expect(isinstance(result, triton.InferResult), str(result))
        expect_equal("the outputs", [output.name for output in result.get_response().outputs], ["difference"])


def _tensors(at: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    rows = 1 + at % 4
    return numbers(rows, columns) + at, np.full((rows, columns), at, dtype=np.float32)


def _send(
    subject: Subject, client: triton.InferenceServerClient, at: int, *, columns: int = 16, **options: Any
) -> None:
    a, b = _tensors(at, columns)
    inputs = [tensor("a", a), tensor("b", b)]
    client.async_stream_infer(subject.model("add-sub"), inputs, request_id=str(at), **options)


def _expect_answer(reply: Any, at: int) -> None:
    expect(isinstance(reply, triton.InferResult), f"request {at}: {reply}")
    expect_equal("the id", reply.get_response().id, str(at))
    expect_add_sub(reply, *_tensors(at, 16))


def _expect_error(reply: Any, status: str | None, word: str) -> None:
    expect(isinstance(reply, triton.InferenceServerException), "the answer is OK; expected an error")
    expect_equal("the status", reply.status(), status)
    expect(word in reply.message(), f"`{word}` is not named in: {reply.message()}")
