"""The images that only the tests need: what a pod's sandbox runs, etcd as its makers publish it, the load generator.

    images.py [NAME…]     writes their archives and prints the paths; all of them without a name

The node has no registry to pull from, so what a published image would hold is put into an archive of the same name.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.layout import ETCD, IMAGES, PAUSE, PAUSE_PROGRAM, REPOSITORY, TOOLS

sys.path.insert(0, str(REPOSITORY / "deploy" / "image"))

from oci import Image, Layer

NONROOT = "65532:65532"


@dataclass(frozen=True)
class Wanted:
    """An image: its full name, where in it which of our programs lies, and how it is run."""

    image: str
    files: dict[str, Path]
    config: dict[str, Any]
    step: str = ""


WANTED = {
    "pause": Wanted(PAUSE, {"pause": PAUSE_PROGRAM}, {"Entrypoint": ["/pause"], "User": "65535:65535"}),
    # As published: no entry point, and root unless the pod says otherwise.
    "etcd": Wanted(
        "quay.io/coreos/etcd:v3.6.14",
        {f"usr/local/bin/{name}": ETCD.with_name(name) for name in ("etcd", "etcdctl", "etcdutl")},
        {"Cmd": ["/usr/local/bin/etcd"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/"},
        step="etcd",
    ),
    "load": Wanted(
        "docker.io/consilium-tests/load:0",
        {"usr/bin/load": TOOLS / "bin" / "load"},
        {"Entrypoint": ["/usr/bin/load"], "Env": ["PATH=/usr/bin"], "User": NONROOT, "WorkingDir": "/"},
        step="load",
    ),
}


def build(name: str) -> Path:
    """The archive of this image, written anew when one of its programs is newer."""
    wanted, archive = WANTED[name], IMAGES / f"{name}.tar"
    if name == "pause":
        compile_pause()
    missing = [str(program) for program in wanted.files.values() if not program.is_file()]
    if missing:
        raise RuntimeError(
            f"image {name}: {', '.join(missing)} is missing: `scripts/setup {wanted.step}` builds it, with Go"
        )
    newest = max(file.stat().st_mtime for file in (*wanted.files.values(), Path(__file__)))
    if archive.exists() and archive.stat().st_mtime > newest:
        return archive
    with tempfile.TemporaryDirectory() as folder:
        for path, program in wanted.files.items():
            place = Path(folder) / path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(program, place)
            place.chmod(0o755)
        Image(wanted.image, [Layer(Path(folder), name)], wanted.config).write(archive)
    return archive


def compile_pause() -> None:
    """Compiles the program that does nothing, which holds the namespaces of pods, and of the node itself."""
    source = Path(__file__).with_name("pause.c")
    if PAUSE_PROGRAM.exists() and PAUSE_PROGRAM.stat().st_mtime > source.stat().st_mtime:
        return
    PAUSE_PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    # Beside the old one first, which may be running.
    new = PAUSE_PROGRAM.with_suffix(".new")
    subprocess.run(["cc", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-o", new, source], check=True)
    new.rename(PAUSE_PROGRAM)


def main(names: list[str]) -> int:
    """Writes the archives that are named."""
    unknown = set(names) - set(WANTED)
    if unknown:
        print(f"images: there is no {', '.join(sorted(unknown))}, but {', '.join(WANTED)}", file=sys.stderr)
        return 1
    for name in names or WANTED:
        print(build(name))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
