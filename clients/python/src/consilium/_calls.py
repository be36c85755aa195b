"""From arguments to calls: the request, its deadline and its metadata. Nothing here blocks, awaits or sends."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Generic, TypedDict, TypeVar

from consilium import _trace
from consilium.v1 import router_pb2, types_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opentelemetry.propagators.textmap import TextMapPropagator
    from typing_extensions import Unpack

# Seconds. More than a mesh's own default, which is 2.
DEFAULT_TIMEOUT = 5.0

# A year. gRPC counts nanoseconds in 64 bits, and beyond it a deadline is none.
_LONGEST_TIMEOUT = 365.0 * 24 * 3600

# As HTTP/2 has them, and not those with which gRPC says what is its own, such as the deadline.
_METADATA_NAME = re.compile("(?!grpc-)[0-9a-z_.-]+")
_METADATA_TEXT = re.compile("[ -~]*")


class Asking(TypedDict, total=False):
    """What can be said with a query. All of it is optional; what is not said is as the mesh has it.

    Attributes:
        attributes: Values of declared dimensions, one or several each: `{"audience": "patient"}`.
        labels: Free-form facts, which only rules read.
        top_k: At most so many experts, 1 to 16.
        min_confidence: The least probability at which an expert is chosen, 0 to 1.
        experts: Only these, by name.
        versions: Versions to use, by expert.
        combine: How several answers become one: `COMBINE_BEST` or `COMBINE_ALL`, of `consilium.v1`.
        priority: Which calls give way under pressure: `PRIORITY_CRITICAL`, `_INTERACTIVE`, `_BATCH` or `_BACKGROUND`.
        request_id: An id of your own for the request; otherwise the router makes one.
        tenant: Who pays.
        tier: What they pay for.
        subject: On whose behalf.
        purpose: What for, such as `treatment` or `research`.
        timeout: Seconds that this call may take, all attempts together, instead of the client's own.
        metadata: What gRPC is to send along, such as `{"authorization": "Bearer …"}`: printable ASCII, or `bytes` where
            the name ends in `-bin`.
    """

    attributes: Mapping[str, str | Iterable[str]] | None
    labels: Mapping[str, str] | None
    top_k: int | None
    min_confidence: float | None
    experts: str | Iterable[str] | None
    versions: Mapping[str, str] | None
    combine: router_pb2.Combine | str | None
    priority: types_pb2.Priority | str | None
    request_id: str | None
    tenant: str | None
    tier: str | None
    subject: str | None
    purpose: str | None
    timeout: float | None
    metadata: Mapping[str, str | bytes] | None


Request = TypeVar("Request")


@dataclass(frozen=True)
class Call(Generic[Request]):
    """What gRPC wants for one call."""

    request: Request
    timeout: float
    metadata: tuple[tuple[str, str | bytes], ...]


class Calls:
    """Makes the calls of one client. `timeout` is in seconds, and holds where a call has none of its own."""

    def __init__(self, timeout: float, propagator: TextMapPropagator | None) -> None:
        self._timeout = _checked(timeout)
        self._propagator = propagator

    def ask(self, query: str | types_pb2.Query, **said: Unpack[Asking]) -> Call[router_pb2.DispatchRequest]:
        """A call of `Dispatch`."""
        return self._call(router_pb2.DispatchRequest(**_parts(query, said)), said)

    def explain(self, query: str | types_pb2.Query, **said: Unpack[Asking]) -> Call[router_pb2.ExplainRequest]:
        """A call of `Explain`."""
        return self._call(router_pb2.ExplainRequest(**_parts(query, said)), said)

    def stream(self, query: str | types_pb2.Query, **said: Unpack[Asking]) -> Call[router_pb2.StreamDispatchRequest]:
        """A call of `StreamDispatch`."""
        return self._call(router_pb2.StreamDispatchRequest(**_parts(query, said)), said)

    def feedback(
        self,
        about: str | router_pb2.DispatchResponse | router_pb2.Done,
        metrics: Mapping[str, bool | float | str],
        timeout: float | None,
        metadata: Mapping[str, str | bytes] | None,
    ) -> Call[router_pb2.SendFeedbackRequest]:
        """A call of `SendFeedback`."""
        token = about if isinstance(about, str) else about.feedback_token
        with _in_utf8():
            request = router_pb2.SendFeedbackRequest(
                token=token, metrics=[_metric(name, value) for name, value in metrics.items()]
            )
        return self._call(request, {"timeout": timeout, "metadata": metadata})

    def _call(self, request: Request, said: Asking) -> Call[Request]:
        timeout = said.get("timeout")
        timeout = self._timeout if timeout is None else _checked(timeout)
        # gRPC refuses names in upper case.
        own = {name.lower(): value for name, value in (said.get("metadata") or {}).items()}
        sent = {**own, **_trace.metadata(self._propagator)}
        for name, value in sent.items():
            _check_metadata(name, value)
        return Call(request, timeout, tuple(sent.items()))


class _Parts(TypedDict):
    """The fields that the requests of all three ways to ask have."""

    query: types_pb2.Query
    context: types_pb2.CallContext
    options: router_pb2.DispatchOptions


def _parts(query: str | types_pb2.Query, said: Asking) -> _Parts:
    unknown = said.keys() - Asking.__optional_keys__
    if unknown:
        raise TypeError(f"no such argument: {', '.join(sorted(unknown))}")
    with _in_utf8():
        return {
            "query": _query(query, said),
            "context": types_pb2.CallContext(
                request_id=said.get("request_id"),
                tenant=said.get("tenant"),
                tier=said.get("tier"),
                subject=said.get("subject"),
                purpose=said.get("purpose"),
            ),
            "options": router_pb2.DispatchOptions(
                top_k=said.get("top_k"),
                min_confidence=said.get("min_confidence"),
                experts=_several(said.get("experts") or ()),
                versions=said.get("versions"),
                combine=said.get("combine"),
                priority=said.get("priority"),
            ),
        }


def _query(query: str | types_pb2.Query, said: Asking) -> types_pb2.Query:
    attributes, labels = said.get("attributes"), said.get("labels")
    if isinstance(query, types_pb2.Query):
        if attributes is not None or labels is not None:
            raise TypeError("a Query has attributes and labels of its own: say them there")
        return query
    if not isinstance(query, str):
        raise TypeError(f"a query is a text or a Query, not {type(query).__name__}")
    return types_pb2.Query(
        text=query,
        attributes={name: types_pb2.Values(values=_several(values)) for name, values in (attributes or {}).items()},
        labels=labels,
    )


def _several(values: str | Iterable[str]) -> list[str]:
    """A text is one value, although Python would iterate over its letters."""
    return [values] if isinstance(values, str) else list(values)


@contextmanager
def _in_utf8() -> Iterator[None]:
    """Python's own error for a text that has no UTF-8 carries the whole text, and so the query."""
    try:
        yield
    except UnicodeEncodeError:
        raise ValueError("a text has half of a surrogate pair, which no UTF-8 can carry") from None


