"""The client that blocks. `aio` has its twin for asyncio; what both share lies in `_calls` and `_channel`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import grpc

from consilium import _channel, errors
from consilium._calls import DEFAULT_TIMEOUT, Calls
from consilium.v1 import router_pb2, router_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from grpc import UnaryStreamMultiCallable as _Streaming
    from grpc import UnaryUnaryMultiCallable as _Unary
    from opentelemetry.propagators.textmap import TextMapPropagator
    from typing_extensions import Self, Unpack

    from consilium._calls import Asking, Call
    from consilium._channel import ChannelOption
    from consilium.v1 import types_pb2

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Client:
    """A connection to the routers of a mesh. Make one and keep it; threads may share it.

        with Client("127.0.0.1:7600") as client:
            reply = client.ask("Scaly itchy patches on both elbows", attributes={"audience": "clinician"})

    Args:
        target: Where the routers are, as gRPC writes it: `host:port`, or `dns:///name:port` for all of its addresses.
        timeout: Seconds that a call may take, all attempts together, unless it says otherwise. No call has none.
        credentials: Of TLS, such as `grpc.ssl_channel_credentials()`. Without them everything travels in plaintext.
        plaintext: That this is meant. Not needed where `target` is this machine: `localhost`, 127.0.0.0/8, `[::1]` or
            `unix:`.
        propagator: Of OpenTelemetry, for the trace context; otherwise the one that the program has chosen, or else
            W3C's, without baggage.
        channel_options: More settings for gRPC's channel; they win over those that this package makes.

    Raises:
        ValueError: The timeout is not a positive number, or neither `credentials` nor `plaintext` is given for a target
            that is not this machine.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        credentials: grpc.ChannelCredentials | None = None,
        plaintext: bool = False,
        propagator: TextMapPropagator | None = None,
        channel_options: Sequence[ChannelOption] = (),
    ) -> None:
        self._calls = Calls(timeout, propagator)
        self._closed = False
        _channel.check_security(target, credentials, plaintext=plaintext)
        options = _channel.options(target, channel_options)
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            self._channel = grpc.secure_channel(target, credentials, options)
        stub = router_pb2_grpc.RouterServiceStub(self._channel)
        self._dispatch: _Unary[router_pb2.DispatchRequest, router_pb2.DispatchResponse] = stub.Dispatch
        self._explain: _Unary[router_pb2.ExplainRequest, router_pb2.ExplainResponse] = stub.Explain
        self._stream: _Streaming[router_pb2.StreamDispatchRequest, router_pb2.StreamDispatchResponse] = (
            stub.StreamDispatch
        )
        self._send_feedback: _Unary[router_pb2.SendFeedbackRequest, router_pb2.SendFeedbackResponse] = stub.SendFeedback

    def ask(self, query: str | types_pb2.Query, **said: Unpack[Asking]) -> router_pb2.DispatchResponse:
        """Asks, and waits for the answer. `Asking` lists what can be said with the query.

        Raises:
            ConsiliumError: The call failed. A refusal is no failure: see `reply.decision.outcome`.
        """
        return self._finished(self._dispatch, self._calls.ask(query, **said))

    def explain(self, query: str | types_pb2.Query, **said: Unpack[Asking]) -> router_pb2.ExplainResponse:
        """What `ask` would do with the same arguments, and why, without asking any expert.

        Raises:
            ConsiliumError: The call failed.
        """
        return self._finished(self._explain, self._calls.explain(query, **said))

    def stream(self, query: str | types_pb2.Query, **said: Unpack[Asking]) -> Stream:
        """Asks, and gives events as they happen: the decision, pieces of text, each expert's reply, and the end.

        The deadline is that of the whole stream. Errors are raised by the iteration.

        Raises:
            ConsiliumError: The client is closed.
        """
        call = self._calls.stream(query, **said)
        with self._open():
            return Stream(self._stream(call.request, timeout=call.timeout, metadata=call.metadata))

    def feedback(
        self,
        about: str | router_pb2.DispatchResponse | router_pb2.Done,
        metrics: Mapping[str, bool | float | str],
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str | bytes] | None = None,
    ) -> router_pb2.SendFeedbackResponse:
        """Says how good an answer was: `client.feedback(reply, {"helpful": True, "rating": 4})`.

        Args:
            about: The reply, the `Done` of a stream, or the `feedback_token` that either had.
            metrics: What the mesh declares under `feedback`, by name.
            timeout: Seconds, instead of the client's own.
            metadata: What gRPC is to send along, as in `Asking`.

        Raises:
            ConsiliumError: The call failed; `violations` names the metrics that were wrong.
        """
        call = self._calls.feedback(about, metrics, timeout, metadata)
        return self._finished(self._send_feedback, call)

    def close(self) -> None:
        """Closes the connection. Calls that still run, and those made later, fail as `CANCELLED`."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _finished(self, method: _Unary[Request, Reply], call: Call[Request]) -> Reply:
        with self._open():
            try:
                return method(call.request, timeout=call.timeout, metadata=call.metadata)
            except grpc.RpcError as error:
                raise errors.from_rpc(error) from error

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Around the start of a call, for which a closed channel has an error of Python's."""
        if self._closed:
            raise errors.closed()
        try:
            yield
        except ValueError as error:
            if self._closed:  # By another thread, since it was looked at.
                raise errors.closed() from error
            raise


class Stream(Iterator[router_pb2.StreamDispatchResponse]):
    """The events of one query, in order. A stream that is closed or forgotten before its end is cancelled.

        for event in client.stream(query):
            print(event.WhichOneof("event"))

    Raises (from the iteration):
        ConsiliumError: The stream ended with an error, after the events that were known by then.
    """

    def __init__(self, call: grpc._CallIterator[router_pb2.StreamDispatchResponse]) -> None:
        self._call = call
        self._closed = False

    def __next__(self) -> router_pb2.StreamDispatchResponse:
        if self._closed:
            raise StopIteration
        try:
            return next(self._call)
        except grpc.RpcError as error:
            if self._closed:  # By another thread, while this one waited for an event.
                raise StopIteration from None
            raise errors.from_rpc(error) from error

    def close(self) -> None:
        """Cancels the call, unless it is over. The iteration ends."""
        self._closed = True
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
