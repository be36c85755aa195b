"""Rules: what metrics.prometheusRule makes is what `consilium slo rules` prints for the same mesh."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Render
from helms import ROOT
from objects import Objects

CONSILIUM = ROOT / "target" / "debug" / "consilium"

# Of every kind: each number of lines that alerts may have, many digits, few, and none behind the point.
PROMISES = {
    "odd": ("0.9995", "150ms"),
    "usual": ("0.95", "90ms"),
    "half": ("0.5", "1200ms"),
    "nearly-all": ("0.99999", "1s"),
    "seven-nines": ("0.9999999", "45s"),
    "precise": ("0.98765432109", "1min"),
    "one-page": ("0.9", "999ms"),
    "last-page": ("0.834", "7ms"),
    "no-page": ("0.83", "9999us"),
    "one-ticket": ("0.66", "1m 30s"),
    "hardly": ("0.001", "250us"),
}


def printed(mesh: Path, *options: str) -> dict[str, Any]:
    """The groups that the program prints, by name."""
    command = [CONSILIUM, "slo", "rules", str(mesh), "--format", "operator", *options]
    said = subprocess.run(command, capture_output=True, check=False, encoding="utf-8")
    assert said.returncode == 0, said.stderr
    return {group["name"]: group for group in yaml.safe_load(said.stdout)["spec"]["groups"]}


def rendered_groups(objects: Objects) -> dict[str, Any]:
    """The groups of all PrometheusRules, by name."""
    groups = [group for it in objects.of("PrometheusRule") for group in it["spec"]["groups"]]
    assert len({group["name"] for group in groups}) == len(groups)
    return {group["name"]: group for group in groups}


def of(values: dict[str, Any], **rule: Any) -> dict[str, Any]:
    """Those values with rules."""
    return {**values, "metrics": {"prometheusRule": {"enabled": True, **rule}}}


def made_up() -> dict[str, Any]:
    """Values of a mesh with an expert for each promise."""
    experts = {
        name: {"settings": {"slo": {"objective": float(objective), "latency": latency}, **RUNNABLE}}
        for name, (objective, latency) in PROMISES.items()
    }
    return {"example": "none", "mesh": {"name": "made-up", "gate": {"encoder": "any"}}, "experts": experts}


RUNNABLE = {"version": "1", "summary": "Knows what it knows.", "task": {"kind": "classify", "model": "any"}}


def test_the_clinic_has_its_rules(render: Render) -> None:
    found = rendered_groups(render(of({}), namespace="ward"))
    assert found == printed(ROOT / "meshes/clinic/mesh.yaml", "--where", "namespace=ward")


def test_values_say_where_links_lead_and_what_is_looked_at(render: Render) -> None:
    said = {"runbookUrl": "https://wiki.example/?a=1&b=<2>", "dashboardUrl": "https://grafana.example", "leastBad": 1}
    found = rendered_groups(render(of({}, byNamespace=False, **said)))
    options = ["--runbook-url", said["runbookUrl"], "--dashboard-url", said["dashboardUrl"], "--least-bad", "1"]
    assert found == printed(ROOT / "meshes/clinic/mesh.yaml", *options)


def test_every_promise_has_the_rules_that_the_program_makes_of_it(render: Render, tmp_path: Path) -> None:
    mesh = tmp_path / "mesh.yaml"
    values = made_up()
    own = {"listen": "127.0.0.1:7600", "admin": "127.0.0.1:7601", "models": ".", "experts": ["*/expert.yaml"]}
    mesh.write_text(yaml.safe_dump({**values["mesh"], **own}), encoding="utf-8")
    for name, expert in values["experts"].items():
        (tmp_path / name).mkdir()
        text = yaml.safe_dump({"name": name, **expert["settings"]})
        (tmp_path / name / "expert.yaml").write_text(text, encoding="utf-8")
    found = rendered_groups(render(of(values), namespace="ward"))
    expected = printed(mesh, "--where", "namespace=ward")
    assert sorted(found) == sorted(expected)
    for name, group in expected.items():
        assert found[name] == group
    # Every number of lines was among them.
    lines = {str(group).count(" * ") for name, group in expected.items() if "-alerts-" in name}
    assert lines == {8, 6, 4, 2}


def test_an_expert_that_is_not_enabled_has_no_rules(render: Render) -> None:
    found = rendered_groups(render(of({"experts": {"drug-interactions": {"enabled": False}}})))
    assert not [name for name in found if "drug-interactions" in name]
    assert len([name for name in found if "care-coordination" in name]) == 4


@pytest.mark.parametrize("name", ["care-coordination", "general"])
def test_one_more_expert_leaves_the_rules_of_the_others_alone(render: Render, name: str) -> None:
    one_more = {"experts": {"new": {"settings": {**RUNNABLE, "slo": {"latency": "1s", "objective": 0.9}}}}}
    before, after = render(of({})), render(of(one_more))
    assert after.get("PrometheusRule", f"consilium-{name}") == before.get("PrometheusRule", f"consilium-{name}")
    assert after.get("PrometheusRule", "consilium") == before.get("PrometheusRule", "consilium")
    assert after.has("PrometheusRule", "consilium-new")
