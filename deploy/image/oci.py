"""Writes container images as archives, without a container engine. Knows nothing of what is in them.

An archive is an OCI image layout that also carries docker's own list: `docker load`, `podman load`, `skopeo` and
`ctr images import` all take it. The same input gives the same bytes, and so the same digests: files are sorted, times
are zero, owners are numbers.

    layer = Layer(Path("root"), "what it is", {"var/lib/thing": Special(uid=65532, gid=65532, mode=0o700)})
    Image("docker.io/example/thing:1", [layer], {"Entrypoint": ["/usr/bin/thing"]}).write(Path("thing.tar"))
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_BEGINNING = "1970-01-01T00:00:00Z"
_OCI = "application/vnd.oci.image"


class Special(NamedTuple):
    """Owner and mode of a path that is not like all others: root's, 0755 for what may be run or entered, else 0644."""

    uid: int = 0
    gid: int = 0
    mode: int | None = None


@dataclass(frozen=True)
class Layer:
    """The files below a directory. Modes there say who may run a file and nothing else, so no umask gets in."""

    root: Path
    title: str
    special: Mapping[str, Special] = field(default_factory=dict)

    def pack(self, cache: Path) -> Blob:
        """The layer in `cache`, compressed; taken from there when it is there already."""
        plain = _Measure()
        self._tar(plain)
        path = cache / f"{plain.sha256.hexdigest()}.tar.gz"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            with new.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                self._tar(cast(BinaryIO, packed))
            new.rename(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Blob(path, self.title, digest, path.stat().st_size, plain.sha256.hexdigest(), plain.size)

    def _tar(self, into: BinaryIO | _Measure) -> None:
        unknown = set(self.special) - {path.relative_to(self.root).as_posix() for path in _below(self.root)}
        if unknown:
            raise ValueError(f"{self.title}: special, but not there: {', '.join(sorted(unknown))}")
        with tarfile.open(fileobj=cast(BinaryIO, into), mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for path in _below(self.root):
                name = path.relative_to(self.root).as_posix()
                entry = self._entry(path, name)
                if entry.isreg():
                    with path.open("rb") as file:
                        tar.addfile(entry, file)
                else:
                    tar.addfile(entry)

    def _entry(self, path: Path, name: str) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        if path.is_symlink():
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
        elif path.is_dir():
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        elif path.is_file():
            found = path.stat()
            entry.size, entry.mode = found.st_size, 0o755 if found.st_mode & 0o111 else 0o644
        else:
            raise ValueError(f"{path} is neither a file nor a directory nor a link")
        special = self.special.get(name, Special())
        entry.uid, entry.gid = special.uid, special.gid
        entry.mode = entry.mode if special.mode is None else special.mode
        return entry


@dataclass(frozen=True)
class Blob:
    """A layer in its packed form: where it is, the digest and size of its bytes, and of what they unpack to."""

    path: Path
    title: str
    sha256: str
    size: int
    unpacked_sha256: str
    unpacked_size: int


@dataclass(frozen=True)
class Written:
    """What became of an image: its file, its layers, and the digest of its manifest, by which a registry knows it."""

    path: Path
    layers: Sequence[Blob]
    digest: str


@dataclass(frozen=True)
class Image:
    """`name` has registry and tag; `config` is in the words of OCI's image configuration, Entrypoint and so on."""

    name: str
    layers: Sequence[Layer]
    config: Mapping[str, Any]

    def write(self, path: Path, cache: Path | None = None) -> Written:
        """Writes the archive; packed layers are kept in `cache`, else in `layers` beside the archive."""
        blobs = [layer.pack(cache or path.parent / "layers") for layer in self.layers]
        config = _json(self._config(blobs))
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": f"{_OCI}.manifest.v1+json",
                "config": _described(config, f"{_OCI}.config.v1+json"),
                "layers": [
                    {"mediaType": f"{_OCI}.layer.v1.tar+gzip", "digest": f"sha256:{blob.sha256}", "size": blob.size}
                    for blob in blobs
                ],
            }
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        with tarfile.open(new, "w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
            _add(tar, "index.json", _json(self._index(manifest)))
            _add(tar, "manifest.json", _json(self._docker(config, blobs)))
            _add(tar, _place(config), config)
            _add(tar, _place(manifest), manifest)
            for blob in {blob.sha256: blob for blob in blobs}.values():
                entry = tarfile.TarInfo(f"blobs/sha256/{blob.sha256}")
                entry.size = blob.size
                with blob.path.open("rb") as file:
                    tar.addfile(entry, file)
        new.rename(path)
        return Written(path, blobs, f"sha256:{hashlib.sha256(manifest).hexdigest()}")

    def _config(self, blobs: Sequence[Blob]) -> dict[str, Any]:
        return {
            "created": _BEGINNING,
            "architecture": architecture(),
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{blob.unpacked_sha256}" for blob in blobs]},
            "history": [{"created": _BEGINNING, "created_by": blob.title} for blob in blobs],
        }

    def _index(self, manifest: bytes) -> dict[str, Any]:
        tag = self.name.rpartition(":")[2]
        described = _described(manifest, f"{_OCI}.manifest.v1+json") | {
            "platform": {"architecture": architecture(), "os": "linux"},
            # The first is what containerd calls the image, the second is OCI's own word, a tag.
            "annotations": {"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": tag},
        }
        return {"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": [described]}

    def _docker(self, config: bytes, blobs: Sequence[Blob]) -> list[dict[str, Any]]:
        layers = [f"blobs/sha256/{blob.sha256}" for blob in blobs]
        return [{"Config": _place(config), "RepoTags": [self.name], "Layers": layers}]


def architecture() -> str:
    """Of this machine, in the words of images: amd64, arm64."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


class _Measure:
    """Takes bytes like a file, and keeps their hash and number."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return len(data)


def _below(root: Path) -> Iterator[Path]:
    """Everything below, a directory before what is in it. Links are not followed."""
    for path in sorted(root.iterdir(), key=lambda path: path.name):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _described(data: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def _place(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
