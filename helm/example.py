"""The clinic as values of the chart: what `example: clinic` stands for.

The sources are the files of meshes/clinic, which people run and read; here they only get another shape.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import block

MESH = Path(__file__).resolve().parent.parent / "meshes" / "clinic"

# What the chart says by itself in mesh.yaml, and `web`: the clinic's origins are pages on the reader's own machine.
OWNED = ("listen", "admin", "models", "experts", "registry", "tls", "traces", "web")

# The settings of the gate that name a file beside mesh.yaml: at the top, and in each dimension.
NAMES_A_FILE_IN_GATE = ("background", "validation", "probes")
NAMES_A_FILE_IN_DIMENSION = ("examples",)

# The settings of an expert that name a file beside expert.yaml: at the top, and in `task`.
NAMES_A_FILE = ("examples",)
NAMES_A_FILE_IN_TASK = ("knowledge",)

HEAD = """\
# The clinic of meshes/clinic as values: an example, which gives no medical advice. `helm/build.py` made this file from
# the files of that mesh, which say why each setting is what it is. Values of yours are merged over it.
"""


def values() -> str:
    """The text of examples/clinic.yaml."""
    mesh = {key: value for key, value in _read(MESH / "mesh.yaml").items() if key not in OWNED}
    experts = {path.parent.name: _expert(path) for path in sorted(MESH.glob("experts/*/expert.yaml"))}
    questions = (MESH / "demo.jsonl").read_text(encoding="utf-8")
    found = {"mesh": mesh, "meshFiles": _gate_files(mesh["gate"]), "experts": experts, "test": {"questions": questions}}
    return HEAD + block.dump(found)


def _gate_files(gate: dict[str, Any]) -> dict[str, str]:
    named = [gate.get(key) for key in NAMES_A_FILE_IN_GATE]
    named += [it.get(key) for it in gate.get("dimensions", {}).values() for key in NAMES_A_FILE_IN_DIMENSION]
    return _texts(MESH, named)


def _expert(path: Path) -> dict[str, Any]:
    settings = _read(path)
    name = settings.pop("name")
    if name != path.parent.name:
        raise ValueError(f"{path}: the folder is not called {name}, as the expert is")
    named = [settings.get(key) for key in NAMES_A_FILE]
    named += [settings["task"].get(key) for key in NAMES_A_FILE_IN_TASK]
    return {"settings": settings, "files": _texts(path.parent, named)}


def _texts(folder: Path, named: list[str | None]) -> dict[str, str]:
    return {file: (folder / file).read_text(encoding="utf-8") for file in named if file}


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
