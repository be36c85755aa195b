"""Lint. Each Helm looks the chart over, strictly, with each file of values in ci/."""

from __future__ import annotations

from conftest import ci_values
from helms import Helm


def test_nothing_is_found_fault_with(helm: Helm, case: str) -> None:
    assert helm.lint(ci_values(case)) == []


def test_lint_sees_what_is_wrong(helm: Helm) -> None:
    assert any("replics" in found for found in helm.lint({"router": {"replics": 3}}))
