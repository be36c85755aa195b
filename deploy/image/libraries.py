"""Whether every library that something in an image is linked with is in there, too, with the symbols that it wants.

What the dynamic linker would say at the start, said when the image is built: a program that was built against a newer
glibc than the image's fails here, and not on somebody's cluster.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_MAGIC = b"\x7fELF"


@dataclass(frozen=True)
class Linked:
    """What a file says of itself: its names, the libraries that it needs, the versions of symbols it wants and has."""

    names: tuple[str, ...]
    needs: tuple[str, ...] = ()
    wants: frozenset[tuple[str, str]] = frozenset()
    defines: frozenset[str] = frozenset()


def missing(files: Sequence[Linked]) -> list[str]:
    """What would not start if these were all there is; empty when all is well."""
    there = {name: file for file in files for name in file.names}
    found = []
    for file in files:
        name = file.names[0]
        found += [f"{name} needs {library}, which is not there" for library in file.needs if library not in there]
        for library, version in sorted(file.wants):
            if library in there and version not in there[library].defines:
                found.append(f"{name} needs {version} of {library}, which does not have it")
    return found


def read(root: Path) -> list[Linked]:
    """Every program and library below a directory. Asks `objdump`, which is wherever programs are linked."""
    aliases: dict[Path, list[str]] = {}
    for path in root.rglob("*.so*"):
        # As libstdc++.so.6 is another name of libstdc++.so.6.0.30.
        if path.is_symlink():
            aliases.setdefault(path.parent / path.readlink(), []).append(path.name)
    return [_linked(path, tuple(aliases.get(path, ()))) for path in _elves(root)]


def _linked(path: Path, aliases: tuple[str, ...]) -> Linked:
    said = subprocess.run(["objdump", "-p", path], capture_output=True, text=True, check=True).stdout
    needs = re.findall(r"^\s+NEEDED\s+(\S+)", said, re.MULTILINE)
    _, _, references = said.partition("Version References:")
    wants = set()
    for library, versions in re.findall(r"required from (\S+):\n((?:\s+0x.*\n)+)", references):
        wants |= {(library, line.split()[-1]) for line in versions.splitlines()}
    _, _, definitions = said.partition("Version definitions:")
    defines = re.findall(r"^\d+ 0x\w+ 0x\w+ (\S+)", definitions, re.MULTILINE)
    return Linked((path.name, *aliases), tuple(needs), frozenset(wants), frozenset(defines))


def _elves(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == _MAGIC:
                    yield path
