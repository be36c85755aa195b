"""What a recipe is, and when its result is good enough to be kept.

A recipe runs only if something it depends on changed: its code, the packages, its data or the recipes it builds on.
It works in a folder beside the old result and takes its place at the end, so a build that fails or is interrupted
leaves the old model as it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

# Every recipe uses these; a new version of any of them may change the bytes that come out.
PACKAGES = ("numpy", "onnx", "onnxruntime", "safetensors", "tokenizers")
SHARED_MODULES = ("recipes.graph", "recipes.manifest", "recipes.proofs", "recipes.text")
STAMP = ".inputs"
LOCK = ".lock"


class BuildError(Exception):
    """A recipe cannot be built, or its result did not prove itself. The message is for the person who ran it."""


@dataclass(frozen=True)
class Context:
    """What a running recipe is given."""

    directory: Path
    """Empty; everything written here becomes the result."""
    built: Path
    """Where the results of the recipes named in `needs` lie, each in a folder of its own."""
    say: Callable[[str], None]
    """Tells the reader what a long step is doing."""


@dataclass(frozen=True)
class Recipe:
    """How one folder under `models/build` is made."""

    name: str
    make: Callable[[Context], Mapping[str, Any]]
    """Builds, proves, and gives the figures to print."""
    modules: tuple[str, ...]
    packages: tuple[str, ...] = ()
    data: tuple[Path, ...] = ()
    needs: tuple[str, ...] = ()


def build(
    recipes: Sequence[Recipe],
    out: Path,
    *,
    names: Collection[str] = (),
    force: bool = False,
    verbose: bool = False,
) -> list[str]:
    """Builds what is missing or out of date and gives the names of the recipes that ran.

    `recipes` are in building order. With `names`, only these and what they need; `force` runs what was named (or all)
    even if nothing changed.
    """
    forced = set(names or [recipe.name for recipe in recipes]) if force else set()
    wanted = _with_needs(recipes, names)
    digests: dict[str, str] = {}
    ran = []
    with _alone(out):
        for recipe in recipes:
            if recipe.name not in wanted:
                continue
            digest = digests[recipe.name] = inputs_digest(recipe, digests)
            if recipe.name not in forced and is_current(out / recipe.name, digest):
                if verbose:
                    print(f"{recipe.name}: up to date")
                continue
            _run(recipe, out, digest)
            ran.append(recipe.name)
    return ran


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Waits until no other process builds into `out`; the system lets go of the lock even if this one is killed."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("models: waiting for another build", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def inputs_digest(recipe: Recipe, needed: Mapping[str, str]) -> str:
    """SHA-256 over everything that the result of `recipe` depends on; `needed` has the digests of its `needs`."""
    parts = {
        "modules": {name: _file_digest(_source(name)) for name in (*SHARED_MODULES, *recipe.modules)},
        "packages": {name: metadata.version(name) for name in (*PACKAGES, *recipe.packages)},
        "data": {path.name: _file_digest(path) for path in recipe.data},
        "needs": {name: needed[name] for name in recipe.needs},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def is_current(directory: Path, digest: str) -> bool:
    """Whether `directory` was built from these inputs and still has every file, each of its size."""
    try:
        stamp = json.loads((directory / STAMP).read_text(encoding="utf-8"))
        sizes = {path: (directory / path).stat().st_size for path in stamp["files"]}
    except (OSError, ValueError, KeyError):
        return False
    return stamp["inputs"] == digest and stamp["files"] == sizes


def _with_needs(recipes: Sequence[Recipe], names: Collection[str]) -> set[str]:
    wanted = set(names or [recipe.name for recipe in recipes])
    for recipe in reversed(recipes):
        if recipe.name in wanted:
            wanted |= set(recipe.needs)
    return wanted


def _run(recipe: Recipe, out: Path, digest: str) -> None:
    started = time.monotonic()
    fresh, old = out / f".{recipe.name}.new", out / f".{recipe.name}.old"
    for left_over in (fresh, old):
        shutil.rmtree(left_over, ignore_errors=True)
    fresh.mkdir(parents=True)
    for path in recipe.data:
        if not path.is_file():
            raise BuildError(f"{recipe.name}: the data file {path.name} is missing")
    say = _Progress(recipe.name)
    say("building")
    try:
        figures = recipe.make(Context(directory=fresh, built=out, say=say))
        _stamp(fresh, digest)
        final = out / recipe.name
        if final.exists():
            final.rename(old)
        fresh.rename(final)
    finally:
        say.clear()
        for left_over in (fresh, old):
            shutil.rmtree(left_over, ignore_errors=True)
    told = ", ".join(f"{name} {_figure(value)}" for name, value in figures.items())
    print(f"{recipe.name}: {told} ({time.monotonic() - started:.1f} s)")


def _stamp(directory: Path, digest: str) -> None:
    files = {
        path.relative_to(directory).as_posix(): path.stat().st_size
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    stamp = {"inputs": digest, "files": files}
    (directory / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")


def _source(module: str) -> Path:
    found = importlib.import_module(module).__file__
    assert found is not None, module
    return Path(found)


def _file_digest(path: Path) -> str:
    """SHA-256 of a file; of a file that is not there, a word that equals no digest."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "missing"


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class _Progress:
    """One line that is written over on a terminal, and lines of their own elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._terminal = sys.stdout.isatty()

    def __call__(self, step: str) -> None:
        if self._terminal:
            print(f"\r\x1b[K{self._name}: {step} …", end="", flush=True)
        else:
            print(f"{self._name}: {step} …", flush=True)

    def clear(self) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", flush=True)
