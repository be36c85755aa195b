"""Programs that are run to their end, and what is waited for."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

Seen = TypeVar("Seen")

REPOSITORY = Path(__file__).resolve().parents[3]
TOOLS = REPOSITORY / ".tools"


class CommandError(Exception):
    """A program ended with another exit code than 0."""

    def __init__(self, command: Sequence[str], code: int, output: str) -> None:
        super().__init__(f"`{' '.join(command)}` ended with {code}:\n{output.strip()[-4000:]}")
        self.output = output


def run(
    command: Sequence[str], *, stdin: str | None = None, within: float = 120, env: dict[str, str] | None = None
) -> str:
    """What the command writes on standard output.

    Raises:
        CommandError: It failed, or did not end in time.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=env,
    )
    try:
        out, err = process.communicate(stdin, within)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise CommandError(command, -1, f"{out}{err}\nnot done after {within:.0f} s") from None
    if process.returncode != 0:
        raise CommandError(command, process.returncode, out + err)
    return out


def eventually(what: str, look: Callable[[], Seen], *, within: float, every: float = 0.3) -> Seen:
    """The first thing that `look` finds: what is neither None nor False nor empty.

    Raises:
        AssertionError: It found nothing in time; the last failure of a program, if there was one, is told.
    """
    end = time.monotonic() + within
    while True:
        trouble = None
        try:
            if seen := look():
                return seen
        except CommandError as failed:
            trouble = failed
        if time.monotonic() > end:
            raise AssertionError(f"not within {within:.0f} s: {what}") from trouble
        time.sleep(every)
