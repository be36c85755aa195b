"""Reads image archives the way an engine does: manifest, configuration, then layer over layer."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast


@dataclass(frozen=True)
class Archive:
    """An archive, opened by its OCI index. Every blob is checked against its digest."""

    path: Path

    def index(self) -> dict[str, Any]:
        """The only image in it, as the index describes it."""
        (described,) = json.loads(self.file("index.json"))["manifests"]
        return described

    def manifest(self) -> dict[str, Any]:
        """The image's list of layers."""
        return json.loads(self.blob(self.index()["digest"]))

    def config(self) -> dict[str, Any]:
        """How the image is run, and what its layers are when unpacked."""
        return json.loads(self.blob(self.manifest()["config"]["digest"]))

    def digests(self) -> list[str]:
        """Those of the layers, the lowest first."""
        return [layer["digest"] for layer in self.manifest()["layers"]]

    def entries(self) -> dict[str, tarfile.TarInfo]:
        """What is in the image, by path."""
        found = {}
        for digest in self.digests():
            with self._layer(digest) as layer:
                found |= {entry.name: entry for entry in layer}
        return found

    def read(self, path: str) -> bytes:
        """A file of the image."""
        for digest in reversed(self.digests()):
            with self._layer(digest) as layer:
                if path in layer.getnames():
                    return cast(IO[bytes], layer.extractfile(path)).read()
        raise KeyError(path)

    def unpack(self, into: Path) -> None:
        """All layers, with owners where that is allowed."""
        into.mkdir()
        for digest in self.digests():
            with self._layer(digest) as layer:
                layer.extractall(into, numeric_owner=True, filter="fully_trusted")

    def blob(self, digest: str) -> bytes:
        """By its digest."""
        kind, _, expected = digest.partition(":")
        assert kind == "sha256"
        data = self.file(f"blobs/sha256/{expected}")
        assert hashlib.sha256(data).hexdigest() == expected
        return data

    def file(self, name: str) -> bytes:
        """A file of the archive itself."""
        with tarfile.open(self.path) as tar:
            return cast(IO[bytes], tar.extractfile(name)).read()

    def _layer(self, digest: str) -> tarfile.TarFile:
        """Unpacked once, into a folder beside the archive, and checked against what the configuration says of it."""
        index = self.digests().index(digest)
        expected = self.config()["rootfs"]["diff_ids"][index].removeprefix("sha256:")
        plain = self.path.parent / "plain" / f"{expected}.tar"
        if not plain.exists():
            plain.parent.mkdir(exist_ok=True)
            data = gzip.decompress(self.blob(digest))
            assert hashlib.sha256(data).hexdigest() == expected
            plain.write_bytes(data)
        return tarfile.open(plain)
