"""How a channel to a router is set up: limits, keepalive, retries. The same for both clients."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from consilium._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    ChannelOption = tuple[str, str | int]

# A router's reply may hold the answers of four experts, 8 MiB each; gRPC would refuse what is over 4 MiB.
_MAX_REPLY_BYTES = 32 * 1024 * 1024


def options(extra: Sequence[ChannelOption]) -> list[ChannelOption]:
    """The settings of gRPC's channel; those of the application, `extra`, win."""
    ours: list[ChannelOption] = [
        ("grpc.primary_user_agent", f"consilium-python/{__version__}"),
        ("grpc.service_config", service_config()),
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", _MAX_REPLY_BYTES),
        # A path that swallows packets looks like a slow server. Without pings the connection, and every call on it,
        # would wait for TCP to give up, which takes a quarter of an hour.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        # Only while calls run: an idle connection may be closed by whoever likes, the next call makes a new one.
        ("grpc.keepalive_permit_without_calls", 0),
        # By default gRPC stops after two pings when only the server sends, as it does in a long stream.
        ("grpc.http2.max_pings_without_data", 0),
    ]
    # gRPC takes the first of two options with one name.
    return [*extra, *ours]


def service_config() -> str:
    """The published service config, JSON: use all addresses in turn, try up to 3 times when a router is unavailable."""
    return resources.files("consilium").joinpath("service_config.json").read_text(encoding="utf-8")
