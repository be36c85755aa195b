"""Runs the shared cases through this client: `conformance.py --target 127.0.0.1:7600 --cases FILE.json`.

For every case of the list, in order, one line of JSON with what came; nothing is judged here. With `--asyncio` it is
`AsyncClient` that asks. With `--keep-asking` the first case is repeated over one client until the standard input is
closed, and the only line says how that went. Not part of the package.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

# The package beside this file, installed or not.
sys.path.insert(0, str(Path(__file__).parent / "src"))

from google.protobuf.json_format import MessageToDict, ParseDict

from consilium import AsyncClient, Client, ConsiliumError
from consilium.v1 import CallContext, DispatchOptions, DispatchResponse, Query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from google.protobuf.message import Message

    from consilium import Asking, AsyncStream, Stream
    from consilium.v1 import StreamDispatchResponse

    Case = dict[str, Any]
    Outcome = dict[str, Any]
    AnyClient = Client | AsyncClient

T = TypeVar("T")

# Seconds, after a call of `--keep-asking` that failed.
PAUSE = 0.1


def main() -> None:
    """Reads the arguments and the cases, and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--cases", required=True, type=Path)
    parser.add_argument("--asyncio", action="store_true")
    parser.add_argument("--keep-asking", action="store_true")
    arguments = parser.parse_args()
    cases = json.loads(arguments.cases.read_text(encoding="utf-8"))
    asyncio.run(run(arguments, cases))


async def run(arguments: argparse.Namespace, cases: list[Case]) -> None:
    """Everything over one client, of the kind that was asked for."""
    kind = AsyncClient if arguments.asyncio else Client
    client = kind(arguments.target, plaintext=True)
    try:
        if arguments.keep_asking:
            print(json.dumps(await keep_asking(client, cases[0])))
            return
        for case in cases:
            print(json.dumps({"case": case["name"], **await outcome(client, case)}), flush=True)
    finally:
        await awaited(client.close())


async def outcome(client: AnyClient, case: Case) -> Outcome:
    """What came of one case."""
    try:
        if case["call"] == "stream":
            return await streamed(client, case)
        return {"reply": as_json(await CALLS[case["call"]](client, case))}
    except ConsiliumError as error:
        return {"error": described(error)}


async def ask(client: AnyClient, case: Case) -> DispatchResponse:
    """The reply to the case's request."""
    return await awaited(client.ask(query(case), **said(case)))


async def explain(client: AnyClient, case: Case) -> Message:
    """The explanation of the case's request."""
    return await awaited(client.explain(query(case), **said(case)))


async def feedback(client: AnyClient, case: Case) -> Message:
    """The case's metrics, with its token or with that of the reply to its request."""
    about = case["token"] if "token" in case else await ask(client, case)
    return await awaited(client.feedback(about, case.get("metrics", {}), timeout=case.get("deadline_s")))


async def streamed(client: AnyClient, case: Case) -> Outcome:
    """The events until the end, or until an error."""
    seen: list[dict[str, Any]] = []
    try:
        async for event in each(client.stream(query(case), **said(case))):
            seen.append(as_json(event))
    except ConsiliumError as error:
        return {"events": seen, "error": described(error)}
    return {"events": seen}


async def keep_asking(client: AnyClient, case: Case) -> Outcome:
    """How often the case was asked until the standard input was closed, and how often that failed."""
    closed = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        closed.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    asked, errors = 0, Counter[str]()
    while not closed.is_set():
        asked += 1
        result = await outcome(client, case)
        if "error" in result:
            errors[result["error"]["code"]] += 1
            print(json.dumps(result), file=sys.stderr)
            # Where nobody listens a call fails at once, and the tally would count little else.
            await asyncio.to_thread(closed.wait, PAUSE)
    return {"asked": asked, "failed": errors.total(), "errors": dict(errors)}


CALLS = {"ask": ask, "explain": explain, "feedback": feedback}


def query(case: Case) -> str | Query:
    """The text alone if the rest can be said by keywords; otherwise the whole message."""
    given = case["request"]["query"]
    return given.get("text", "") if by_keywords(given) else ParseDict(given, Query())


def said(case: Case) -> Asking:
    """What the case says with its query, as this client's keywords."""
    request = case["request"]
    # Both have a priority; that of the options is the one that counts.
    keywords = fields(ParseDict(request.get("context", {}), CallContext()))
    keywords |= fields(ParseDict(request.get("options", {}), DispatchOptions()))
    if by_keywords(request["query"]):
        attributes = request["query"].get("attributes", {})
        keywords["attributes"] = {name: values["values"] for name, values in attributes.items()}
        keywords["labels"] = request["query"].get("labels")
    keywords["timeout"] = case.get("deadline_s")
    return cast("Asking", keywords)


def by_keywords(query: dict[str, Any]) -> bool:
    """Whether a text, attributes and labels are all that there is."""
    return query.keys() <= {"text", "attributes", "labels"}


def fields(message: Message) -> dict[str, Any]:
    """The fields that are set, by name."""
    return {field.name: value for field, value in message.ListFields()}


def described(error: ConsiliumError) -> dict[str, Any]:
    """An error as the runner of the cases reads it."""
    return {
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
        "request_id": error.request_id,
        "violations": [violation._asdict() for violation in error.violations],
        "retry_after_s": error.retry_after,
        "metadata": error.metadata,
    }


def as_json(message: Message) -> dict[str, Any]:
    """Protobuf's canonical JSON."""
    return MessageToDict(message)


async def awaited(value: T | Awaitable[T]) -> T:
    """What the client that blocks returns, and what the other one promises."""
    return await value if inspect.isawaitable(value) else value


async def each(stream: Stream | AsyncStream) -> AsyncIterator[StreamDispatchResponse]:
    """The events of either kind of stream."""
    if isinstance(stream, Iterator):
        for event in stream:
            yield event
    else:
        async for event in stream:
            yield event


if __name__ == "__main__":
    main()
