"""Size: a release and its objects are small enough for where Kubernetes keeps them."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from random import Random

import helm_python
import yaml

from conftest import Render
from helms import CHART
from objects import Json, Objects, key

# Of a Secret, in which Helm keeps a release, and of a ConfigMap with what it is applied with.
OBJECT = 1_048_576
# Of the annotation in which `kubectl apply`, and what works like it, keeps what it applied.
ANNOTATION = 262_144
# Of all files together, as the chart refuses more.
FILES = 400 * 1024


def clinic() -> int:
    """Bytes of the example's files, with their names."""
    found = yaml.safe_load((CHART / "examples/clinic.yaml").read_text(encoding="utf-8"))
    groups = [found["meshFiles"], *(it["files"] for it in found["experts"].values())]
    return sum(len(name) + len(text.encode()) for files in groups for name, text in files.items())


def in_a_secret(objects: Objects, chart: Path, values: Json | None = None) -> int:
    """Bytes of the release, as Helm packs it: chart, values and objects as JSON, by gzip, in base64."""
    with helm_python.Chart.load(chart) as loaded:
        parts = [*loaded.files, *loaded.templates]
    of_chart = {it["name"]: base64.b64encode(it["data"].encode()).decode() for it in parts}
    release = {"chart": of_chart, "config": values or {}, "manifest": yaml.safe_dump_all(objects.all)}
    return len(base64.b64encode(gzip.compress(json.dumps(release).encode(), 9)))


def everything(experts: int) -> Json:
    """Values with all that there is of monitoring, and so many experts more."""
    new = {
        "settings": {
            "version": "1",
            "summary": "Knows something.",
            "examples": "examples.txt",
            "task": {"kind": "classify", "model": "clinic-diagnostic"},
            "slo": {"latency": "100ms", "objective": 0.9},
        },
        "files": {"examples.txt": "What is this?\n"},
    }
    return {
        "experts": {f"expert-{number:03}": new for number in range(experts)},
        "metrics": {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
    }


def test_a_release_fits_into_its_secret(render: Render) -> None:
    assert in_a_secret(render(everything(0)), CHART) < OBJECT / 2
    assert in_a_secret(render(everything(150)), CHART) < OBJECT


def test_a_release_with_all_the_files_that_there_may_be_fits(render: Render) -> None:
    random = Random(1)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(random.choices(syllables, k=random.randint(1, 4))) for _ in range(30_000)]
    text = " ".join(random.choices(words, k=100_000))[: FILES - clinic() - len("more.txt")]
    values = {"experts": {"general": {"files": {"more.txt": text}}}}
    assert in_a_secret(render(values), CHART, values) < OBJECT


def test_the_example_leaves_room_for_files_of_ones_own() -> None:
    assert clinic() < FILES * 2 / 3


def test_every_object_can_be_applied(render: Render) -> None:
    for it in render(everything(1)).all:
        assert len(json.dumps(it, separators=(",", ":"))) < ANNOTATION, key(it)
