"""Golden renders: a change of a template shows what it changes. `--update-golden` writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from conftest import CI
from golden import same_each_time
from objects import Objects

FOLDER = Path(__file__).parent / "golden"


class _Dumper(yaml.CSafeDumper):
    pass


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def test_a_render_is_as_it_was(case: str, rendered: Objects, request: pytest.FixtureRequest) -> None:
    objects = [same_each_time(it) for _, it in sorted(rendered.by_key().items())]
    new = "".join("---\n" + yaml.dump(it, Dumper=_Dumper, allow_unicode=True, width=120) for it in objects)
    path = FOLDER / f"{case}.yaml"
    if request.config.getoption("--update-golden"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(new, encoding="utf-8")
    assert path.exists(), f"{path.name} is new: run with --update-golden"
    old = path.read_text(encoding="utf-8")
    assert new.splitlines() == old.splitlines(), "look at the difference, then run with --update-golden"


def test_there_is_no_golden_render_of_nothing() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(CI)
