"""Mistakes in values: a schema refuses what it can see, and what only a program can see stops nobody who serves."""

from __future__ import annotations

import json

import pytest

from conftest import UnderLoad
from suite.cluster import Thing
from suite.processes import CommandError, eventually
from suite.release import Release
from suite.table import Table


def test_a_key_that_does_not_exist_is_named(mesh: Release, table: Table) -> None:
    before = mesh.revision()
    with pytest.raises(CommandError) as failed:
        mesh.upgrade(extra=["--set", "router.replica=3"])
    assert "replica" in failed.value.output
    assert mesh.revision() == before
    line = next(line.strip() for line in failed.value.output.splitlines() if "replica" in line)
    table.note("a typo in the values", f"refused: {line}")


def test_what_only_a_program_can_see_stops_nobody(mesh: Release, under_load: UnderLoad) -> None:
    mesh.upgrade("added")
    before = mesh.ids()
    revision = mesh.revision()
    with under_load("`helm upgrade` to a rule that is none and a model that is not there") as row:
        mesh.upgrade("added", "mistaken", wait=False)
        for component, expert, names in (
            ("router", None, "gate.rules[0].when"),
            ("expert", "billing", "no-such-model"),
        ):
            pod = eventually(
                f"a new pod of {expert or component} has failed",
                lambda c=component, e=expert: [one for one in _new(mesh.pods(c, e), before) if _has_failed(one)],
                within=120,
            )[0]
            log = mesh.log(pod["metadata"]["name"])
            assert names in log
            row.saw(_told(next(line for line in log.splitlines() if names in line)))
        assert before.items() <= mesh.ids().items(), "what served was taken away before what follows was ready"
    with under_load("`helm rollback` from there"):
        mesh.rollback(revision)
        mesh.rolled_out()
    assert before == mesh.ids()
    mesh.upgrade()


def _told(line: str) -> str:
    """What a line of a log says, as far as a table has room for it."""
    said = json.loads(line)["error"] if line.startswith("{") else line.strip()
    return f"`{said if len(said) < 160 else said[:160] + '…'}`".replace("|", "\\|")


def _new(pods: list[Thing], before: dict[str, int]) -> list[Thing]:
    return [pod for pod in pods if pod["metadata"]["uid"] not in before]


def _has_failed(pod: Thing) -> bool:
    statuses = pod["status"].get("containerStatuses", [])
    return any({"terminated"} & (one["state"].keys() | one["lastState"].keys()) for one in statuses)
