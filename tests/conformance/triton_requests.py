"""What a request may say besides its tensors, shapes of every kind, and what the server has to refuse, by name."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2

from report import Checks, expect, expect_equal
from subject import PATIENCE_S, Subject, by_hand, expect_array, refused, tensor, values

CHECKS = Checks()

A = np.arange(32, dtype=np.float32).reshape(2, 16)
B = np.full((2, 16), 0.5, dtype=np.float32)
ROW = A[:1].tobytes()


def numbers(*shape: int) -> np.ndarray:
    """FP32 of this shape, each number another one."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) - 2


def expect_add_sub(result: triton.InferResult, a: np.ndarray, b: np.ndarray) -> None:
    """Wants the answer of `add-sub`, in the version that the reply names."""
    version = result.get_response().model_version
    expect(version.isdigit(), f"the version of the model is {version!r}")
    expect_array("sum", result.as_numpy("sum"), a + b + (100 if version == "2" else 0))
    expect_array("difference", result.as_numpy("difference"), a - b)


def add_sub(subject: Subject, **options: Any) -> triton.InferResult:
    """A request whose answer is right, whatever the options say."""
    result = subject.infer("add-sub", {"a": A, "b": B}, **options)
    expect_add_sub(result, A, B)
    return result


@CHECKS.add("ModelInfer", "names, version and order of the reply are the model's")
def _reply(subject: Subject) -> None:
    response = add_sub(subject).get_response()
    expect_equal("the model's name", response.model_name, subject.model("add-sub"))
    expect_equal("the outputs", [output.name for output in response.outputs], ["sum", "difference"])
    expect_equal("the number of raw outputs", len(response.raw_output_contents), 2)
    expect(not any(output.HasField("contents") for output in response.outputs), "an output has typed contents")


@CHECKS.add("ModelInfer", "the version may be said")
def _version(subject: Subject) -> None:
    version = add_sub(subject).get_response().model_version
    expect_equal("the version", add_sub(subject, model_version=version).get_response().model_version, version)


@CHECKS.add("ModelInfer", "the id comes back, and none where none was sent")
def _id(subject: Subject) -> None:
    expect_equal("the id", add_sub(subject, request_id="request 17/ü").get_response().id, "request 17/ü")
    expect_equal("the id", add_sub(subject).get_response().id, "")


@CHECKS.add("ModelInfer", "one of two outputs is asked for, either of them")
def _one_output(subject: Subject) -> None:
    for name, other in (("difference", "sum"), ("sum", "difference")):
        result = subject.infer("add-sub", {"a": A, "b": B}, outputs=[triton.InferRequestedOutput(name)])
        expect(result.as_numpy(other) is None, f"{other} is given unasked")
        whole = add_sub(subject)
        expect_array(name, result.as_numpy(name), whole.as_numpy(name))


@CHECKS.add("ModelInfer", "both outputs are asked for in the other order: each has its own data")
def _order(subject: Subject) -> None:
    add_sub(subject, outputs=[triton.InferRequestedOutput("difference"), triton.InferRequestedOutput("sum")])


@CHECKS.add("ModelInfer", "inputs may come in the other order")
def _inputs_in_other_order(subject: Subject) -> None:
    expect_add_sub(subject.infer("add-sub", {"b": B, "a": A}), A, B)


@CHECKS.add("ModelInfer", "priority, as the client sends it (uint64) and as older ones do (int64)")
def _priority(subject: Subject) -> None:
    add_sub(subject, priority=1)
    request = _request(subject)
    request.parameters["priority"].int64_param = 2
    subject.send(request)


@CHECKS.add("ModelInfer", "timeout (µs)")
def _timeout(subject: Subject) -> None:
    add_sub(subject, timeout=5_000_000)


@CHECKS.add("ModelInfer", "custom parameters: text, integer, yes or no, number")
def _parameters(subject: Subject) -> None:
    add_sub(subject, parameters={"text": "a", "integer": -(2**63), "yes": True, "number": 0.5})


@CHECKS.add("ModelInfer", "parameters of a sequence, by number and by name")
def _sequence(subject: Subject) -> None:
    add_sub(subject, sequence_id=7, sequence_start=True)
    add_sub(subject, sequence_id="a", sequence_end=True)


