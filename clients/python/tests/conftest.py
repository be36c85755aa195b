"""A scripted router, and each client in turn connected to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from both import Awaited
from scripted import LONG, ScriptedRouter

from consilium import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from both import AnyClient

    Connect = Callable[..., AnyClient]


@pytest.fixture
def router() -> Iterator[ScriptedRouter]:
    router = ScriptedRouter()
    yield router
    router.stop()


@pytest.fixture(params=[Client, Awaited], ids=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes a client of each kind; it is closed after the test."""
    made: list[AnyClient] = []

    def connect(target: str, **settings: Any) -> AnyClient:
        made.append(request.param(target, **settings))
        return made[-1]

    yield connect
    for client in made:
        client.close()


@pytest.fixture
def client(connect: Connect, router: ScriptedRouter) -> AnyClient:
    """One for which no deadline comes: a busy machine must not fail a test whose subject is another."""
    return connect(router.target, timeout=LONG)
