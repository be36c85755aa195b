"""Assembles the lowest layer of the images from Debian's packages: C and C++ libraries, certificates, names, licences.

Nothing is installed: apt downloads the packages and checks them against its signed lists, they are unpacked, and what
is named here is taken. No program is among it. Works as any user. Downloads are kept, for machines without a network.

    rootfs.py DIRECTORY
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from layout import CERTIFICATES, NONROOT, ROOT, STATE
from oci import Layer, Special

CACHE = ROOT / "target/image/debian"


class RootError(Exception):
    """The layer cannot be assembled here; the text says why and what to do."""


@dataclass(frozen=True)
class Wanted:
    """A package: its version, where a star takes every rebuild of a source, its licence, and which files are taken."""

    name: str
    version: str
    licence: str
    files: tuple[str, ...] = ()


class Package(NamedTuple):
    """What was unpacked."""

    name: str
    version: str
    architecture: str
    licence: str


_OF_GCC = "GPL-3.0-or-later WITH GCC-exception-3.1"

# A rebuild replaces the one before it in the archive, hence the stars. Whom to believe changes with time and not with
# us, so of certificates it is the newest.
PACKAGES = (
    Wanted(
        "libc6",
        "2.36-9*",
        "LGPL-2.1-or-later",
        (
            # The dynamic linker, and the place where programs look for it.
            *("lib/*/ld-linux*", "lib*/ld-linux*"),
            *(f"lib/*/lib{name}.so.*" for name in ("c", "m", "resolv")),
            # Empty today, and still named by what was linked before they were.
            *(f"lib/*/lib{name}.so.*" for name in ("dl", "pthread", "rt")),
        ),
    ),
    Wanted("libgcc-s1", "12.2.0-14*", _OF_GCC, ("lib/*/libgcc_s.so.1",)),
    # Without the debugger's scripts that lie beside it.
    Wanted("libstdc++6", "12.2.0-14*", _OF_GCC, ("usr/lib/*-linux-gnu/libstdc++.so.*[0-9]",)),
    # Holds the copyright of the two before it.
    Wanted("gcc-12-base", "12.2.0-14*", _OF_GCC),
    Wanted("ca-certificates", "20*", "MPL-2.0 AND GPL-2.0-or-later"),
    # With the texts of licences, which the copyrights of all others refer to.
    Wanted("base-files", "12.4*", "GPL-2.0-or-later", ("usr/lib/os-release", "usr/share/common-licenses/*")),
)

_FILES = {
    "etc/passwd": f"""\
root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
nonroot:x:{NONROOT}:{NONROOT}:nonroot:/{STATE}:/sbin/nologin
""",
    "etc/group": f"root:x:0:\nnobody:x:65534:\nnonroot:x:{NONROOT}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

_SPECIAL = {"tmp": Special(mode=0o1777), STATE: Special(NONROOT, NONROOT, 0o700)}


def layer(root: Path) -> Layer:
    """What `assemble` made, as a layer."""
    return Layer(root, "libraries, certificates and licences of Debian 12", _SPECIAL)


def assemble(into: Path, cache: Path = CACHE) -> list[Package]:
    """Makes the directory anew, and gives what went into it."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    packages = []
    for wanted, archive in zip(PACKAGES, _archives(cache), strict=True):
        with tempfile.TemporaryDirectory() as unpacked:
            _run("dpkg-deb", "-x", archive, unpacked)
            _take(wanted, Path(unpacked), into)
        stanza = _run("dpkg-deb", "-f", archive)
        # Where scanners look for what is in an image that has no package database.
        _write(into / "var/lib/dpkg/status.d" / wanted.name, stanza)
        told = dict(re.findall(r"^(\w+): (.*)$", stanza, re.MULTILINE))
        packages.append(Package(wanted.name, told["Version"], told["Architecture"], wanted.licence))
    for name, text in _FILES.items():
        _write(into / name, text)
    (into / "etc/os-release").symlink_to("../usr/lib/os-release")
    for name in _SPECIAL:
        (into / name).mkdir(parents=True)
    return packages


def _take(wanted: Wanted, unpacked: Path, into: Path) -> None:
    # Packages of one source have one copyright: a link leads to it.
    copyright = unpacked / "usr/share/doc" / wanted.name
    paths = [copyright if copyright.is_symlink() else copyright / "copyright"]
    for pattern in wanted.files:
        found = sorted(unpacked.glob(pattern))
        if not found:
            raise RootError(f"the package {wanted.name} has no {pattern}")
        paths += found
    for path in paths:
        target = into / path.relative_to(unpacked)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
    if wanted.name == "ca-certificates":
        certificates = sorted(unpacked.glob("usr/share/ca-certificates/**/*.crt"))
        bundle = "".join(path.read_text(encoding="ascii").rstrip("\n") + "\n" for path in certificates)
        _write(into / CERTIFICATES.lstrip("/"), bundle)


def _archives(cache: Path) -> list[Path]:
    """The packages' files, in the order of PACKAGES."""
    if not shutil.which("dpkg-deb"):
        raise RootError("there is no dpkg-deb here; deploy/Dockerfile builds the same images anywhere")
    cache.mkdir(parents=True, exist_ok=True)
    offered = _offered()
    if offered is None:
        return [_kept(wanted, cache) for wanted in PACKAGES]
    missing = []
    for wanted, (name, digest) in zip(PACKAGES, offered, strict=True):
        path = cache / name
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            missing.append(f"{wanted.name}={wanted.version}")
    if missing:
        # apt would download as a user who may not write here, and warn about it.
        _run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *missing, cwd=cache)
    return [cache / name for name, _ in offered]


def _offered() -> list[tuple[str, str]] | None:
    """What apt would download for each package, file name and SHA-256; None where no apt here knows them."""
    if not shutil.which("apt-get"):
        return None
    versions = [f"{wanted.name}={wanted.version}" for wanted in PACKAGES]
    asked = ["apt-get", "-qq", "--print-uris", "download", *versions]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)
    if said.returncode:
        # An image may come without apt's lists. Who is not root cannot fetch them.
        subprocess.run(["apt-get", "-qq", "update"], capture_output=True, check=False)
        said = subprocess.run(asked, capture_output=True, text=True, check=False)
    if said.returncode:
        return None
    found = dict(_told(said.stdout))
    return [found[wanted.name] for wanted in PACKAGES]


def _told(lines: str) -> Iterator[tuple[str, tuple[str, str]]]:
    for name, digest in re.findall(r"^'\S+' (\S+) \d+ SHA256:([0-9a-f]{64})$", lines, re.MULTILINE):
        # apt writes the colon of an epoch as %3a, in the file that it downloads as well.
        yield name.partition("_")[0], (name, digest)


def _kept(wanted: Wanted, cache: Path) -> Path:
    """From an earlier download: then apt checked it."""
    kept = cache.glob(f"{wanted.name}_*.deb")
    found = [path for path in kept if fnmatch.fnmatch(unquote(path.name.split("_")[1]), wanted.version)]
    if not found:
        raise RootError(
            f"no apt here offers {wanted.name} {wanted.version}, and {cache} does not have it: this needs Debian 12, "
            "and `apt-get update` run before by root; deploy/Dockerfile builds the same images anywhere"
        )
    return max(found, key=lambda path: path.stat().st_mtime)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    said = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if said.returncode:
        raise RootError(f"{command[0]} failed: {said.stderr.strip()}")
    return said.stdout


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 done, 1 it cannot be done here, 2 wrong arguments."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        for package in assemble(Path(arguments[0])):
            print(package.name, package.version)
    except RootError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