@CHECKS.add("ModelInfer", "triton_enable_empty_final_response, as perf_analyzer sends it")
def _empty_final_response(subject: Subject) -> None:
    request = _request(subject)
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    subject.send(request)


@CHECKS.add("ModelInfer", "requests compressed with gzip and with deflate")
def _compressed(subject: Subject) -> None:
    for algorithm in ("gzip", "deflate"):
        add_sub(subject, compression_algorithm=algorithm)


@CHECKS.add("ModelInfer", "free dimensions: every request has another shape")
def _dynamic(subject: Subject) -> None:
    for shape in ((1, 1), (1, 9), (7, 2), (33, 5)):
        expect_array("y", subject.infer("identity-fp32", {"x": numbers(*shape)}).as_numpy("y"), numbers(*shape))


@CHECKS.add("ModelInfer", "a million elements")
def _large(subject: Subject) -> None:
    sent = numbers(1000, 1000)
    expect_array("y", subject.infer("identity-fp32", {"x": sent}).as_numpy("y"), sent)


@CHECKS.add("ModelInfer", "dimensions of size 0, in numbers and in strings")
def _zero(subject: Subject) -> None:
    for datatype in ("FP32", "BOOL", "BYTES"):
        for shape in ((0, 3), (3, 0), (0, 0)):
            sent = values(datatype, np.zeros(shape))
            result = subject.infer(f"identity-{datatype.lower()}", {"x": sent})
            expect_array("y", result.as_numpy("y"), sent.array)
    nothing = np.zeros((0, 16), dtype=np.float32)
    expect_add_sub(subject.infer("add-sub", {"a": nothing, "b": nothing}), nothing, nothing)


@CHECKS.add("ModelInfer", "scalars")
def _scalar(subject: Subject) -> None:
    two, three = np.array(2, dtype=np.float32), np.array(3, dtype=np.float32)
    expect_array("y", subject.infer("scalar", {"a": two, "b": three}).as_numpy("y"), np.array(5, dtype=np.float32))


@CHECKS.add("ModelInfer", "scalars in typed contents")
def _typed_scalar(subject: Subject) -> None:
    inputs = [("a", "FP32", [], {"fp32_contents": [2]}), ("b", "FP32", [], {"fp32_contents": [3]})]
    result = triton.InferResult(subject.send(by_hand(subject.model("scalar"), inputs)))
    expect_array("y", result.as_numpy("y"), np.array(5, dtype=np.float32))


@CHECKS.add("ModelInfer", "a model without a free dimension")
def _no_batch(subject: Subject) -> None:
    expect_array("y", subject.infer("no-batch", {"x": numbers(2, 3)}).as_numpy("y"), numbers(2, 3).sum(axis=0))


@CHECKS.add("ModelInfer", "an output whose rank only the request decides")
def _unknown_rank(subject: Subject) -> None:
    for shape in ((6,), (2, 3), (1, 2, 1, 3)):
        sent = {"x": numbers(2, 3), "shape": np.array(shape, dtype=np.int64)}
        expect_array("y", subject.infer("unknown-rank", sent).as_numpy("y"), numbers(*shape))


@CHECKS.add("ModelInfer", "an input with a default may be left out, or given")
def _optional(subject: Subject) -> None:
    x, three = numbers(2, 4), np.array(3, dtype=np.float32)
    expect_array("y", subject.infer("optional-input", {"x": x}).as_numpy("y"), x * 2)
    expect_array("y", subject.infer("optional-input", {"x": x, "scale": three}).as_numpy("y"), x * 3)


@CHECKS.add("ModelInfer", "64 requests at once, of one row to four: each gets its own rows")
def _joined(subject: Subject) -> None:
    sent = [(numbers(1 + at % 4, 16) * at, np.full((1 + at % 4, 16), at, dtype=np.float32)) for at in range(64)]
    for (a, b), result in zip(sent, _at_once(subject, "add-sub", [{"a": a, "b": b} for a, b in sent]), strict=True):
        expect_add_sub(result, a, b)


