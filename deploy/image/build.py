#!/usr/bin/env python3
"""Builds the images of Consilium from programs that cargo built, without a container engine and without a base image.

build.py                          router, expert and cli, from target/release, as target/image/*.tar
build.py expert --profile debug   only that one, from target/debug
build.py --unpacked DIR           the layers as directories, which is what the Dockerfile copies
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import crates
import layers
import libraries
import rootfs
import sbom
from layout import PROGRAMS, ROOT, STATE, Program
from oci import Image, Layer, Written


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 done, 1 something is missing or does not fit, 2 wrong arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PROGRAMS)}; none means all")
    parser.add_argument("--profile", choices=("release", "debug"), default="release", help="whose programs")
    parser.add_argument("--out", type=Path, default=ROOT / "target/image", help="where archives go")
    parser.add_argument("--revision", help="the commit, for a label; default: what git says")
    parser.add_argument("--unpacked", type=Path, metavar="DIR", help="write layers as directories, and no archives")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(PROGRAMS))
    if unknown:
        parser.error(f"no image is called {', '.join(unknown)}; there are {', '.join(PROGRAMS)}")
    chosen = [PROGRAMS[name] for name in options.names or PROGRAMS]
    roots = options.unpacked or options.out / "unpacked"
    try:
        bills = _lay_out(roots, chosen, ROOT / "target" / options.profile)
        if options.unpacked:
            _ready_to_copy(roots)
        else:
            _write(options.out, chosen, bills, options.revision or _revision())
    except (rootfs.RootError, layers.LayerError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"image: {error.cmd[0]} failed: {error.stderr or ''}", file=sys.stderr)
        return 1
    except FileNotFoundError as error:
        print(f"image: there is no {error.filename} here", file=sys.stderr)
        return 1
    return 0


def _lay_out(roots: Path, chosen: Iterable[Program], programs: Path) -> dict[str, str]:
    """Fills the directories base, onnxruntime, models and one for each program; gives the bills by name."""
    packages = rootfs.assemble(roots / "base")
    runtime = layers.onnxruntime(roots / "onnxruntime")
    layers.models(roots / "models")
    workspace = crates.Workspace()
    bills = {}
    for program in chosen:
        linked = workspace.crates_of(program.crate)
        parts = sbom.Parts(linked, packages, sbom.onnxruntime(runtime.release, runtime.sha256), ROOT / "models/build")
        bills[program.name] = sbom.bill(program, parts)
        documents = {"sbom.cdx.json": bills[program.name], "third-party.txt": crates.notices(linked)}
        layers.program(roots / program.name, program, programs, documents)
        linked_files = [file for name in ("base", "onnxruntime", program.name) for file in libraries.read(roots / name)]
        if missing := libraries.missing(linked_files):
            raise layers.LayerError(f"{program.name} would not start:\n  " + "\n  ".join(missing))
    return bills


def _ready_to_copy(roots: Path) -> None:
    """A Dockerfile copies modes as they are, and for one owner at a time: what is not root's gets its own directory."""
    base = rootfs.layer(roots / "base")
    for path in roots.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o111 else 0o644)
    for name, special in base.special.items():
        if special.mode is not None:
            (base.root / name).chmod(special.mode)
    state = roots / "state"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    (base.root / STATE).rename(state / Path(STATE).name)


def _write(out: Path, chosen: Iterable[Program], bills: dict[str, str], revision: str | None) -> None:
    roots = out / "unpacked"
    shared = [
        rootfs.layer(roots / "base"),
        Layer(roots / "onnxruntime", "ONNX Runtime"),
        Layer(roots / "models", "models"),
    ]
    written = {}
    for program in chosen:
        of_its_own = Layer(roots / program.name, f"{program.binary}, its licences and its bill of materials")
        image = Image(program.image(), [*shared, of_its_own], program.config(revision))
        written[program] = image.write(out / f"{program.name}.tar")
        (out / f"{program.name}.cdx.json").write_text(bills[program.name], encoding="utf-8")
    # What other programs left; it is made again in seconds when it is wanted.
    used = {blob.path for image in written.values() for blob in image.layers}
    for path in set((out / "layers").iterdir()) - used:
        path.unlink()
    _tell(written)


def _tell(written: dict[Program, Written]) -> None:
    for program, image in written.items():
        print(f"{program.image()}  {image.digest}")
        for blob in image.layers:
            print(f"  {_mib(blob.unpacked_size)} {_mib(blob.size)}  sha256:{blob.sha256[:12]}  {blob.title}")
        total, packed = sum(blob.unpacked_size for blob in image.layers), sum(blob.size for blob in image.layers)
        print(f"  {_mib(total)} {_mib(packed)}  in all, unpacked and compressed: {image.path.name}")


def _mib(size: int) -> str:
    return f"{size / 2**20:7.1f} MiB"


def _revision() -> str | None:
    """The commit that is checked out, where this is a clone; marked when there is more than that."""
    said = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or None if said.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
