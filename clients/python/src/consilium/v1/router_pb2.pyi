from consilium.v1 import types_pb2 as _types_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Combine(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMBINE_UNSPECIFIED: _ClassVar[Combine]
    COMBINE_BEST: _ClassVar[Combine]
    COMBINE_ALL: _ClassVar[Combine]
COMBINE_UNSPECIFIED: Combine
COMBINE_BEST: Combine
COMBINE_ALL: Combine

class DispatchRequest(_message.Message):
    __slots__ = ("query", "context", "options")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    query: _types_pb2.Query
    context: _types_pb2.CallContext
    options: DispatchOptions
    def __init__(self, query: _Optional[_Union[_types_pb2.Query, _Mapping]] = ..., context: _Optional[_Union[_types_pb2.CallContext, _Mapping]] = ..., options: _Optional[_Union[DispatchOptions, _Mapping]] = ...) -> None: ...

class StreamDispatchRequest(_message.Message):
    __slots__ = ("query", "context", "options")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    query: _types_pb2.Query
    context: _types_pb2.CallContext
    options: DispatchOptions
    def __init__(self, query: _Optional[_Union[_types_pb2.Query, _Mapping]] = ..., context: _Optional[_Union[_types_pb2.CallContext, _Mapping]] = ..., options: _Optional[_Union[DispatchOptions, _Mapping]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("query", "context", "options")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    query: _types_pb2.Query
    context: _types_pb2.CallContext
    options: DispatchOptions
    def __init__(self, query: _Optional[_Union[_types_pb2.Query, _Mapping]] = ..., context: _Optional[_Union[_types_pb2.CallContext, _Mapping]] = ..., options: _Optional[_Union[DispatchOptions, _Mapping]] = ...) -> None: ...

class DispatchOptions(_message.Message):
    __slots__ = ("top_k", "min_confidence", "experts", "versions", "combine", "priority")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    EXPERTS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    COMBINE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    top_k: int
    min_confidence: float
    experts: _containers.RepeatedScalarFieldContainer[str]
    versions: _containers.ScalarMap[str, str]
    combine: Combine
    priority: _types_pb2.Priority
    def __init__(self, top_k: _Optional[int] = ..., min_confidence: _Optional[float] = ..., experts: _Optional[_Iterable[str]] = ..., versions: _Optional[_Mapping[str, str]] = ..., combine: _Optional[_Union[Combine, str]] = ..., priority: _Optional[_Union[_types_pb2.Priority, str]] = ...) -> None: ...

class DispatchResponse(_message.Message):
    __slots__ = ("request_id", "decision", "replies", "answer", "partial", "feedback_token")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    decision: Decision
    replies: _containers.RepeatedCompositeFieldContainer[Reply]
    answer: _types_pb2.Answer
    partial: bool
    feedback_token: str
    def __init__(self, request_id: _Optional[str] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., replies: _Optional[_Iterable[_Union[Reply, _Mapping]]] = ..., answer: _Optional[_Union[_types_pb2.Answer, _Mapping]] = ..., partial: bool = ..., feedback_token: _Optional[str] = ...) -> None: ...

class StreamDispatchResponse(_message.Message):
    __slots__ = ("decision", "delta", "reply", "done")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    delta: TextDelta
    reply: Reply
    done: Done
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ..., delta: _Optional[_Union[TextDelta, _Mapping]] = ..., reply: _Optional[_Union[Reply, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ...) -> None: ...

class TextDelta(_message.Message):
    __slots__ = ("leg", "text")
    LEG_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    leg: int
    text: str
    def __init__(self, leg: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("request_id", "answer", "partial", "feedback_token")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    answer: _types_pb2.Answer
    partial: bool
    feedback_token: str
    def __init__(self, request_id: _Optional[str] = ..., answer: _Optional[_Union[_types_pb2.Answer, _Mapping]] = ..., partial: bool = ..., feedback_token: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("request_id", "decision", "plan")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    decision: Decision
    plan: Plan
    def __init__(self, request_id: _Optional[str] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("outcome", "reason", "candidates", "dimensions", "rules_matched", "gate_revision", "gate_tier", "elapsed", "unavailable_experts", "calibrated", "truncated", "min_confidence")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[Decision.Outcome]
        OUTCOME_DISPATCHED: _ClassVar[Decision.Outcome]
        OUTCOME_FALLBACK: _ClassVar[Decision.Outcome]
        OUTCOME_REFUSED: _ClassVar[Decision.Outcome]
        OUTCOME_UNAVAILABLE: _ClassVar[Decision.Outcome]
    OUTCOME_UNSPECIFIED: Decision.Outcome
    OUTCOME_DISPATCHED: Decision.Outcome
    OUTCOME_FALLBACK: Decision.Outcome
    OUTCOME_REFUSED: Decision.Outcome
    OUTCOME_UNAVAILABLE: Decision.Outcome
    class Candidate(_message.Message):
        __slots__ = ("expert", "version", "probability", "selected", "reasons")
        EXPERT_FIELD_NUMBER: _ClassVar[int]
        VERSION_FIELD_NUMBER: _ClassVar[int]
        PROBABILITY_FIELD_NUMBER: _ClassVar[int]
        SELECTED_FIELD_NUMBER: _ClassVar[int]
        REASONS_FIELD_NUMBER: _ClassVar[int]
        expert: str
        version: str
        probability: float
        selected: bool
        reasons: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, expert: _Optional[str] = ..., version: _Optional[str] = ..., probability: _Optional[float] = ..., selected: bool = ..., reasons: _Optional[_Iterable[str]] = ...) -> None: ...
    class Dimension(_message.Message):
        __slots__ = ("name", "values", "source")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VALUES_FIELD_NUMBER: _ClassVar[int]
        SOURCE_FIELD_NUMBER: _ClassVar[int]
        name: str
        values: _containers.RepeatedCompositeFieldContainer[Decision.Value]
        source: str
        def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[_Union[Decision.Value, _Mapping]]] = ..., source: _Optional[str] = ...) -> None: ...
    class Value(_message.Message):
        __slots__ = ("value", "probability")
        VALUE_FIELD_NUMBER: _ClassVar[int]
        PROBABILITY_FIELD_NUMBER: _ClassVar[int]
        value: str
        probability: float
        def __init__(self, value: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    RULES_MATCHED_FIELD_NUMBER: _ClassVar[int]
    GATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    GATE_TIER_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_EXPERTS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    MIN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    outcome: Decision.Outcome
    reason: str
    candidates: _containers.RepeatedCompositeFieldContainer[Decision.Candidate]
    dimensions: _containers.RepeatedCompositeFieldContainer[Decision.Dimension]
    rules_matched: _containers.RepeatedScalarFieldContainer[str]
    gate_revision: str
    gate_tier: str
    elapsed: _duration_pb2.Duration
    unavailable_experts: _containers.RepeatedScalarFieldContainer[str]
    calibrated: bool
    truncated: bool
    min_confidence: float
    def __init__(self, outcome: _Optional[_Union[Decision.Outcome, str]] = ..., reason: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[Decision.Candidate, _Mapping]]] = ..., dimensions: _Optional[_Iterable[_Union[Decision.Dimension, _Mapping]]] = ..., rules_matched: _Optional[_Iterable[str]] = ..., gate_revision: _Optional[str] = ..., gate_tier: _Optional[str] = ..., elapsed: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., unavailable_experts: _Optional[_Iterable[str]] = ..., calibrated: bool = ..., truncated: bool = ..., min_confidence: _Optional[float] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("stages",)
    class Stage(_message.Message):
        __slots__ = ("legs",)
        LEGS_FIELD_NUMBER: _ClassVar[int]
        legs: _containers.RepeatedCompositeFieldContainer[Plan.Leg]
        def __init__(self, legs: _Optional[_Iterable[_Union[Plan.Leg, _Mapping]]] = ...) -> None: ...
    class Leg(_message.Message):
        __slots__ = ("expert", "version", "budget", "live_instances")
        EXPERT_FIELD_NUMBER: _ClassVar[int]
        VERSION_FIELD_NUMBER: _ClassVar[int]
        BUDGET_FIELD_NUMBER: _ClassVar[int]
        LIVE_INSTANCES_FIELD_NUMBER: _ClassVar[int]
        expert: str
        version: str
        budget: _duration_pb2.Duration
        live_instances: int
        def __init__(self, expert: _Optional[str] = ..., version: _Optional[str] = ..., budget: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., live_instances: _Optional[int] = ...) -> None: ...
    STAGES_FIELD_NUMBER: _ClassVar[int]
    stages: _containers.RepeatedCompositeFieldContainer[Plan.Stage]
    def __init__(self, stages: _Optional[_Iterable[_Union[Plan.Stage, _Mapping]]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("expert", "version", "instance", "answer", "failure", "attempts", "timings")
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    expert: str
    version: str
    instance: str
    answer: _types_pb2.Answer
    failure: _types_pb2.Failure
    attempts: _containers.RepeatedCompositeFieldContainer[_types_pb2.Attempt]
    timings: _types_pb2.Timings
    def __init__(self, expert: _Optional[str] = ..., version: _Optional[str] = ..., instance: _Optional[str] = ..., answer: _Optional[_Union[_types_pb2.Answer, _Mapping]] = ..., failure: _Optional[_Union[_types_pb2.Failure, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[_types_pb2.Attempt, _Mapping]]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ...) -> None: ...

class SendFeedbackRequest(_message.Message):
    __slots__ = ("token", "metrics")
    class Metric(_message.Message):
        __slots__ = ("name", "boolean", "number", "text")
        NAME_FIELD_NUMBER: _ClassVar[int]
        BOOLEAN_FIELD_NUMBER: _ClassVar[int]
        NUMBER_FIELD_NUMBER: _ClassVar[int]
        TEXT_FIELD_NUMBER: _ClassVar[int]
        name: str
        boolean: bool
        number: float
        text: str
        def __init__(self, name: _Optional[str] = ..., boolean: bool = ..., number: _Optional[float] = ..., text: _Optional[str] = ...) -> None: ...
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    token: str
    metrics: _containers.RepeatedCompositeFieldContainer[SendFeedbackRequest.Metric]
    def __init__(self, token: _Optional[str] = ..., metrics: _Optional[_Iterable[_Union[SendFeedbackRequest.Metric, _Mapping]]] = ...) -> None: ...

class SendFeedbackResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