@CHECKS.add("ModelInfer", "16 at once of a model that looks at the rows beside: never joined")
def _mean_centred(subject: Subject) -> None:
    sent = [numbers(2, 4) ** 2 + at for at in range(16)]
    for x, result in zip(sent, _at_once(subject, "mean-centred", [{"x": x} for x in sent]), strict=True):
        expect_array("y", result.as_numpy("y"), x - x.mean(axis=0, keepdims=True, dtype=np.float32))


@CHECKS.add("ModelInfer", "16 at once of a model whose output counts something else than rows: never joined")
def _nonzero(subject: Subject) -> None:
    sent = [np.eye(4, dtype=np.float32)[[at % 4, (at + 1) % 4]] for at in range(16)]
    for x, result in zip(sent, _at_once(subject, "nonzero", [{"x": x} for x in sent]), strict=True):
        expect_array("y", result.as_numpy("y"), np.argwhere(x))


def _at_once(subject: Subject, model: str, requests: Sequence[dict[str, np.ndarray]]) -> list[triton.InferResult]:
    """The answers in the order of the requests, which are all sent before one is waited for."""
    replies: list[queue.Queue] = [queue.Queue() for _ in requests]
    for arrays, reply in zip(requests, replies, strict=True):
        subject.client.async_infer(
            subject.model(model),
            [tensor(name, array) for name, array in arrays.items()],
            lambda result, error, reply=reply: reply.put((result, error)),
            client_timeout=PATIENCE_S,
        )
    results = [reply.get(timeout=PATIENCE_S) for reply in replies]
    for _, error in results:
        expect(error is None, str(error))
    return [result for result, _ in results]


def _request(subject: Subject, **changes: Any) -> service_pb2.ModelInferRequest:
    """One row for `add-sub`; `changes` replace what `by_hand` is given."""
    inputs = [("a", "FP32", [1, 16], ROW), ("b", "FP32", [1, 16], ROW)]
    given = {"model": subject.model("add-sub"), "inputs": inputs} | changes
    return by_hand(**given)


def _inputs(*more: tuple, a: tuple = ("a", "FP32", [1, 16], ROW)) -> list[tuple]:
    return [a, ("b", "FP32", [1, 16], ROW), *more]


