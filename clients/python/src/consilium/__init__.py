"""Asks a Consilium mesh: one front door, many small experts.

    from consilium import Client

    with Client("127.0.0.1:7600") as client:
        reply = client.ask("Can my patient take ibuprofen with warfarin?")
        print(reply.answer.passages.passages[0].text)

`Client` blocks, `AsyncClient` is for asyncio; they have the same methods. Replies are the messages of the contract, in
`consilium.v1`. What fails raises `ConsiliumError`. Every call has a deadline.
"""

from consilium._calls import DEFAULT_TIMEOUT, Asking
from consilium._version import __version__
from consilium.aio import AsyncClient, AsyncStream
from consilium.client import Client, Stream
from consilium.errors import ConsiliumError, Violation

__all__ = [
    "DEFAULT_TIMEOUT",
    "Asking",
    "AsyncClient",
    "AsyncStream",
    "Client",
    "ConsiliumError",
    "Stream",
    "Violation",
    "__version__",
]
