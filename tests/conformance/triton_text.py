"""A model that takes texts: strings in; answers, the experts that gave them, confidences and request ids out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import tritonclient.grpc as triton

from report import Checks, expect, expect_equal
from subject import PATIENCE_S, Subject, by_hand, refused, tensor

CHECKS = Checks()

QUERIES = ("a mild cough since yesterday", "sudden chest pain and sweating", "itching skin for a week")
OUTPUTS = {"answer": "BYTES", "expert": "BYTES", "confidence": "FP32", "request_id": "BYTES"}
MOST = 256
"""Texts in one request."""


@CHECKS.add("ModelMetadata", "a model of texts: one input, four outputs")
def _metadata(subject: Subject, model: str, queries: Sequence[str]) -> None:
    expect(subject.client.is_model_ready(model), f"{model} is not ready")
    metadata = subject.client.get_model_metadata(model)
    expect_equal("the platform", metadata.platform, "consilium")
    said = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs}
    expect_equal("the inputs", said, {"text": ("BYTES", [-1])})
    said = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in metadata.outputs}
    expect_equal("the outputs", said, {name: (datatype, [-1]) for name, datatype in OUTPUTS.items()})


@CHECKS.add("ModelConfig", "a model of texts")
def _config(subject: Subject, model: str, queries: Sequence[str]) -> None:
    config = subject.client.get_model_config(model).config
    expect_equal("platform and backend", (config.platform, config.backend), ("consilium", "consilium"))
    expect_equal("the inputs", [tensor.name for tensor in config.input], ["text"])


@CHECKS.add("ModelInfer", "texts in, answers out, each of its own text")
def _answers(subject: Subject, model: str, queries: Sequence[str]) -> None:
    _expect_answers(_ask(subject, model, list(queries)), len(queries))


@CHECKS.add("ModelInfer", "together they are answered as each alone")
def _alone(subject: Subject, model: str, queries: Sequence[str]) -> None:
    together = _ask(subject, model, list(queries))
    for at, query in enumerate(queries):
        alone = _ask(subject, model, [query])
        expect_equal("the expert", alone.as_numpy("expert")[0], together.as_numpy("expert")[at])
        one, other = alone.as_numpy("confidence")[0], together.as_numpy("confidence")[at]
        same = (math.isnan(one) and math.isnan(other)) or abs(one - other) < 1e-3
        expect(same, f"the confidence is {one} alone and {other} together")


@CHECKS.add("ModelInfer", "a column of texts, [n, 1]")
def _column(subject: Subject, model: str, queries: Sequence[str]) -> None:
    array = np.array([[query] for query in queries], dtype=np.object_)
    result = subject.client.infer(model, [tensor("text", array)], client_timeout=PATIENCE_S)
    expect_equal("the number of answers", result.as_numpy("answer").size, len(queries))


@CHECKS.add("ModelInfer", "texts in typed contents")
def _typed(subject: Subject, model: str, queries: Sequence[str]) -> None:
    contents = {"bytes_contents": [query.encode() for query in queries]}
    response = subject.send(by_hand(model, [("text", "BYTES", [len(queries)], contents)]))
    _expect_answers(triton.InferResult(response), len(queries))


@CHECKS.add("ModelInfer", "only the experts are asked for, and the id comes back")
def _requested(subject: Subject, model: str, queries: Sequence[str]) -> None:
    result = _ask(subject, model, [queries[0]], outputs=[triton.InferRequestedOutput("expert")], request_id="seven")
    response = result.get_response()
    expect_equal("the outputs", [output.name for output in response.outputs], ["expert"])
    expect_equal("the id", response.id, "seven")


@CHECKS.add("ModelStreamInfer", "texts on a stream, in order", mode="stream")
def _stream(subject: Subject, model: str, queries: Sequence[str]) -> None:
    alone = [_ask(subject, model, [query]).as_numpy("expert")[0] for query in queries]
    with subject.stream() as (client, reply):
        for at, query in enumerate(queries):
            client.async_stream_infer(model, [_texts([query])], request_id=str(at))
        for at, expert in enumerate(alone):
            result = reply()
            expect(isinstance(result, triton.InferResult), str(result))
            expect_equal("the id", result.get_response().id, str(at))
            expect_equal("the expert", result.as_numpy("expert")[0], expert)


@CHECKS.add("ModelInfer", "refused by name, INVALID_ARGUMENT: no text, too many, another shape, numbers")
def _refused(subject: Subject, model: str, queries: Sequence[str]) -> None:
    one = {"bytes_contents": [queries[0].encode()]}
    for shape, contents in (([0], {}), ([MOST + 1], {"bytes_contents": [b"a"] * (MOST + 1)}), ([1, 1, 1], one)):
        request = by_hand(model, [("text", "BYTES", shape, contents)])
        subject.refusal(request, "INVALID_ARGUMENT", "inputs[text]")
    refused(
        lambda: subject.client.infer(model, [tensor("text", np.ones(1, dtype=np.float32))]),
        "INVALID_ARGUMENT",
        "text",
    )
    subject.refusal(by_hand(model, [("query", "BYTES", [1], one)]), "INVALID_ARGUMENT", "inputs")
    expect_equal("answers afterwards", _ask(subject, model, [queries[0]]).as_numpy("answer").size, 1)


def _texts(queries: list[str]) -> triton.InferInput:
    return tensor("text", np.array(queries, dtype=np.object_))


def _ask(subject: Subject, model: str, queries: list[str], **options: object) -> triton.InferResult:
    return subject.client.infer(model, [_texts(queries)], client_timeout=PATIENCE_S, **options)


def _expect_answers(result: triton.InferResult, count: int) -> None:
    response = result.get_response()
    expect_equal("outputs", {output.name: output.datatype for output in response.outputs}, OUTPUTS)
    for output in response.outputs:
        expect_equal(f"the shape of {output.name}", list(output.shape), [count])
    for answer in result.as_numpy("answer"):
        told = json.loads(answer)
        expect(isinstance(told, dict) and told, f"the answer is {answer[:80]!r}; expected a JSON object")
    expect(all(result.as_numpy("expert")), "an expert has no name")
    ids = result.as_numpy("request_id").tolist()
    expect(all(ids) and len(set(ids)) == count, f"the request ids are {ids}")
    for confidence in result.as_numpy("confidence"):
        expect(math.isnan(confidence) or 0 <= confidence <= 1, f"a confidence is {confidence}")
