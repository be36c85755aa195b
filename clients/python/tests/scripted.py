"""A router that does as it is told and remembers what it was asked: a real gRPC server on a port of its own."""

from __future__ import annotations

import threading
from collections import deque
from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import any_pb2
from google.rpc import status_pb2

from consilium.v1 import (
    DispatchResponse,
    Done,
    ExplainResponse,
    SendFeedbackResponse,
    StreamDispatchResponse,
    router_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    Behaviour = Callable[[grpc.ServicerContext], Any]

# How long a test waits for what must happen, in seconds. None waits so long unless it fails.
PATIENCE = 30.0
# The deadline of calls that something else is to end first.
LONG = 3600.0


@dataclass
class Seen:
    """One attempt, as the server saw it."""

    method: str
    request: Any
    metadata: dict[str, str | bytes]
    remaining: float | None


class ScriptedRouter(router_pb2_grpc.RouterServiceServicer):
    """Every attempt takes the next behaviour of `script`; when there is none left it gets an empty reply."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.script: deque[Behaviour] = deque()
        self.seen: list[Seen] = []
        self.holding = threading.Event()
        self.gone = threading.Event()
        # As a router does, it takes longer queries than gRPC would.
        options = [("grpc.max_receive_message_length", 16 * 1024 * 1024)]
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=options)
        router_pb2_grpc.add_RouterServiceServicer_to_server(self, self._server)
        if credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.target = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

    def Dispatch(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._behave("Dispatch", request, context, DispatchResponse())

    def Explain(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._behave("Explain", request, context, ExplainResponse())

    def SendFeedback(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._behave("SendFeedback", request, context, SendFeedbackResponse())

    def StreamDispatch(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._behave("StreamDispatch", request, context, iter([StreamDispatchResponse(done=Done())]))

    def _behave(self, method: str, request: Any, context: grpc.ServicerContext, otherwise: Any) -> Any:
        metadata = {name: value for name, value in context.invocation_metadata()}  # noqa: C416 -- pairs, not tuples
        self.seen.append(Seen(method, request, metadata, context.time_remaining()))
        return self.script.popleft()(context) if self.script else otherwise

    # What a script is made of.

    def hold(self, context: grpc.ServicerContext) -> Any:
        """Does not answer, and notices when the caller has gone."""
        context.add_callback(self.gone.set)
        self.holding.set()
        self.gone.wait()  # At the latest, the end of the test ends the call.
        return DispatchResponse()

    def events_then_hold(self, *events: StreamDispatchResponse) -> Behaviour:
        """Sends the events, then nothing, and notices when the caller has gone."""

        def behave(context: grpc.ServicerContext) -> Iterator[StreamDispatchResponse]:
            context.add_callback(self.gone.set)
            yield from events
            self.holding.set()
            self.gone.wait()

        return behave


def say(reply: Message) -> Behaviour:
    return lambda _context: reply


def fail(
    code: grpc.StatusCode,
    message: str = "no",
    details: tuple[Message, ...] = (),
    trailers: tuple[tuple[str, str | bytes], ...] = (),
) -> Behaviour:
    def behave(context: grpc.ServicerContext) -> Any:
        packed = [any_pb2.Any() for _ in details]
        for detail, wrapped in zip(details, packed, strict=True):
            wrapped.Pack(detail)
        encoded = status_pb2.Status(code=code.value[0], message=message, details=packed).SerializeToString()
        own = (("grpc-status-details-bin", encoded),) if details else ()
        context.set_trailing_metadata((*own, *trailers))
        context.abort(code, message)

    return behave


def events(*some: StreamDispatchResponse, then: Behaviour | None = None) -> Behaviour:
    def behave(context: grpc.ServicerContext) -> Iterator[StreamDispatchResponse]:
        yield from some
        if then is not None:
            then(context)

    return behave
