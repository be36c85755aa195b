from consilium.v1 import types_pb2 as _types_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InferRequest(_message.Message):
    __slots__ = ("expert", "query", "context", "embedding")
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    expert: str
    query: _types_pb2.Query
    context: _types_pb2.CallContext
    embedding: _types_pb2.Embedding
    def __init__(self, expert: _Optional[str] = ..., query: _Optional[_Union[_types_pb2.Query, _Mapping]] = ..., context: _Optional[_Union[_types_pb2.CallContext, _Mapping]] = ..., embedding: _Optional[_Union[_types_pb2.Embedding, _Mapping]] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("answer", "timings", "expert", "version", "instance")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    answer: _types_pb2.Answer
    timings: _types_pb2.Timings
    expert: str
    version: str
    instance: str
    def __init__(self, answer: _Optional[_Union[_types_pb2.Answer, _Mapping]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ..., expert: _Optional[str] = ..., version: _Optional[str] = ..., instance: _Optional[str] = ...) -> None: ...

class StreamInferRequest(_message.Message):
    __slots__ = ("expert", "query", "context", "embedding")
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    expert: str
    query: _types_pb2.Query
    context: _types_pb2.CallContext
    embedding: _types_pb2.Embedding
    def __init__(self, expert: _Optional[str] = ..., query: _Optional[_Union[_types_pb2.Query, _Mapping]] = ..., context: _Optional[_Union[_types_pb2.CallContext, _Mapping]] = ..., embedding: _Optional[_Union[_types_pb2.Embedding, _Mapping]] = ...) -> None: ...

class StreamInferResponse(_message.Message):
    __slots__ = ("delta", "done")
    DELTA_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    delta: str
    done: InferResponse
    def __init__(self, delta: _Optional[str] = ..., done: _Optional[_Union[InferResponse, _Mapping]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("expert",)
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    expert: str
    def __init__(self, expert: _Optional[str] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("card", "instance", "epoch", "knowledge_revision")
    CARD_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    KNOWLEDGE_REVISION_FIELD_NUMBER: _ClassVar[int]
    card: _types_pb2.Card
    instance: str
    epoch: str
    knowledge_revision: str
    def __init__(self, card: _Optional[_Union[_types_pb2.Card, _Mapping]] = ..., instance: _Optional[str] = ..., epoch: _Optional[str] = ..., knowledge_revision: _Optional[str] = ...) -> None: ...