def _metric(name: str, value: bool | float | str) -> router_pb2.SendFeedbackRequest.Metric:
    # In this order: to Python, True is a number.
    if isinstance(value, bool):
        return router_pb2.SendFeedbackRequest.Metric(name=name, boolean=value)
    if isinstance(value, str):
        return router_pb2.SendFeedbackRequest.Metric(name=name, text=value)
    if isinstance(value, Real):
        return router_pb2.SendFeedbackRequest.Metric(name=name, number=float(value))
    raise TypeError(f"the metric {name} is a bool, a number or a text, not {type(value).__name__}")


def _check_metadata(name: str, value: str | bytes) -> None:
    """Says which entry is wrong, as gRPC would not; and no value, which is a secret more often than not."""
    if not _METADATA_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of metadata: letters, digits, `_`, `-` and `.`, not beginning with `grpc-`"
        )
    wanted = bytes if name.endswith("-bin") else str
    if not isinstance(value, wanted):
        raise TypeError(f"the metadata {name} is {wanted.__name__}, not {type(value).__name__}")
    if isinstance(value, str) and not _METADATA_TEXT.fullmatch(value):
        raise ValueError(f"the metadata {name} is not printable ASCII; bytes go under a name that ends in `-bin`")


def _checked(timeout: float) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"a timeout is a number of seconds, not {type(timeout).__name__}")
    if not 0 < timeout <= _LONGEST_TIMEOUT:  # Nor is NaN.
        raise ValueError(f"a timeout is more than 0 seconds and at most a year, not {timeout}")
    return float(timeout)
