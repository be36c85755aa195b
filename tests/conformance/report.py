"""What the conformance scripts share: checks that can fail, a table of how they went, and a line of progress.

A check is a function that raises `ConformanceError`, or anything else, where the server is not as it has to be. Nothing
in this module knows a protocol.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


class ConformanceError(Exception):
    """The server is not as it has to be; the message says what was seen, and what was expected."""


def expect(truth: object, otherwise: str) -> None:
    """Raises `ConformanceError` with `otherwise` unless `truth` holds."""
    if not truth:
        raise ConformanceError(otherwise)


def expect_equal(what: str, got: object, wanted: object) -> None:
    """Raises `ConformanceError` unless both are equal."""
    expect(got == wanted, f"{what} is {got!r}; expected {wanted!r}")


@dataclass(frozen=True)
class Row:
    """How one check went."""

    rpc: str
    what: str
    mode: str
    """`unary` or `stream`; for the matrix of datatypes its column."""
    wrong: str = ""
    """Empty where all is right."""
    datatype: str = ""
    """For the matrix of datatypes its line."""


@dataclass(frozen=True)
class Check:
    """A function that looks at a server, and what it looks at."""

    rpc: str
    what: str
    run: Callable[..., None]
    mode: str = "unary"
    only: str = ""
    """The kind of server it is for; empty for every kind."""
    datatype: str = ""


class Checks(list[Check]):
    """The checks of a module, in the order in which they are written."""

    def add(self, rpc: str, what: str, **more: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Makes the function below it a check."""

        def register(run: Callable[..., None]) -> Callable[..., None]:
            self.append(Check(rpc, what, run, **more))
            return run

        return register


class Progress:
    """One line that is written over on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()

    def __call__(self, text: str) -> None:
        """Shows `text`, as much of it as fits."""
        if self._terminal:
            print(f"\r\x1b[K{text[:110]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Takes the line away."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def run(checks: Iterable[Check], *about: object) -> list[Row]:
    """Runs each check with `about` as its arguments."""
    rows, progress = [], Progress()
    for check in checks:
        progress(f"{check.rpc}: {check.what} {check.datatype}")
        wrong = ""
        try:
            check.run(*about)
        except ConformanceError as error:
            wrong = str(error)
        except Exception as error:
            # A client that cannot make sense of a reply raises whatever it likes, and that is a finding too.
            wrong = f"{type(error).__name__}: {error}"
        rows.append(Row(check.rpc, check.what, check.mode, " ".join(wrong.split()), check.datatype))
    progress.clear()
    return rows


def finish(title: str, rows: Sequence[Row], started: float, file: Path | None, **facts: Any) -> int:
    """Prints the tables, writes `file` as JSON where one is given, and gives the exit code: 1 where a row is wrong."""
    print(title)
    _print_matrix([row for row in rows if row.datatype])
    _print_list([row for row in rows if not row.datatype])
    wrong = [row for row in rows if row.wrong]
    print(f"\n{len(rows) - len(wrong)} right, {len(wrong)} wrong, in {time.monotonic() - started:.1f} s")
    if file:
        content = {"title": title, **facts, "right": len(rows) - len(wrong), "wrong": len(wrong)}
        content["rows"] = [asdict(row) for row in rows]
        file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    # No row at all would show nothing.
    return 1 if wrong or not rows else 0


def _print_matrix(rows: Sequence[Row]) -> None:
    if not rows:
        return
    columns = list(dict.fromkeys(row.mode for row in rows))
    cells = {(row.datatype, row.mode): "WRONG" if row.wrong else "ok" for row in rows}
    print("\n" + "datatype".ljust(10) + "".join(column.rjust(len(column) + 3) for column in columns))
    for datatype in dict.fromkeys(row.datatype for row in rows):
        marks = (cells.get((datatype, column), "–").rjust(len(column) + 3) for column in columns)
        print(datatype.ljust(10) + "".join(marks))
    for row in rows:
        if row.wrong:
            print(f"  {row.datatype}, {row.mode}: {row.wrong}")


def _print_list(rows: Sequence[Row]) -> None:
    if not rows:
        return
    rpcs, modes = max(len(row.rpc) for row in rows), max(len(row.mode) for row in rows)
    print()
    for row in rows:
        mark = "WRONG" if row.wrong else "ok"
        print(f"{mark:5}  {row.rpc:{rpcs}}  {row.mode:{modes}}  {row.what}")
        if row.wrong:
            print(f"       {row.wrong}")
