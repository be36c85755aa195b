"""What a call can fail with, read from gRPC's status and its details."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Metadata = Iterable[tuple[str, str | bytes]]

_DOMAIN = "consilium.dev"
_DETAILS = "grpc-status-details-bin"
_REQUEST_ID = "consilium-request-id"
_PUSHBACK = "grpc-retry-pushback-ms"


class Violation(NamedTuple):
    """A field of the request, and what is wrong with it."""

    field: str
    problem: str


class ConsiliumError(Exception):
    """A call failed. `__cause__` is gRPC's own error; a client that was closed before has none.

    A refusal is no error: when nobody in the mesh knows the subject, the reply says so in `reply.decision.outcome`.

    Attributes:
        code: gRPC's status code.
        message: For people; never contains the query.
        reason: For programs, one of those in `docs/errors.md`, such as `NO_LIVE_INSTANCE`. `None` if the call failed
            before a Consilium server saw it, or on its way back.
        request_id: What the router calls this request in its log; `None` if none answered.
        violations: Every field that was wrong.
        retry_after: Seconds after which another try may succeed; `None` if the server names no such time.
        metadata: The facts that belong to `reason`, such as the names of experts.
    """

    code: grpc.StatusCode
    message: str
    reason: str | None
    request_id: str | None
    violations: tuple[Violation, ...]
    retry_after: float | None
    metadata: dict[str, str]

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str | None = None,
        request_id: str | None = None,
        violations: Iterable[Violation] = (),
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        # Only these two are positional, because unpickling calls the class with them and then restores the attributes.
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.reason = reason
        self.request_id = request_id
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})
        self._forbidden = False

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later or elsewhere: the server says so, or none of ours was reached.

        False in any case if a server has said that there is no use. The attempts that the service config allows have
        been made by then.
        """
        nobody_there = self.code is grpc.StatusCode.UNAVAILABLE and self.reason is None
        return not self._forbidden and (self.retry_after is not None or nobody_there)

    def __str__(self) -> str:
        """`CODE REASON: message (request …)`. The servers' messages name the fields that were wrong."""
        words = " ".join(word for word in (self.code.name, self.reason) if word)
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{words}: {self.message}{request}"


def from_rpc(error: grpc.RpcError) -> ConsiliumError:
    """Reads the error that a call of `grpc` or `grpc.aio` raised."""
    # `grpc.RpcError` declares nothing; what is raised is always a `grpc.Call` or a `grpc.aio.AioRpcError` as well, and
    # those agree on these four methods.
    call: Any = error
    trailers, headers = _metadata(call.trailing_metadata()), _metadata(call.initial_metadata())
    read = ConsiliumError(
        call.code(),
        call.details() or "",
        request_id=_text(trailers.get(_REQUEST_ID) or headers.get(_REQUEST_ID)),
    )
    for detail in _details(trailers.get(_DETAILS)):
        _add(read, detail)
    if _forbids_retries(trailers) or _forbids_retries(headers):
        read.retry_after, read._forbidden = None, True
    return read


def closed() -> ConsiliumError:
    """A call of a client that is closed."""
    return ConsiliumError(grpc.StatusCode.CANCELLED, "the client is closed")


def _forbids_retries(metadata: Mapping[str, str | bytes]) -> bool:
    """Whether a server asks that nobody tries again: to gRPC, whatever is no number of milliseconds says so."""
    pushback = metadata.get(_PUSHBACK)
    return pushback is not None and re.fullmatch("[0-9]+", str(pushback)) is None


def _add(error: ConsiliumError, detail: Any) -> None:  # noqa: ANN401 -- google.protobuf.any_pb2.Any
    """Reads one detail into `error`. Kinds that this version does not know, and broken ones, are passed over."""
    info, wrong, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    try:
        if detail.Unpack(info) and info.domain == _DOMAIN:
            error.reason = info.reason or None
            error.metadata = dict(info.metadata)
        elif detail.Unpack(wrong):
            error.violations += tuple(Violation(it.field, it.description) for it in wrong.field_violations)
        elif detail.Unpack(retry):
            delay = retry.retry_delay
            error.retry_after = delay.seconds + delay.nanos / 1e9
    except DecodeError:
        return


def _details(encoded: str | bytes | None) -> Iterable[Any]:
    if not isinstance(encoded, bytes):
        return ()
    try:
        return tuple(status_pb2.Status.FromString(encoded).details)
    except DecodeError:  # Not ours. Code and message are still worth having.
        return ()


def _metadata(pairs: Metadata | None) -> dict[str, str | bytes]:
    # Not `dict(pairs)`: the metadata of `grpc.aio` is a mapping as well, and before grpcio 1.80 a broken one.
    return {name: value for name, value in pairs or ()}  # noqa: C416


def _text(value: str | bytes | None) -> str | None:
    return value if isinstance(value, str) else None
