"""What only asyncio has: tasks that are cancelled, and many calls at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from scripted import LONG, PATIENCE, ScriptedRouter, say

from consilium import AsyncClient
from consilium.v1 import Decision, DispatchResponse, StreamDispatchResponse

if TYPE_CHECKING:
    import threading

DECISION = StreamDispatchResponse(decision=Decision(reason="CLEAR"))


async def happened(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, PATIENCE)


def test_a_cancelled_task_cancels_its_call(router: ScriptedRouter) -> None:
    router.script.append(router.hold)

    async def main() -> None:
        async with AsyncClient(router.target, timeout=LONG) as client:
            task = asyncio.create_task(client.ask("?"))
            assert await happened(router.holding)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await happened(router.gone)

    asyncio.run(main())


def test_a_cancelled_task_cancels_its_stream(router: ScriptedRouter) -> None:
    router.script.append(router.events_then_hold(DECISION))

    async def main() -> None:
        async with AsyncClient(router.target, timeout=LONG) as client:
            stream = client.stream("?")
            assert await stream.__anext__() == DECISION
            task = asyncio.create_task(anext(stream))
            assert await happened(router.holding)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await happened(router.gone)

    asyncio.run(main())


def test_another_task_may_close_a_stream(router: ScriptedRouter) -> None:
    router.script.append(router.events_then_hold())

    async def main() -> None:
        async with AsyncClient(router.target, timeout=LONG) as client:
            stream = client.stream("?")

            async def read() -> list[StreamDispatchResponse]:
                return [event async for event in stream]

            reader = asyncio.create_task(read())
            assert await happened(router.holding)
            stream.close()
            assert await asyncio.wait_for(reader, PATIENCE) == []

    asyncio.run(main())


def test_calls_run_at_once(router: ScriptedRouter) -> None:
    router.script.extend([router.hold, say(DispatchResponse(request_id="second"))])

    async def main() -> None:
        async with AsyncClient(router.target, timeout=LONG) as client:
            first = asyncio.create_task(client.ask("?"))
            assert await happened(router.holding)
            # The first still waits. It is let go when the second has its answer.
            assert (await client.ask("?")).request_id == "second"
            assert not first.done()
            router.gone.set()
            assert await first == DispatchResponse()

    asyncio.run(main())
