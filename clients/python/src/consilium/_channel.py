"""How a channel to a router is set up: security, limits, keepalive, retries. The same for both clients."""

from __future__ import annotations

import re
from importlib import resources
from ipaddress import ip_address
from typing import TYPE_CHECKING

from consilium._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    ChannelOption = tuple[str, str | int]

# A router's reply may hold the answers of four experts, 8 MiB each; gRPC would refuse what is over 4 MiB.
_MAX_REPLY_BYTES = 32 * 1024 * 1024
# A query may be 8 MiB long. What does not fit is not kept for another attempt; gRPC would keep 256 KiB.
_RETRY_BUFFER_BYTES = 9 * 1024 * 1024
# The details of an error travel as metadata, of which gRPC would refuse what is over 8 KiB.
_MAX_METADATA_BYTES = 64 * 1024

_HOST_AND_PORT = re.compile(r"(\[[^]]*\]|[^:]*)(?::[0-9]+)?")


def options(target: str, extra: Sequence[ChannelOption]) -> list[ChannelOption]:
    """The settings of gRPC's channel to `target`; those of the application, `extra`, win."""
    ours: list[ChannelOption] = [
        ("grpc.primary_user_agent", f"consilium-python/{__version__}"),
        ("grpc.service_config", service_config()),
        # Whoever may write TXT records for a router's name must not decide about retries.
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_retries", 1),
        ("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES),
        ("grpc.max_receive_message_length", _MAX_REPLY_BYTES),
        # Between the two gRPC would refuse at random.
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        # A path that swallows packets looks like a slow server. Without pings the connection, and every call on it,
        # would wait for TCP to give up, which takes a quarter of an hour.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        # Only while calls run: an idle connection may be closed by whoever likes, the next call makes a new one.
        ("grpc.keepalive_permit_without_calls", 0),
        # By default gRPC stops after two pings when only the server sends, as it does in a long stream.
        ("grpc.http2.max_pings_without_data", 0),
    ]
    if _on_this_machine(target):
        # gRPC would go to the environment's proxy for loopback too, where that is another machine's.
        ours.append(("grpc.enable_http_proxy", 0))
    # gRPC takes the first of two options with one name.
    return [*extra, *ours]


def service_config() -> str:
    """The published service config, JSON: use all addresses in turn, try up to 3 times when a router is unavailable."""
    return resources.files("consilium").joinpath("service_config.json").read_text(encoding="utf-8")


def check_security(target: str, credentials: grpc.ChannelCredentials | None, *, plaintext: bool) -> None:
    """Raises `ValueError` if queries would leave this machine in plaintext and nobody has said that they may."""
    if credentials is not None and plaintext:
        raise ValueError("either credentials or plaintext=True, not both")
    if credentials is None and not plaintext and not _on_this_machine(target):
        raise ValueError(
            f"without credentials everything would travel to {target} in plaintext: give credentials=…, such as"
            " grpc.ssl_channel_credentials(), or say plaintext=True"
        )


def _on_this_machine(target: str) -> bool:
    """Whether a target can only lead to this machine. One that is written in an unusual way counts as elsewhere."""
    scheme, _, rest = target.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return True
    # `dns://server/name` is left out: what that server says of a name is up to it.
    addresses = rest.removeprefix("///") if scheme in ("dns", "ipv4", "ipv6") else target
    return all(_loops_back(address) for address in addresses.split(","))


def _loops_back(address: str) -> bool:
    parts = _HOST_AND_PORT.fullmatch(address)
    if parts is None:
        return False
    host = parts[1].lower()
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:  # A name.
        return False
