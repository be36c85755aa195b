"""The server under test, as seen by Triton's Python client, and the requests that the checks send it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from report import ConformanceError, expect, expect_equal

# What any single call may take. Generous: a busy machine is not what the checks are about.
PATIENCE_S = 60.0


@dataclass
class Subject:
    """An expert or a router, and how to talk to it."""

    address: str
    prefix: str
    """The expert that has the repository of fixtures."""
    kind: str
    """`expert` or `router`"""
    repository: Path | None = None
    """Where the expert reads its models; only there can one see how it loads another version."""

    def __post_init__(self) -> None:
        self.client = triton.InferenceServerClient(self.address)
        # For requests that the client has no words for, and for what it drops of an error: messages by hand.
        self._channel = grpc.insecure_channel(self.address, options=[("grpc.max_receive_message_length", -1)])
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def model(self, name: str) -> str:
        """The full name of a model of the repository."""
        return f"{self.prefix}.{name}"

    def infer(self, model: str, arrays: Mapping[str, Any], **options: Any) -> triton.InferResult:
        """One request through the client; of `arrays` each is what `tensor` takes."""
        inputs = [tensor(name, array) for name, array in arrays.items()]
        return self.client.infer(self.model(model), inputs, client_timeout=PATIENCE_S, **options)

    def send(self, request: service_pb2.ModelInferRequest) -> service_pb2.ModelInferResponse:
        """One message by hand."""
        return self.stub.ModelInfer(request, timeout=PATIENCE_S)

    def send_on_stream(self, *requests: service_pb2.ModelInferRequest) -> list[service_pb2.ModelStreamInferResponse]:
        """Messages by hand on a stream of their own; all replies."""
        return list(self.stub.ModelStreamInfer(iter(requests), timeout=PATIENCE_S))

    @contextmanager
    def stream(self, **options: Any) -> Iterator[tuple[triton.InferenceServerClient, Callable[[], Any]]]:
        """A stream of the client's, and a function that waits for the next reply: a result, or the error itself."""
        # A client has one stream at most.
        client = triton.InferenceServerClient(self.address)
        replies: queue.Queue[Any] = queue.Queue()
        client.start_stream(lambda result, error: replies.put(error or result), stream_timeout=PATIENCE_S, **options)
        try:
            yield client, lambda: replies.get(timeout=PATIENCE_S)
        finally:
            client.stop_stream()
            client.close()

    def refusal(self, request: service_pb2.ModelInferRequest, code: str, *words: str) -> None:
        """Wants the request refused with this code, and with `words` in the message or in its details."""
        refused(lambda: self.send(request), code, *words)


@dataclass(frozen=True)
class Typed:
    """A tensor whose datatype is said, because its array cannot tell."""

    datatype: str
    array: np.ndarray


def values(datatype: str, content: Any) -> Typed:
    """A tensor of the array that this generation of the client wants for `datatype`; for BF16 they differ."""
    return Typed(datatype, np.array(content, dtype=triton_to_np_dtype(datatype)))


def tensor(name: str, array: np.ndarray | Typed) -> triton.InferInput:
    """An input of the client's."""
    typed = array if isinstance(array, Typed) else Typed(np_to_triton_dtype(array.dtype), array)
    built = triton.InferInput(name, list(typed.array.shape), typed.datatype)
    built.set_data_from_numpy(typed.array)
    return built


def by_hand(
    model: str, inputs: Sequence[tuple[str, str, Sequence[int], Any]], outputs: Sequence[str] = (), **fields: Any
) -> service_pb2.ModelInferRequest:
    """A message of inputs (name, datatype, shape, data); data are bytes for raw contents, or `{field: values}`."""
    request = service_pb2.ModelInferRequest(model_name=model, **fields)
    for name, datatype, shape, data in inputs:
        built = request.inputs.add(name=name, datatype=datatype, shape=shape)
        if isinstance(data, bytes):
            request.raw_input_contents.append(data)
        else:
            for field, content in data.items():
                getattr(built.contents, field).extend(content)
    for name in outputs:
        request.outputs.add(name=name)
    return request


def refused(call: Callable[[], Any], code: str, *words: str) -> None:
    """Wants the call to fail with this status, and with `words` in the message or in its details."""
    try:
        call()
    except grpc.RpcError as error:
        expect_equal("the status", error.code().name, code)
        details = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
        said = (error.details() or "").encode() + b"".join(details)
    except triton.InferenceServerException as error:
        expect_equal("the status", error.status(), f"StatusCode.{code}")
        said = error.message().encode()
    else:
        raise ConformanceError(f"the answer is OK; expected {code}")
    for word in words:
        expect(word.encode() in said, f"`{word}` is not named in: {said.decode(errors='replace')}")


def expect_array(what: str, got: np.ndarray | None, wanted: np.ndarray) -> None:
    """Wants the same type, shape and values, bit for bit: NaN and -0 too."""
    if got is None:
        raise ConformanceError(f"{what} is missing")
    expect_equal(f"the type of {what}", got.dtype, wanted.dtype)
    expect_equal(f"the shape of {what}", got.shape, wanted.shape)
    same = got.tolist() == wanted.tolist() if wanted.dtype == np.object_ else got.tobytes() == wanted.tobytes()
    expect(same, f"{what} is {shortened(got)}; expected {shortened(wanted)}")


def shortened(array: np.ndarray) -> str:
    """The array in a line."""
    return np.array2string(array, threshold=12, separator=",").replace("\n", "")
