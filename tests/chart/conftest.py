"""What the tests of the chart share: the Helms, renders that are made once, and a table of what was tested."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from helms import CHART, HELM_3, Helm, Library, all_helms
from objects import Objects

CI = {path.name.removesuffix("-values.yaml"): path for path in sorted(CHART.glob("ci/*-values.yaml"))}

Render = Callable[..., Objects]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --update-golden."""
    parser.addoption("--update-golden", action="store_true", help="write golden/*.yaml anew instead of comparing")


@pytest.fixture(scope="session", params=all_helms(), ids=lambda helm: helm.name)
def helm(request: pytest.FixtureRequest) -> Helm:
    """Each Helm that is here."""
    return request.param


@pytest.fixture(scope="session")
def library() -> Library:
    """Helm 4. What one Helm makes of a chart, the other makes too: test_render compares them."""
    return Library()


@pytest.fixture(scope="session")
def render(library: Library) -> Render:
    """The objects of values, of which each set is rendered once. Nobody changes them."""
    known: dict[str, Objects] = {}

    def rendered(values: Mapping[str, Any] | None = None, **of: str) -> Objects:
        asked = json.dumps([values, of], sort_keys=True)
        if asked not in known:
            known[asked] = Objects(library.render(values or {}, **of))
        return known[asked]

    return rendered


def ci_values(name: str) -> dict[str, Any]:
    """The values of ci/<name>-values.yaml."""
    return yaml.safe_load(CI[name].read_text(encoding="utf-8"))


@pytest.fixture(scope="session", params=CI, ids=str)
def case(request: pytest.FixtureRequest) -> str:
    """The name of each file of values in ci/."""
    return request.param


@pytest.fixture
def rendered(case: str, render: Render) -> Objects:
    """The objects of each file of values in ci/."""
    return render(ci_values(case))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests of each kind there were; a kind is a file of tests, and called as its first line says."""
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if getattr(report, "when", "call") == "call" or outcome != "passed":
                module = Path(report.nodeid.split("::")[0]).name
                counts.setdefault(module, Counter())[outcome] += 1
    terminalreporter.write_line("")
    terminalreporter.write_line(f"{'tests of the chart':<62} {'passed':>6} {'failed':>6} {'left out':>8}")
    for module, of in sorted(counts.items()):
        title = _title(Path(__file__).parent / module)
        failed = of["failed"] + of["error"]
        terminalreporter.write_line(f"{title:<62} {of['passed']:>6} {failed:>6} {of['skipped']:>8}")
    helms = ", ".join(helm.name for helm in all_helms())
    without = "" if HELM_3.exists() else "; without helm 3, which `scripts/setup helm3` builds where there is Go"
    terminalreporter.write_line(f"with {helms}{without}")


def _title(path: Path) -> str:
    return re.split("[.:]", path.read_text(encoding="utf-8").partition('"""')[2], maxsplit=1)[0]
