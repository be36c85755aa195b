"""Every datatype there and back, with the values at its ends: in raw and in typed contents, alone and on a stream."""

from __future__ import annotations

import queue
from collections.abc import Callable

import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2

from datatypes import CASES
from report import Checks, expect, expect_equal
from subject import PATIENCE_S, Subject, Typed, by_hand, expect_array, tensor, values

CHECKS = Checks()


def _raw(subject: Subject, datatype: str) -> None:
    sent = values(datatype, CASES[datatype][0])
    _expect_echo(subject.infer(_model(datatype), {"x": sent}), sent)


def _raw_async(subject: Subject, datatype: str) -> None:
    sent = values(datatype, CASES[datatype][0])
    replies: queue.Queue = queue.Queue()
    subject.client.async_infer(
        subject.model(_model(datatype)),
        [tensor("x", sent)],
        lambda result, error: replies.put((result, error)),
        client_timeout=PATIENCE_S,
    )
    result, error = replies.get(timeout=PATIENCE_S)
    expect(error is None, str(error))
    _expect_echo(result, sent)


def _raw_stream(subject: Subject, datatype: str) -> None:
    sent = values(datatype, CASES[datatype][0])
    with subject.stream() as (client, reply):
        client.async_stream_infer(subject.model(_model(datatype)), [tensor("x", sent)], request_id="1")
        result = reply()
    expect(isinstance(result, triton.InferResult), str(result))
    _expect_echo(result, sent)


def _typed(subject: Subject, datatype: str) -> None:
    sent = values(datatype, CASES[datatype][0])
    _expect_echo(triton.InferResult(subject.send(_typed_request(subject, sent))), sent)


def _typed_stream(subject: Subject, datatype: str) -> None:
    sent = values(datatype, CASES[datatype][0])
    replies = subject.send_on_stream(_typed_request(subject, sent))
    expect_equal("the number of replies", len(replies), 1)
    expect_equal("the error", replies[0].error_message, "")
    _expect_echo(triton.InferResult(replies[0].infer_response), sent)


def _typed_request(subject: Subject, sent: Typed) -> service_pb2.ModelInferRequest:
    contents = {CASES[sent.datatype][1]: sent.array.reshape(-1).tolist()}
    return by_hand(subject.model(_model(sent.datatype)), [("x", sent.datatype, sent.array.shape, contents)])


def _expect_echo(result: triton.InferResult, sent: Typed) -> None:
    response = result.get_response()
    expect_equal("the number of outputs", len(response.outputs), 1)
    expect_equal("the datatype of y", response.outputs[0].datatype, sent.datatype)
    expect_equal("the number of raw outputs", len(response.raw_output_contents), 1)
    expect_array("y", result.as_numpy("y"), sent.array)


def _model(datatype: str) -> str:
    return f"identity-{datatype.lower()}"


def _add(column: str, function: Callable[[Subject, str], None], rpc: str, *, typed: bool = False) -> None:
    for datatype, (_, field) in CASES.items():
        if field or not typed:

            def run(subject: Subject, datatype: str = datatype) -> None:
                function(subject, datatype)

            CHECKS.add(rpc, "the same comes back", mode=column, datatype=datatype)(run)


_add("raw", _raw, "ModelInfer")
_add("raw, async", _raw_async, "ModelInfer")
_add("raw, stream", _raw_stream, "ModelStreamInfer")
_add("typed", _typed, "ModelInfer", typed=True)
_add("typed, stream", _typed_stream, "ModelStreamInfer", typed=True)
