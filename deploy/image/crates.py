"""Which crates a program is linked from, as cargo tells it: versions, hashes, licences and the texts of those."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layout import PROGRAMS, ROOT

_TEXTS = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)", re.IGNORECASE)


@dataclass(frozen=True)
class Crate:
    """A crate of the program; `needs` are the ids of others that it is linked with."""

    id: str
    name: str
    version: str
    licence: str
    # Of the registry's archive; None for our own.
    sha256: str | None
    description: str
    folder: Path
    needs: tuple[str, ...]


class Workspace:
    """What cargo says of this workspace, on this machine's platform."""

    def __init__(self) -> None:
        host = re.search(r"^host: (\S+)$", _run("rustc", "-vV"), re.MULTILINE)
        if not host:
            raise ValueError("rustc does not say which machine it builds for")
        metadata = json.loads(
            _run("cargo", "metadata", "--locked", "--format-version=1", "--filter-platform", host.group(1))
        )
        self._packages: Mapping[str, Any] = {package["id"]: package for package in metadata["packages"]}
        self._nodes: Mapping[str, Any] = {node["id"]: node for node in metadata["resolve"]["nodes"]}
        self._linked = self._of_the_build()
        lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
        self._sums = {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}

    def crates_of(self, crate: str) -> list[Crate]:
        """Those that the program of this crate is linked from, itself the first, without build scripts and macros."""
        start = next(id for id, package in self._packages.items() if package["name"] == crate and not package["source"])
        found: dict[str, Crate] = {}
        open_ids = [start]
        while open_ids:
            id = open_ids.pop(0)
            if id not in found:
                found[id] = self._crate(id)
                open_ids += found[id].needs
        return list(found.values())

    def _crate(self, id: str) -> Crate:
        package = self._packages[id]
        return Crate(
            id=id,
            name=package["name"],
            version=package["version"],
            licence=package["license"] or "NOASSERTION",
            sha256=self._sums.get((package["name"], package["version"])),
            description=" ".join((package["description"] or "").split()),
            folder=Path(package["manifest_path"]).parent,
            needs=tuple(
                dependency["pkg"]
                for dependency in self._nodes[id]["deps"]
                if any(kind["kind"] is None for kind in dependency["dep_kinds"]) and self._is_linked(dependency["pkg"])
            ),
        )

    def _is_linked(self, id: str) -> bool:
        package = self._packages[id]
        return (package["name"], package["version"]) in self._linked

    @staticmethod
    def _of_the_build() -> set[tuple[str, str]]:
        """Metadata knows the features of the whole workspace with its tests; the tree knows those of this build."""
        chosen = [argument for program in PROGRAMS.values() for argument in ("-p", program.crate)]
        edges = ("-e", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}")
        told = _run("cargo", "tree", "--locked", *chosen, *edges)
        return set(re.findall(r"^(\S+) v(\S+)", told, re.MULTILINE))


def notices(crates: Iterable[Crate]) -> str:
    """The licences of the crates as their authors wrote them, each text once, with whose it is: they ask for that."""
    told: dict[str, list[str]] = {}
    for crate in sorted(crates, key=lambda crate: (crate.name, crate.version)):
        if crate.sha256 is None:
            continue
        texts = [path for path in sorted(crate.folder.iterdir()) if path.is_file() and _TEXTS.match(path.name)]
        texts_said = [path.read_text(encoding="utf-8", errors="replace").strip() for path in texts]
        for text in texts_said or [f"Its archive carries no text. It says: {crate.licence}"]:
            told.setdefault(text, []).append(f"{crate.name} {crate.version}")
    line = "-" * 80
    return "\n".join(f"{line}\n{', '.join(whose)}\n{line}\n\n{text}\n" for text, whose in told.items())


def _run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
