"""When a recipe runs, and what it leaves behind."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from recipes.recipe import LOCK, BuildError, Context, Recipe, build


def recipe(name: str, make: Callable[[Context], Mapping[str, Any]] | None = None, **more: object) -> Recipe:
    def write_name(context: Context) -> Mapping[str, Any]:
        (context.directory / "result").write_text(name)
        return {}

    return Recipe(name=name, make=make or write_name, modules=(__name__,), **more)


def test_runs_once(tmp_path: Path):
    assert build([recipe("one")], tmp_path) == ["one"]
    assert build([recipe("one")], tmp_path) == []


def test_runs_again_when_its_data_changes(tmp_path: Path):
    data = tmp_path / "rows.jsonl"
    data.write_text("a")
    out = tmp_path / "out"
    build([recipe("one", data=(data,))], out)
    data.write_text("b")
    assert build([recipe("one", data=(data,))], out) == ["one"]


def test_runs_again_when_what_it_needs_changes(tmp_path: Path):
    data = tmp_path / "rows.jsonl"
    data.write_text("a")
    chain = [recipe("one", data=(data,)), recipe("two", needs=("one",)), recipe("three")]
    out = tmp_path / "out"
    build(chain, out)
    data.write_text("b")
    assert build(chain, out) == ["one", "two"]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("cut")])
def test_runs_again_when_a_file_was_damaged(tmp_path: Path, damage: Callable[[Path], None]):
    build([recipe("longer-name")], tmp_path)
    damage(tmp_path / "longer-name" / "result")
    assert build([recipe("longer-name")], tmp_path) == ["longer-name"]


def test_force_runs_what_was_named_and_not_what_it_needs(tmp_path: Path):
    chain = [recipe("one"), recipe("two", needs=("one",))]
    build(chain, tmp_path)
    assert build(chain, tmp_path, names=["two"], force=True) == ["two"]


def test_a_named_recipe_brings_what_it_needs_and_nothing_else(tmp_path: Path):
    chain = [recipe("one"), recipe("other"), recipe("two", needs=("one",))]
    assert build(chain, tmp_path, names=["two"]) == ["one", "two"]


def test_a_failed_build_leaves_the_old_result(tmp_path: Path):
    def fail(context: Context) -> Mapping[str, Any]:
        (context.directory / "result").write_text("half")
        raise BuildError("no")

    build([recipe("one")], tmp_path)
    with pytest.raises(BuildError):
        build([recipe("one", make=fail)], tmp_path, force=True)
    assert (tmp_path / "one" / "result").read_text() == "one"
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "one"]


def test_two_builds_into_one_place_take_turns(tmp_path: Path):
    seen: list[str] = []

    def tell(context: Context) -> Mapping[str, Any]:
        seen.append("in")
        (context.directory / "result").write_text("x")
        inside.set()
        assert other_waits.wait(60)
        seen.append("out")
        return {}

    inside, other_waits = threading.Event(), threading.Event()

    class Waiting(io.StringIO):
        def write(self, text: str) -> int:
            if "waiting for another build" in text:
                other_waits.set()
            return len(text)

    with redirect_stdout(Waiting()), ThreadPoolExecutor(2) as threads:
        first = threads.submit(build, [recipe("one", make=tell)], tmp_path)
        assert inside.wait(60)
        second = threads.submit(build, [recipe("one", make=tell)], tmp_path)
        assert first.result(60) == ["one"]
        assert second.result(60) == []
    assert seen == ["in", "out"]


def test_missing_data_is_named(tmp_path: Path):
    with pytest.raises(BuildError, match=r"rows\.jsonl is missing"):
        build([recipe("one", data=(tmp_path / "rows.jsonl",))], tmp_path / "out")
