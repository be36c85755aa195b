"""What may travel in plaintext, and what may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from scripted import LONG, ScriptedRouter

from consilium import ConsiliumError

if TYPE_CHECKING:
    from conftest import Connect


@pytest.mark.parametrize(
    "target",
    [
        "localhost",
        "LocalHost:7600",
        "127.0.0.1:7600",
        "127.8.8.8:7600",
        "[::1]:7600",
        "dns:localhost:7600",
        "dns:///localhost:7600",
        "dns:///127.0.0.1:7600",
        "ipv4:127.0.0.1:7600,127.0.0.2:7600",
        "ipv6:[::1]:7600",
        "unix:/run/consilium.sock",
        "unix-abstract:consilium",
    ],
)
def test_on_this_machine_plaintext_goes_without_saying(connect: Connect, target: str) -> None:
    connect(target)


@pytest.mark.parametrize(
    "target",
    [
        "mesh.example.org:443",
        "localhost.example.org:7600",
        "127.0.0.1.example.org:7600",
        "127.1:7600",
        "10.0.0.1:7600",
        "0.0.0.0:7600",
        "[::]:7600",
        "[2001:db8::1]:7600",
        "dns:///consilium-router-headless:7600",
        "dns://198.51.100.1/localhost:7600",
        "ipv4:127.0.0.1:7600,10.0.0.1:7600",
        "xds:///localhost",
        "localhost:7600/mesh.example.org",
        "",
    ],
)
def test_elsewhere_it_has_to_be_said(connect: Connect, target: str) -> None:
    with pytest.raises(ValueError, match=r"in plaintext: give credentials=.*, or say plaintext=True"):
        connect(target)


def test_plaintext_that_is_meant_is_taken(connect: Connect) -> None:
    connect("dns:///consilium-router-headless:7600", plaintext=True)


def test_with_credentials_any_target_is_taken(connect: Connect) -> None:
    connect("mesh.example.org:443", credentials=grpc.ssl_channel_credentials())


def test_both_at_once_make_no_sense(connect: Connect) -> None:
    with pytest.raises(ValueError, match="not both"):
        connect("localhost:7600", credentials=grpc.ssl_channel_credentials(), plaintext=True)


def test_a_secured_channel_asks_like_any_other(connect: Connect) -> None:
    # gRPC's credentials for one machine, which want no certificates.
    router = ScriptedRouter(grpc.local_server_credentials())
    try:
        connect(router.target, credentials=grpc.local_channel_credentials(), timeout=LONG).ask("?")
        assert router.seen[0].method == "Dispatch"
    finally:
        router.stop()


def test_with_credentials_nothing_is_said_in_plaintext(connect: Connect, router: ScriptedRouter) -> None:
    client = connect(router.target, credentials=grpc.ssl_channel_credentials(), timeout=LONG)

    with pytest.raises(ConsiliumError, match="UNAVAILABLE"):
        client.ask("?")
    assert router.seen == []


def test_what_stays_on_this_machine_takes_no_proxy(
    connect: Connect, router: ScriptedRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(variable, raising=False)
    # Nobody listens there.
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:1")
    connect(router.target, timeout=LONG).ask("?")
