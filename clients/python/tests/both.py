"""Both clients behind one face that blocks, so that one test says what holds for both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from consilium import AsyncClient, AsyncStream, Client

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from consilium.v1 import (
        DispatchResponse,
        ExplainResponse,
        SendFeedbackResponse,
        StreamDispatchResponse,
    )

    AnyClient: TypeAlias = "Client | Awaited"

T = TypeVar("T")


class Awaited:
    """An `AsyncClient` with an event loop that runs while one of these methods does."""

    def __init__(self, target: str, **settings: Any) -> None:
        self._loop = asyncio.new_event_loop()

        async def inside_the_loop() -> AsyncClient:
            return AsyncClient(target, **settings)

        try:
            self._client = self.wait(inside_the_loop())
        except BaseException:
            self._loop.close()
            raise

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)

    def ask(self, *arguments: Any, **said: Any) -> DispatchResponse:
        return self.wait(self._client.ask(*arguments, **said))

    def explain(self, *arguments: Any, **said: Any) -> ExplainResponse:
        return self.wait(self._client.explain(*arguments, **said))

    def feedback(self, *arguments: Any, **said: Any) -> SendFeedbackResponse:
        return self.wait(self._client.feedback(*arguments, **said))

    def stream(self, *arguments: Any, **said: Any) -> AwaitedStream:
        async def inside_the_loop() -> AsyncStream:
            return self._client.stream(*arguments, **said)

        return AwaitedStream(self, self.wait(inside_the_loop()))

    def close(self) -> None:
        self.wait(self._client.close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


class AwaitedStream:
    """An `AsyncStream`, awaited event by event."""

    def __init__(self, client: Awaited, stream: AsyncStream) -> None:
        self._client = client
        self._stream = stream

    def __iter__(self) -> Iterator[StreamDispatchResponse]:
        return self

    def __next__(self) -> StreamDispatchResponse:
        async def following() -> StreamDispatchResponse:
            return await self._stream.__anext__()

        try:
            return self._client.wait(following())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> AwaitedStream:
        self._client.wait(self._stream.__aenter__())
        return self

    def __exit__(self, *error: Any) -> None:
        self._client.wait(self._stream.__aexit__(*error))
