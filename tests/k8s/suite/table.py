"""What was done and what came of it, step by step, as a table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from suite.load import Counted

HEAD = "| step | time | questions | not answered | made again: client, router | p99, max | longest gap | seen |"
RULE = "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"


@dataclass
class Row:
    """A step."""

    step: str
    seconds: float | None = None
    seen: list[str] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)

    def saw(self, what: str) -> None:
        """Something worth a word."""
        self.seen.append(what)

    def line(self) -> str:
        """As a row of the table; where there was load, what each of its ways saw is set apart by a stroke."""
        summaries = [one.summary for one in self.counted]

        def each(values: list[str]) -> str:
            return " / ".join(values) if values else ""

        cells = [
            self.step,
            "" if self.seconds is None else f"{self.seconds:.1f} s",
            each([str(one["asked"]) for one in summaries]),
            each([str(one.failed) for one in self.counted]),
            each([f"{one['attempts'] - one['asked']}, {one['again']}" for one in summaries]),
            each([f"{one['latency_ms']['p99']:.0f}, {one['latency_ms']['max']:.0f} ms" for one in summaries]),
            each([f"{one['gap_ms']:.0f} ms" for one in summaries]),
            "; ".join(self.seen),
        ]
        return f"| {' | '.join(cells)} |"


class Table:
    """All steps, in the order in which they were taken."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Row]:
        """A row for what is done inside, with the time that it takes. `Row.seconds` may be said before."""
        row = Row(name)
        self.rows.append(row)
        begun = time.monotonic()
        try:
            yield row
        except BaseException as error:
            row.saw(f"FAILED: {type(error).__name__}")
            raise
        finally:
            row.seconds = time.monotonic() - begun if row.seconds is None else row.seconds

    def note(self, step: str, seen: str) -> None:
        """A row without a time."""
        self.rows.append(Row(step, seen=[seen]))

    def text(self) -> str:
        """In Markdown. Of two figures the first is through the Service, the second by the headless Service."""
        return "\n".join([HEAD, RULE, *(row.line() for row in self.rows)])

    def write(self, folder: Path) -> None:
        """As `steps.md` and, with every failure, `steps.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "steps.md").write_text(self.text() + "\n")
        told = [
            {"step": row.step, "seconds": row.seconds, "seen": row.seen}
            | {"load": {one.way: one.summary for one in row.counted}}
            for row in self.rows
        ]
        (folder / "steps.json").write_text(json.dumps(told, indent=2) + "\n")
