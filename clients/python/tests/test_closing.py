"""What becomes of the calls of a client that is closed."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from scripted import LONG, PATIENCE, ScriptedRouter, events

from consilium import AsyncClient, Client, ConsiliumError
from consilium.v1 import Decision, Done, StreamDispatchResponse

if TYPE_CHECKING:
    import threading
    from collections.abc import Awaitable, Callable

DECISION = StreamDispatchResponse(decision=Decision(reason="CLEAR"))
DONE = StreamDispatchResponse(done=Done())


def is_cancelled(error: BaseException | None) -> bool:
    return isinstance(error, ConsiliumError) and error.code is grpc.StatusCode.CANCELLED and not error.retryable


async def happened(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, PATIENCE)


def test_a_closed_client_asks_no_more(router: ScriptedRouter) -> None:
    with Client(router.target, timeout=LONG) as client:
        client.ask("?")

    asked: list[Callable[[], object]] = [
        lambda: client.ask("?"),
        lambda: client.explain("?"),
        lambda: client.stream("?"),
        lambda: client.feedback("signed", {}),
    ]
    for ask in asked:
        with pytest.raises(ConsiliumError, match="CANCELLED: the client is closed") as caught:
            ask()
        assert is_cancelled(caught.value)
    assert len(router.seen) == 1


def test_a_closed_client_asks_no_more_in_asyncio(router: ScriptedRouter) -> None:
    async def main() -> None:
        async with AsyncClient(router.target, timeout=LONG) as client:
            await client.ask("?")

        async def stream() -> None:
            client.stream("?")

        asked: list[Callable[[], Awaitable[object]]] = [
            lambda: client.ask("?"),
            lambda: client.explain("?"),
            stream,
            lambda: client.feedback("signed", {}),
        ]
        for ask in asked:
            with pytest.raises(ConsiliumError, match="CANCELLED: the client is closed") as caught:
                await ask()
            assert is_cancelled(caught.value)

    asyncio.run(main())
    assert len(router.seen) == 1


def test_closing_twice_is_closing_once(router: ScriptedRouter) -> None:
    with Client(router.target) as client:
        client.close()

    async def main() -> None:
        async with AsyncClient(router.target) as client:
            await client.close()

    asyncio.run(main())


def test_closing_ends_the_calls_that_run(router: ScriptedRouter) -> None:
    router.script.append(router.hold)
    with ThreadPoolExecutor() as threads, Client(router.target, timeout=LONG) as client:
        call = threads.submit(client.ask, "?")
        assert router.holding.wait(PATIENCE)

        client.close()

        assert is_cancelled(call.exception(PATIENCE))
    assert router.gone.wait(PATIENCE)


def test_closing_ends_the_calls_that_run_in_asyncio(router: ScriptedRouter) -> None:
    router.script.append(router.hold)

    async def main() -> None:
        async with AsyncClient(router.target, timeout=LONG) as client:
            task = asyncio.create_task(client.ask("?"))
            assert await happened(router.holding)

            await client.close()

            with pytest.raises(ConsiliumError) as caught:
                await task
            assert is_cancelled(caught.value)
        assert await happened(router.gone)

    asyncio.run(main())


def test_closing_ends_the_streams_that_run(router: ScriptedRouter) -> None:
    router.script.append(router.events_then_hold(DECISION))
    with Client(router.target, timeout=LONG) as client:
        stream = client.stream("?")
        assert next(stream) == DECISION

        client.close()

        with pytest.raises(ConsiliumError) as caught:
            next(stream)
        assert is_cancelled(caught.value)


@pytest.mark.parametrize("read_first", [True, False])
def test_closing_ends_the_streams_that_run_in_asyncio(router: ScriptedRouter, *, read_first: bool) -> None:
    router.script.extend([router.events_then_hold(*[DECISION] if read_first else [])] * 2)

    async def main() -> None:
        async with AsyncClient(router.target, timeout=LONG) as client:
            idle, waiting = client.stream("?"), client.stream("?")
            if read_first:
                assert [await anext(idle), await anext(waiting)] == [DECISION, DECISION]
            task = asyncio.create_task(anext(waiting))
            assert await happened(router.holding)

            await client.close()

            for ended in (anext(idle), task):
                with pytest.raises(ConsiliumError) as caught:
                    await ended
                assert is_cancelled(caught.value)
        assert await happened(router.gone)

    asyncio.run(main())


def test_a_stream_that_was_over_ends_as_ever(router: ScriptedRouter) -> None:
    router.script.extend([events(DONE), events(DONE)])
    with Client(router.target, timeout=LONG) as client:
        stream = client.stream("?")
        assert list(stream) == [DONE]
    assert list(stream) == []

    async def main() -> None:
        async with AsyncClient(router.target, timeout=LONG) as client:
            stream = client.stream("?")
            assert [event async for event in stream] == [DONE]
        assert [event async for event in stream] == []

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task of Python 3.10 does not know that it was cancelled")
@pytest.mark.parametrize("streams", [False, True])
def test_a_task_that_is_cancelled_as_well_stays_cancelled(router: ScriptedRouter, *, streams: bool) -> None:
    router.script.append(router.hold if not streams else router.events_then_hold())

    async def main() -> None:
        async with AsyncClient(router.target, timeout=LONG) as client:
            task: asyncio.Task[object] = asyncio.create_task(anext(client.stream("?")) if streams else client.ask("?"))
            assert await happened(router.holding)
            task.cancel()
            await client.close()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
