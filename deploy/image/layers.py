"""Puts what goes into each layer into a directory, as it lies in an image. The lowest layer is rootfs.py's."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from layout import DOCUMENTS, MODELS, ONNXRUNTIME, ROOT, SHARED, Program


class LayerError(Exception):
    """Something that goes into a layer is not there, or is not what it should be; the text says what to do."""


@dataclass(frozen=True)
class Runtime:
    """Which ONNX Runtime it is: the release of its wheel, and the library's hash."""

    release: str
    sha256: str


def onnxruntime(into: Path, library: Path = ROOT / ".tools/lib/libonnxruntime.so") -> Runtime:
    """The library that `scripts/setup` put there, with the licences that its wheel carries."""
    wheel = next(iter(ROOT.glob(".venv/lib/python3*/site-packages/onnxruntime")), None)
    if not wheel or not library.is_file():
        raise LayerError("ONNX Runtime is not there: run scripts/setup python onnxruntime")
    digest = _sha256(library)
    if digest not in (ROOT / "scripts/setup").read_text(encoding="utf-8"):
        raise LayerError(f"{library} is not the library whose hash stands in scripts/setup")
    _anew(into)
    _copy(library, into / ONNXRUNTIME.lstrip("/"))
    for name in ("LICENSE", "ThirdPartyNotices.txt"):
        _copy(wheel / name, into / "usr/share/doc/onnxruntime" / name)
    pinned = re.search(
        r"^onnxruntime==(\S+)", (ROOT / "models/requirements.in").read_text(encoding="utf-8"), re.MULTILINE
    )
    if not pinned:
        raise LayerError("models/requirements.in does not pin onnxruntime")
    return Runtime(pinned.group(1), digest)


def models(into: Path, built: Path = ROOT / "models/build") -> None:
    """What the manifests name, and no more, checked against them."""
    _anew(into)
    for name in MODELS:
        manifest = built / name / "manifest.json"
        if not manifest.is_file():
            raise LayerError(f"the model {name} is not there: run scripts/setup models")
        target = into / SHARED.lstrip("/") / "models" / name
        _copy(manifest, target / "manifest.json")
        for file in json.loads(manifest.read_text(encoding="utf-8"))["files"]:
            _copy(built / name / file["path"], target / file["path"])
            if _sha256(target / file["path"]) != file["sha256"]:
                raise LayerError(f"{file['path']} of the model {name} is not what its manifest says")


def program(into: Path, which: Program, programs: Path, documents: dict[str, str]) -> None:
    """The program of `which` from the folder `programs`, its documents by name, and the meshes that come with it."""
    binary = programs / which.binary
    if not binary.is_file():
        raise LayerError(f"{binary} is not there: cargo build --release --locked -p {which.crate}")
    _anew(into)
    target = into / which.entrypoint.lstrip("/")
    target.parent.mkdir(parents=True)
    # Names of functions stay, so that a backtrace says something; lines would be three quarters of the file.
    subprocess.run(["strip", "--strip-debug", "-o", target, binary], check=True)
    target.chmod(0o755)
    _copy(ROOT / "LICENSE", into / DOCUMENTS.lstrip("/") / "LICENSE")
    for name, text in documents.items():
        (into / DOCUMENTS.lstrip("/") / name).write_text(text, encoding="utf-8")
    for mesh in which.meshes:
        shutil.copytree(ROOT / "meshes" / mesh, into / SHARED.lstrip("/") / "meshes" / mesh)


def _anew(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
