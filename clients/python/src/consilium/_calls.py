"""From arguments to calls: the request, its deadline and its metadata. Nothing here blocks, awaits or sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypedDict, TypeVar

from consilium import _trace
from consilium.v1 import router_pb2, types_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Unpack

# Seconds. More than a mesh's own default, which is 2.
DEFAULT_TIMEOUT = 5.0

# A year. gRPC counts nanoseconds in 64 bits, and beyond it a deadline is none.
_LONGEST_TIMEOUT = 365.0 * 24 * 3600


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


Request = TypeVar("Request")


@dataclass(frozen=True)
class Call(Generic[Request]):
    """What gRPC wants for one call."""

    request: Request
    timeout: float
    metadata: tuple[tuple[str, str], ...]


class Calls:
    """Makes the calls of one client. `timeout` is in seconds, and holds where a call has none of its own."""

    def __init__(self, timeout: float) -> None:
        self._timeout = _checked(timeout)

    def ask(self, query: str | types_pb2.Query, **said: Unpack[Asking]) -> Call[router_pb2.DispatchRequest]:
        """A call of `Dispatch`."""
        return self._call(router_pb2.DispatchRequest(**_parts(query, said)), said.get("timeout"))

    def explain(self, query: str | types_pb2.Query, **said: Unpack[Asking]) -> Call[router_pb2.ExplainRequest]:
        """A call of `Explain`."""
        return self._call(router_pb2.ExplainRequest(**_parts(query, said)), said.get("timeout"))

    def stream(self, query: str | types_pb2.Query, **said: Unpack[Asking]) -> Call[router_pb2.StreamDispatchRequest]:
        """A call of `StreamDispatch`."""
        return self._call(router_pb2.StreamDispatchRequest(**_parts(query, said)), said.get("timeout"))

    def feedback(
        self,
        about: str | router_pb2.DispatchResponse | router_pb2.Done,
        metrics: Mapping[str, bool | float | str],
        timeout: float | None,
    ) -> Call[router_pb2.SendFeedbackRequest]:
        """A call of `SendFeedback`."""
        token = about if isinstance(about, str) else about.feedback_token
        request = router_pb2.SendFeedbackRequest(
            token=token, metrics=[_metric(name, value) for name, value in metrics.items()]
        )
        return self._call(request, timeout)

    def _call(self, request: Request, timeout: float | None) -> Call[Request]:
        timeout = self._timeout if timeout is None else _checked(timeout)
        return Call(request, timeout, _trace.metadata())


class _Parts(TypedDict):
    """The fields that the requests of all three ways to ask have."""

    query: types_pb2.Query
    context: types_pb2.CallContext
    options: router_pb2.DispatchOptions


def _parts(query: str | types_pb2.Query, said: Asking) -> _Parts:
    unknown = said.keys() - Asking.__optional_keys__
    if unknown:
        raise TypeError(f"no such argument: {', '.join(sorted(unknown))}")
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


def _metric(name: str, value: bool | float | str) -> router_pb2.SendFeedbackRequest.Metric:
    # In this order: to Python, True is a number.
    if isinstance(value, bool):
        return router_pb2.SendFeedbackRequest.Metric(name=name, boolean=value)
    if isinstance(value, str):
        return router_pb2.SendFeedbackRequest.Metric(name=name, text=value)
    return router_pb2.SendFeedbackRequest.Metric(name=name, number=value)


def _checked(timeout: float) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"a timeout is a number of seconds, not {type(timeout).__name__}")
    if not 0 < timeout <= _LONGEST_TIMEOUT:  # Nor is NaN.
        raise ValueError(f"a timeout is more than 0 seconds and at most a year, not {timeout}")
    return float(timeout)