# What is refused: status, what has to be named, and the request.
Refused = tuple[str, str, tuple[str, ...], Callable[[Subject], service_pb2.ModelInferRequest]]
REFUSED: list[Refused] = [
    ("an unknown model", "NOT_FOUND", ("model_name",), lambda s: _request(s, model=s.model("no-such-model"))),
    ("an unknown expert", "NOT_FOUND", ("model_name",), lambda s: _request(s, model="no-such-expert")),
    ("no model", "NOT_FOUND", ("model_name",), lambda s: _request(s, model="")),
    ("an unknown version", "NOT_FOUND", ("model_version",), lambda s: _request(s, model_version="99")),
    ("a version that is no number", "NOT_FOUND", ("model_version",), lambda s: _request(s, model_version="new")),
    ("an unknown output", "INVALID_ARGUMENT", ("outputs[no]",), lambda s: _request(s, outputs=["sum", "no"])),
    ("an output twice", "INVALID_ARGUMENT", ("outputs[",), lambda s: _request(s, outputs=["sum", "sum"])),
    (
        "another datatype",
        "INVALID_ARGUMENT",
        ("inputs[a].datatype",),
        lambda s: _request(s, inputs=_inputs(a=("a", "INT32", [1, 16], ROW))),
    ),
    (
        "a datatype that there is not",
        "INVALID_ARGUMENT",
        ("inputs[a].datatype",),
        lambda s: _request(s, inputs=_inputs(a=("a", "FP128", [1, 16], ROW))),
    ),
    (
        "another width",
        "INVALID_ARGUMENT",
        ("inputs[a].shape",),
        lambda s: _request(s, inputs=_inputs(a=("a", "FP32", [1, 15], ROW[:60]))),
    ),
    (
        "another rank",
        "INVALID_ARGUMENT",
        ("inputs[a].shape",),
        lambda s: _request(s, inputs=_inputs(a=("a", "FP32", [16], ROW))),
    ),
    (
        "a negative dimension",
        "INVALID_ARGUMENT",
        ("inputs[a].shape",),
        lambda s: _request(s, inputs=_inputs(a=("a", "FP32", [-1, 16], ROW))),
    ),
    (
        "bytes that do not fill the shape",
        "INVALID_ARGUMENT",
        ("inputs[a].data",),
        lambda s: _request(s, inputs=_inputs(a=("a", "FP32", [1, 16], ROW[:-1]))),
    ),
    ("a missing input", "INVALID_ARGUMENT", ("inputs[b]",), lambda s: _request(s, inputs=_inputs()[:1])),
    (
        "an input too many",
        "INVALID_ARGUMENT",
        ("inputs[",),
        lambda s: _request(s, inputs=_inputs(("c", "FP32", [1, 16], ROW))),
    ),
    ("an input twice", "INVALID_ARGUMENT", ("inputs[",), lambda s: _request(s, inputs=_inputs(_inputs()[0]))),
    (
        "raw and typed contents in one request",
        "INVALID_ARGUMENT",
        ("raw_input_contents",),
        lambda s: _request(s, inputs=_inputs(a=("a", "FP32", [1, 16], {"fp32_contents": [0] * 16}))),
    ),
    (
        "a number beyond its datatype",
        "INVALID_ARGUMENT",
        ("inputs[x]",),
        lambda s: by_hand(s.model("identity-int8"), [("x", "INT8", [1, 1], {"int_contents": [128]})]),
    ),
    (
        "contents of another field",
        "INVALID_ARGUMENT",
        ("inputs[x]",),
        lambda s: by_hand(s.model("identity-int8"), [("x", "INT8", [1, 1], {"fp32_contents": [1]})]),
    ),
    (
        "typed contents of a datatype that has none",
        "INVALID_ARGUMENT",
        ("inputs[x]",),
        lambda s: by_hand(s.model("identity-fp16"), [("x", "FP16", [1, 1], {"fp32_contents": [1]})]),
    ),
    (
        "a string that is longer than its bytes",
        "INVALID_ARGUMENT",
        ("inputs[x].data",),
        lambda s: by_hand(s.model("identity-bytes"), [("x", "BYTES", [1, 1], b"\xff\xff\xff\x7fa")]),
    ),
    (
        "a string that is no UTF-8",
        "INVALID_ARGUMENT",
        ("inputs[x].data",),
        lambda s: by_hand(s.model("identity-bytes"), [("x", "BYTES", [1, 1], b"\x01\0\0\0\xff")]),
    ),
    (
        "a string with a NUL in it",
        "INVALID_ARGUMENT",
        ("inputs[x].data",),
        lambda s: by_hand(s.model("identity-bytes"), [("x", "BYTES", [1, 1], {"bytes_contents": [b"a\0b"]})]),
    ),
]

for _what, _code, _words, _build in REFUSED:

    def _refused(
        subject: Subject, code: str = _code, words: tuple[str, ...] = _words, build: Callable = _build
    ) -> None:
        subject.refusal(build(subject), code, *words)
        add_sub(subject)

    CHECKS.add("ModelInfer", f"refused by name, {_code}: {_what}")(_refused)


@CHECKS.add("ModelInfer", "refused, UNIMPLEMENTED: an input in shared memory")
def _shared_input(subject: Subject) -> None:
    inputs = [triton.InferInput("a", [1, 16], "FP32"), tensor("b", B[:1])]
    inputs[0].set_shared_memory("region", 64)
    infer = subject.client.infer
    refused(lambda: infer(subject.model("add-sub"), inputs), "UNIMPLEMENTED", "shared_memory_region")


@CHECKS.add("ModelInfer", "refused, UNIMPLEMENTED: an output into shared memory")
def _shared_output(subject: Subject) -> None:
    output = triton.InferRequestedOutput("sum")
    output.set_shared_memory("region", 64)
    call = lambda: subject.infer("add-sub", {"a": A, "b": B}, outputs=[output])  # noqa: E731
    refused(call, "UNIMPLEMENTED", "shared_memory_region")


@CHECKS.add("ModelInfer", "refused, UNIMPLEMENTED: the highest classes of an output")
def _classification(subject: Subject) -> None:
    output = triton.InferRequestedOutput("sum", class_count=3)
    refused(lambda: subject.infer("add-sub", {"a": A, "b": B}, outputs=[output]), "UNIMPLEMENTED", "classification")
