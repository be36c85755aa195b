"""The lowest layer, on machines that are not like the one where it was built last."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import rootfs


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Programs that this machine does not have: add to it."""
    gone: set[str] = set()
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name in gone else found(name))
    return gone


def test_it_is_the_same_each_time_and_without_apt_too(out: Path, without: set[str], tmp_path: Path) -> None:
    before = rootfs.layer(out / "unpacked/base").pack(tmp_path)
    without.add("apt-get")
    packages = rootfs.assemble(tmp_path / "again")
    assert [package.name for package in packages] == [wanted.name for wanted in rootfs.PACKAGES]
    assert rootfs.layer(tmp_path / "again").pack(tmp_path).sha256 == before.sha256


def test_what_cannot_be_had_is_named(without: set[str], tmp_path: Path) -> None:
    without.add("apt-get")
    with pytest.raises(rootfs.RootError, match=r"libc6 2\.36-9\*.*deploy/Dockerfile"):
        rootfs.assemble(tmp_path / "root", tmp_path / "empty")


def test_another_distribution_is_told_what_to_do(without: set[str], tmp_path: Path) -> None:
    without.add("dpkg-deb")
    with pytest.raises(rootfs.RootError, match="deploy/Dockerfile"):
        rootfs.assemble(tmp_path / "root", tmp_path / "empty")


def test_a_damaged_download_is_not_taken(out: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(rootfs.CACHE, cache)
    (damaged,) = cache.glob("libgcc-s1_*.deb")
    damaged.write_bytes(b"not a package")
    rootfs.assemble(tmp_path / "root", cache)
    assert rootfs.layer(tmp_path / "root").pack(tmp_path) == rootfs.layer(out / "unpacked/base").pack(tmp_path)
