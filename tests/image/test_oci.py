"""What the writer of archives promises, on a small layer."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from archives import Archive
from oci import Image, Layer, Special

CONFIG = {"Entrypoint": ["/bin/thing"], "User": "7:8"}


def tree(root: Path) -> Path:
    """A file to run, one to read, a link, a directory of somebody else's."""
    (root / "bin").mkdir(parents=True)
    (root / "bin/thing").write_bytes(b"run me")
    (root / "bin/thing").chmod(0o700)
    (root / "etc").mkdir()
    (root / "etc/thing.conf").write_text("read me", encoding="utf-8")
    (root / "etc/thing.conf").chmod(0o4640)
    (root / "etc/link").symlink_to("thing.conf")
    (root / "state").mkdir()
    return root


def layer(root: Path) -> Layer:
    return Layer(root, "a thing", {"state": Special(7, 8, 0o700)})


def test_the_same_files_give_the_same_bytes_whenever_and_by_whomever_they_were_made(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    os.utime(two / "bin/thing", (1, 1))
    (two / "bin/thing").chmod(0o755)
    (two / "etc").chmod(0o700)
    written = [
        Image("example.org/thing:1", [layer(root)], CONFIG).write(tmp_path / "written" / root.name / "thing.tar")
        for root in (one, two)
    ]
    assert written[0].path.read_bytes() == written[1].path.read_bytes()
    assert written[0].digest == written[1].digest


def test_another_file_gives_another_digest(tmp_path: Path) -> None:
    root = tree(tmp_path / "root")
    before = Image("example.org/thing:1", [layer(root)], CONFIG).write(tmp_path / "thing.tar").digest
    (root / "etc/thing.conf").write_text("read me again", encoding="utf-8")
    assert Image("example.org/thing:1", [layer(root)], CONFIG).write(tmp_path / "thing.tar").digest != before


def test_digests_and_sizes_are_those_of_the_bytes(tmp_path: Path) -> None:
    written = Image("example.org/thing:1", [layer(tree(tmp_path / "root"))], CONFIG).write(tmp_path / "thing.tar")
    archive = Archive(written.path)
    assert archive.index()["digest"] == written.digest
    assert archive.index()["size"] == len(archive.blob(written.digest))
    (described,) = archive.manifest()["layers"]
    packed = archive.blob(described["digest"])
    assert described["size"] == len(packed) == written.layers[0].size
    with tarfile.open(written.path) as tar:
        assert sorted(name for name in tar.getnames() if name.startswith("blobs/")) == sorted(
            f"blobs/sha256/{digest.removeprefix('sha256:')}"
            for digest in (written.digest, archive.manifest()["config"]["digest"], described["digest"])
        )


def test_unpacked_layers_are_what_the_configuration_says(tmp_path: Path) -> None:
    written = Image("example.org/thing:1", [layer(tree(tmp_path / "root"))], CONFIG).write(tmp_path / "thing.tar")
    archive = Archive(written.path)
    unpacked = [hashlib.sha256(gzip.decompress(archive.blob(digest))).hexdigest() for digest in archive.digests()]
    assert archive.config()["rootfs"]["diff_ids"] == [f"sha256:{digest}" for digest in unpacked]
    assert archive.config()["config"] == CONFIG


def test_docker_finds_the_same_image_by_its_own_list(tmp_path: Path) -> None:
    written = Image("example.org/thing:1", [layer(tree(tmp_path / "root"))], CONFIG).write(tmp_path / "thing.tar")
    archive = Archive(written.path)
    (listed,) = json.loads(archive.file("manifest.json"))
    assert listed["RepoTags"] == ["example.org/thing:1"]
    assert json.loads(archive.file(listed["Config"])) == archive.config()
    assert [f"sha256:{Path(layer).name}" for layer in listed["Layers"]] == archive.digests()


def test_owners_and_modes_are_roots_unless_it_is_said(tmp_path: Path) -> None:
    written = Image("example.org/thing:1", [layer(tree(tmp_path / "root"))], CONFIG).write(tmp_path / "thing.tar")
    found = {name: (entry.uid, entry.gid, entry.mode) for name, entry in Archive(written.path).entries().items()}
    assert found == {
        "bin": (0, 0, 0o755),
        "bin/thing": (0, 0, 0o755),
        "etc": (0, 0, 0o755),
        "etc/link": (0, 0, 0o777),
        "etc/thing.conf": (0, 0, 0o644),
        "state": (7, 8, 0o700),
    }


def test_a_special_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    wrong = Layer(tree(tmp_path / "root"), "a thing", {"sate": Special(7, 8)})
    with pytest.raises(ValueError, match="sate"):
        Image("example.org/thing:1", [wrong], CONFIG).write(tmp_path / "thing.tar")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tree(tmp_path / "root") / "pipe")
    with pytest.raises(ValueError, match="pipe"):
        Image("example.org/thing:1", [Layer(tmp_path / "root", "a thing")], CONFIG).write(tmp_path / "thing.tar")
