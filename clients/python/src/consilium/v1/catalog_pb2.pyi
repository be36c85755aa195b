from consilium.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListExpertsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListExpertsResponse(_message.Message):
    __slots__ = ("catalog",)
    CATALOG_FIELD_NUMBER: _ClassVar[int]
    catalog: Catalog
    def __init__(self, catalog: _Optional[_Union[Catalog, _Mapping]] = ...) -> None: ...

class WatchExpertsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchExpertsResponse(_message.Message):
    __slots__ = ("catalog",)
    CATALOG_FIELD_NUMBER: _ClassVar[int]
    catalog: Catalog
    def __init__(self, catalog: _Optional[_Union[Catalog, _Mapping]] = ...) -> None: ...

class Catalog(_message.Message):
    __slots__ = ("mesh", "revision", "experts")
    MESH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EXPERTS_FIELD_NUMBER: _ClassVar[int]
    mesh: str
    revision: int
    experts: _containers.RepeatedCompositeFieldContainer[Expert]
    def __init__(self, mesh: _Optional[str] = ..., revision: _Optional[int] = ..., experts: _Optional[_Iterable[_Union[Expert, _Mapping]]] = ...) -> None: ...

class Expert(_message.Message):
    __slots__ = ("name", "cards", "instances", "slo")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CARDS_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    SLO_FIELD_NUMBER: _ClassVar[int]
    name: str
    cards: _containers.RepeatedCompositeFieldContainer[_types_pb2.Card]
    instances: _containers.RepeatedCompositeFieldContainer[Instance]
    slo: SloState
    def __init__(self, name: _Optional[str] = ..., cards: _Optional[_Iterable[_Union[_types_pb2.Card, _Mapping]]] = ..., instances: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ..., slo: _Optional[_Union[SloState, _Mapping]] = ...) -> None: ...

class Instance(_message.Message):
    __slots__ = ("id", "version", "address", "state", "track", "zone", "epoch", "in_flight", "software", "expired")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Instance.State]
        STATE_SERVING: _ClassVar[Instance.State]
        STATE_DRAINING: _ClassVar[Instance.State]
        STATE_UNREACHABLE: _ClassVar[Instance.State]
        STATE_EJECTED: _ClassVar[Instance.State]
        STATE_CONNECTING: _ClassVar[Instance.State]
    STATE_UNSPECIFIED: Instance.State
    STATE_SERVING: Instance.State
    STATE_DRAINING: Instance.State
    STATE_UNREACHABLE: Instance.State
    STATE_EJECTED: Instance.State
    STATE_CONNECTING: Instance.State
    class Track(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TRACK_UNSPECIFIED: _ClassVar[Instance.Track]
        TRACK_LIVE: _ClassVar[Instance.Track]
        TRACK_CANARY: _ClassVar[Instance.Track]
        TRACK_SHADOW: _ClassVar[Instance.Track]
    TRACK_UNSPECIFIED: Instance.Track
    TRACK_LIVE: Instance.Track
    TRACK_CANARY: Instance.Track
    TRACK_SHADOW: Instance.Track
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TRACK_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: str
    address: str
    state: Instance.State
    track: Instance.Track
    zone: str
    epoch: str
    in_flight: int
    software: str
    expired: bool
    def __init__(self, id: _Optional[str] = ..., version: _Optional[str] = ..., address: _Optional[str] = ..., state: _Optional[_Union[Instance.State, str]] = ..., track: _Optional[_Union[Instance.Track, str]] = ..., zone: _Optional[str] = ..., epoch: _Optional[str] = ..., in_flight: _Optional[int] = ..., software: _Optional[str] = ..., expired: bool = ...) -> None: ...

class SloState(_message.Message):
    __slots__ = ("slo", "good", "total")
    SLO_FIELD_NUMBER: _ClassVar[int]
    GOOD_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    slo: _types_pb2.Slo
    good: int
    total: int
    def __init__(self, slo: _Optional[_Union[_types_pb2.Slo, _Mapping]] = ..., good: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...
