"""What is made: nothing that helm/build.py writes is stale."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from helms import CHART, ROOT

sys.path.insert(0, str(ROOT / "helm"))
import build
import example
import readme

MADE = build.made()


@pytest.mark.parametrize("name", MADE)
def test_a_made_file_is_fresh(name: str) -> None:
    assert (CHART / name).read_text(encoding="utf-8") == MADE[name], f"{name}: run helm/build.py"


def test_check_says_what_is_stale() -> None:
    said = subprocess.run([sys.executable, ROOT / "helm/build.py", "--check"], capture_output=True, check=False)
    assert said.returncode == 0, said.stderr


def test_the_example_is_the_clinic_file_by_file() -> None:
    found = yaml.safe_load((CHART / "examples/clinic.yaml").read_text(encoding="utf-8"))
    mesh = yaml.safe_load((example.MESH / "mesh.yaml").read_text(encoding="utf-8"))
    assert found["mesh"] == {name: value for name, value in mesh.items() if name not in example.OWNED}
    folders = {path.parent.name: path.parent for path in example.MESH.glob("experts/*/expert.yaml")}
    assert found["experts"].keys() == folders.keys()
    for name, folder in folders.items():
        settings = yaml.safe_load((folder / "expert.yaml").read_text(encoding="utf-8"))
        assert {"name": name, **found["experts"][name]["settings"]} == settings
        files = found["experts"][name]["files"]
        assert "examples.txt" in files
        for file, text in files.items():
            assert text == (folder / file).read_text(encoding="utf-8")
        named = {it for it in [settings["examples"], settings["task"].get("knowledge")] if it}
        assert named == files.keys()
    gate = mesh["gate"]
    said = [gate.get(key) for key in ("background", "validation", "probes")]
    said += [dimension.get("examples") for dimension in gate["dimensions"].values()]
    assert found["meshFiles"].keys() == {it for it in said if it}
    assert {"background.txt", "audience.jsonl"} <= found["meshFiles"].keys()
    for file, text in found["meshFiles"].items():
        assert text == (example.MESH / file).read_text(encoding="utf-8")
    assert found["test"]["questions"] == (example.MESH / "demo.jsonl").read_text(encoding="utf-8")


def test_rules_have_no_gap_that_nobody_fills() -> None:
    text = (CHART / "templates/monitoring/_rules.tpl").read_text(encoding="utf-8")
    for name in ("expert", "mesh"):
        rules = (CHART / f"rules/{name}.yaml").read_text(encoding="utf-8")
        gaps = set(re.findall("@([a-z-]+)@", rules))
        assert gaps
        assert {gap for gap in gaps if f'"@{gap}@"' not in text} == set()


def test_every_value_has_a_line_in_the_table() -> None:
    text = (CHART / "README.md").read_text(encoding="utf-8")
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    keys = [it.key for it in readme.values(CHART / "values.yaml")]
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert text.count(f"| {key} |") == 1, key

    def leaves(it: object, path: str) -> set[str]:
        if isinstance(it, dict) and it:
            return {leaf for name, value in it.items() for leaf in leaves(value, f"{path}.{name}" if path else name)}
        return {path}

    covered = {leaf for leaf in leaves(values, "") if any(leaf == key or leaf.startswith(f"{key}.") for key in keys)}
    assert leaves(values, "") - covered == set()
