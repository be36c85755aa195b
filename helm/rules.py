"""The rules of metrics.prometheusRule, as `consilium slo rules` makes them, with gaps for what values say.

The program is asked about a mesh that is made up, and what was made up is then looked for in its answer. So the chart
has no rules of its own: when those of the program change, `build.py` says that these are stale.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

import block

PROGRAM = Path(__file__).resolve().parent.parent / "target" / "debug" / "consilium"

MESH = """\
name: mesh-in-question
listen: 127.0.0.1:7600
admin: 127.0.0.1:7601
models: .
gate: {encoder: any}
experts: [expert.yaml]
"""
EXPERT = """\
name: expert-in-question
version: "1"
summary: Stands for any expert.
task: {kind: classify, model: any}
slo: {latency: 137ms, objective: %s}
"""

# Digits that stand nowhere else. An expert that promises less has fewer alerts: a line whose factor times the budget is
# more than everything is left out. So there is one objective for each number of lines.
OBJECTIVES = ("0.98765", "0.89765", "0.78965", "0.48765")

HEAD = """\
# What `consilium slo rules` makes, with gaps (@…@) that templates/monitoring fills in. `helm/build.py` made this file.
"""


def files() -> dict[str, str]:
    """Each file with its text."""
    answers = [_ask(objective) for objective in OBJECTIVES]
    of_expert = [[group for group in groups if group["name"].startswith("sloth-")] for groups in answers]
    of_mesh = [[group for group in groups if not group["name"].startswith("sloth-")] for groups in answers]
    if any(groups != of_mesh[0] for groups in of_mesh):
        raise ValueError("the rules of the mesh vary with the objective of an expert")
    return {"expert.yaml": _write(_of_expert(of_expert)), "mesh.yaml": _write({"groups": of_mesh[0]})}


def _of_expert(by_objective: list[list[dict[str, Any]]]) -> dict[str, Any]:
    always = [group for group in by_objective[0] if not _alerts([group])]
    for groups in by_objective:
        if [group for group in groups if not _alerts([group])] != always:
            raise ValueError("more varies with the objective than the alerts")
    alerts = []
    for groups in by_objective:
        for group in groups:
            if _alerts([group]):
                expressions = " ".join(rule["expr"] for rule in group["rules"])
                factors = [float(factor) for factor in re.findall(r"\(([0-9.]+) \* @budget@\)", expressions)]
                alerts.append({"factor": max(factors), "group": group})
    return {"groups": always, "alerts": alerts}


def _alerts(groups: list[dict[str, Any]]) -> bool:
    return any("alert" in rule for group in groups for rule in group["rules"])


def _ask(objective: str) -> list[dict[str, Any]]:
    """The groups, with gaps."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "mesh.yaml").write_text(MESH, encoding="utf-8")
        Path(folder, "expert.yaml").write_text(EXPERT % objective, encoding="utf-8")
        options = ["--where", "namespace=scope-in-question", "--least-bad", "1000001"]
        options += ["--runbook-url", "https://runbook.invalid", "--dashboard-url", "https://dashboards.invalid"]
        command = [PROGRAM, "slo", "rules", "--format", "operator", *options, "mesh.yaml"]
        said = subprocess.run(command, cwd=folder, capture_output=True, check=False, encoding="utf-8")
    if said.returncode:
        raise RuntimeError(said.stdout + said.stderr)
    share = float(objective)
    gaps = {
        # Longer texts before those that they contain.
        '{namespace="scope-in-question"}': "@all@",
        ', namespace="scope-in-question"': "@and@",
        "mesh-in-question": "@mesh@",
        "expert-in-question": "@expert@",
        "https://runbook.invalid": "@runbook@",
        "https://dashboards.invalid": "@dashboards@",
        "1000000.5": "@more-than@",
        f"{_number(100 * share)}% within 137 ms: {_number(100 - 100 * share)}% may": "@promise@: @budget-percent@% may",
        f"vector({objective})": "vector(@objective@)",
        f"vector(1-{objective})": "vector(1-@objective@)",
        f" * {_number(1 - share)})": " * @budget@)",
    }
    groups = yaml.safe_load(said.stdout)["spec"]["groups"]
    return _filled(groups, gaps, _number(100 * share))


def _filled(part: Any, gaps: dict[str, str], percent: str) -> Any:
    if isinstance(part, list):
        return [_filled(each, gaps, percent) for each in part]
    if isinstance(part, dict):
        filled = {key: _filled(each, gaps, percent) for key, each in part.items()}
        if filled.get("sloth_objective") == percent:
            filled["sloth_objective"] = "@percent@"
        return filled
    for text, gap in gaps.items():
        part = part.replace(text, gap)
    return part


def _number(value: float) -> str:
    return f"{value:.12f}".rstrip("0").rstrip(".")


def _write(content: dict[str, Any]) -> str:
    text = HEAD + block.dump(content)
    left = re.search(r"in-question|\.invalid|1000000|137 ms|[0-9]*8765", text)
    if left:
        raise ValueError(f"{left[0]} of the made-up mesh is left: write a gap for it")
    return text
