"""The two Helms that the chart is tried with, behind one face.

Helm 4 is a library of PyPI and always there. Helm 3 is a program that is built with Go, and left out where it is not.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import helm_python

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "helm" / "consilium"
HELM_3 = ROOT / ".tools" / "bin" / "helm3"

# A Helm 3 that is not built by its own makefile takes the newest Kubernetes for 1.20.
KUBERNETES = ("--kube-version", "1.35.0")


class RefusedError(Exception):
    """Helm did not take the values, and this is what it said."""


class SchemaError(RefusedError):
    """Because of the schema: no template was looked at."""


class Helm(Protocol):
    """What tests ask of a Helm."""

    name: str

    def render(self, values: Mapping[str, Any], name: str = "consilium", namespace: str = "clinic") -> dict[str, str]:
        """What each template became, hooks included. `RefusedError` where values or templates are at fault."""
        ...

    def lint(self, values: Mapping[str, Any]) -> list[str]:
        """What it finds fault with, strictly."""
        ...


class Library:
    """Helm 4, in this process. A chart is read once, which makes a render ten times as fast as a program's."""

    name = "helm 4"

    def __init__(self, chart: Path = CHART) -> None:
        self._path = chart
        self._chart = helm_python.Chart.load(chart)

    def render(self, values: Mapping[str, Any], name: str = "consilium", namespace: str = "clinic") -> dict[str, str]:
        """See `Helm`."""
        try:
            self._chart.validate_schema(dict(values))
        except helm_python.HelmError as error:
            raise SchemaError(str(error)) from error
        try:
            return self._chart.render(dict(values), name=name, namespace=namespace)
        except helm_python.HelmError as error:
            raise RefusedError(str(error)) from error

    def lint(self, values: Mapping[str, Any]) -> list[str]:
        """See `Helm`."""
        report = helm_python.lint(self._path, dict(values), strict=True, namespace="clinic", quiet=True)
        # 1 is a remark, such as that there is no icon.
        found = [each["error"] for each in report["messages"] if each["severity"] > 1]
        return [*found, *(report["errors"] or [])]


class Program:
    """A Helm that is a program."""

    def __init__(self, name: str, program: Path, chart: Path = CHART) -> None:
        self.name = name
        self._program = program
        self._chart = chart

    def render(
        self,
        values: Mapping[str, Any],
        name: str = "consilium",
        namespace: str = "clinic",
        options: Sequence[str] = (),
    ) -> dict[str, str]:
        """See `Helm`. Without NOTES.txt, which `helm template` does not show."""
        said = self._run(values, "template", name, str(self._chart), "--namespace", namespace, *KUBERNETES, *options)
        rendered: dict[str, str] = {}
        for document in f"\n{said}".split("\n---\n")[1:]:
            source, _, text = document.partition("\n")
            path = source.removeprefix("# Source: ")
            rendered[path] = rendered.get(path, "") + "\n---\n" + text + "\n"
        return rendered

    def lint(self, values: Mapping[str, Any]) -> list[str]:
        """See `Helm`."""
        try:
            self._run(values, "lint", str(self._chart), "--strict", "--quiet", "--namespace", "clinic", *KUBERNETES)
        except RefusedError as refused:
            return str(refused).splitlines()
        return []

    def _run(self, values: Mapping[str, Any], *arguments: str) -> str:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump(values, file)
            file.flush()
            line = [str(self._program), *arguments, "--values", file.name]
            said = subprocess.run(line, capture_output=True, check=False, encoding="utf-8")
        if said.returncode:
            complaint = said.stdout + said.stderr
            of_schema = "values don't meet the specifications of the schema" in complaint
            raise (SchemaError if of_schema else RefusedError)(complaint)
        return said.stdout


def all_helms() -> list[Helm]:
    """Those that are here."""
    programs = [Program("helm 3", HELM_3)] if HELM_3.exists() else []
    return [Library(), *programs]
