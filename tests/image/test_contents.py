"""What is in the images, and above all what is not."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest

import libraries
import rootfs
from archives import Archive
from layout import CERTIFICATES, MODELS, NONROOT, PROGRAMS, STATE, version
from libraries import Linked

# A layer may only bring what is meant to be there, and of the things that must not, these would be the worst.
TOOLS = ("sh", "bash", "dash", "busybox", "toybox", "perl", "python", "env", "apt", "dpkg", "ldconfig", "curl", "wget")


def test_the_only_programs_are_ours_and_the_dynamic_linker(image: Archive) -> None:
    runnable = {name for name, entry in image.entries().items() if entry.isreg() and entry.mode & 0o111}
    ours = image.config()["config"]["Entrypoint"][0].lstrip("/")
    others = {Path(name).name.split(".so")[0].split("-")[0] for name in runnable - {ours}}
    # Debian marks the C library as something to be run: it tells its version.
    assert others <= {"ld", "libc"}, runnable
    assert not [name for name in image.entries() if Path(name).name.startswith(TOOLS) and "bin/" in name]


def test_nothing_is_lent_and_nothing_but_tmp_is_everybodys(image: Archive) -> None:
    entries = image.entries()
    assert [name for name, entry in entries.items() if entry.mode & 0o6000] == []
    open_to_all = {name for name, entry in entries.items() if entry.mode & 0o002 and not entry.issym()}
    assert open_to_all == {"tmp"}
    assert entries["tmp"].mode == 0o1777


def test_all_is_roots_but_the_state(image: Archive) -> None:
    entries = image.entries()
    others = {name: (entry.uid, entry.gid) for name, entry in entries.items() if (entry.uid, entry.gid) != (0, 0)}
    assert others == {STATE: (NONROOT, NONROOT)}
    assert entries[STATE].mode == 0o700
    assert {entry.uname + entry.gname for entry in entries.values()} == {""}
    assert {entry.mtime for entry in entries.values()} == {0}


def test_links_lead_to_something_in_the_image(image: Archive, tmp_path: Path) -> None:
    entries = image.entries()
    root = Path("/")
    for name, entry in entries.items():
        if entry.issym():
            target = (root / name).parent / entry.linkname
            parts: list[str] = []
            for part in target.parts[1:]:
                parts = parts[:-1] if part == ".." else [*parts, part]
            assert "/".join(parts) in entries, f"{name} leads nowhere"


def test_the_images_share_all_but_the_last_layer(images: Mapping[str, Archive]) -> None:
    shared = {tuple(image.digests()[:-1]) for image in images.values()}
    assert len(shared) == 1
    assert len(shared.pop()) == 3
    assert len({image.digests()[-1] for image in images.values()}) == len(PROGRAMS)


def test_users_are_known_by_name(image: Archive) -> None:
    user, _, group = image.config()["config"]["User"].partition(":")
    assert f"nonroot:x:{user}:{group}:" in image.read("etc/passwd").decode()
    assert f"nonroot:x:{group}:" in image.read("etc/group").decode()


def test_the_certificates_can_be_believed(image: Archive) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=image.read(CERTIFICATES.lstrip("/")).decode("ascii"))
    assert context.cert_store_stats()["x509_ca"] > 100


def test_the_models_are_what_their_manifests_say(image: Archive) -> None:
    entries = image.entries()
    for model in MODELS:
        folder = f"usr/share/consilium/models/{model}"
        files = {file["path"]: file["size"] for file in json.loads(image.read(f"{folder}/manifest.json"))["files"]}
        found = {name.removeprefix(f"{folder}/"): entry.size for name, entry in entries.items() if entry.isreg()}
        assert {path: found[path] for path in files} == files
        assert {name for name in entries if name.startswith(f"{folder}/")} == {
            f"{folder}/{path}" for path in (*files, "manifest.json")
        }


def test_every_package_says_what_it_is_and_whose(image: Archive) -> None:
    entries = image.entries()
    for package in rootfs.PACKAGES:
        stanza = image.read(f"var/lib/dpkg/status.d/{package.name}").decode()
        assert f"Package: {package.name}\n" in stanza
        assert f"usr/share/doc/{package.name}" in entries or f"usr/share/doc/{package.name}/copyright" in entries
    assert "usr/share/common-licenses/GPL-3" in entries
    assert "usr/share/doc/onnxruntime/LICENSE" in entries
    assert "usr/share/doc/consilium/LICENSE" in entries
    # The licences of crates have to go where the program goes.
    assert "tokio 1." in image.read("usr/share/doc/consilium/third-party.txt").decode()


def test_every_library_that_is_asked_for_is_there(out: Path) -> None:
    for name in PROGRAMS:
        files = [file for layer in ("base", "onnxruntime", name) for file in libraries.read(out / "unpacked" / layer)]
        assert libraries.missing(files) == []
        # Without the lowest layer all of them would be missed, or the check would prove nothing.
        alone = libraries.missing(libraries.read(out / "unpacked" / name))
        assert any("libc.so.6, which is not there" in told for told in alone)


def test_a_program_that_wants_a_newer_library_is_told() -> None:
    libc = Linked(("libc.so.6",), defines=frozenset({"GLIBC_2.36"}))
    old = Linked(("old",), ("libc.so.6",), frozenset({("libc.so.6", "GLIBC_2.36")}))
    new = Linked(("new",), ("libc.so.6",), frozenset({("libc.so.6", "GLIBC_2.39")}))
    assert libraries.missing([libc, old]) == []
    assert libraries.missing([libc, new]) == ["new needs GLIBC_2.39 of libc.so.6, which does not have it"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_image_is_called_after_the_workspaces_version(name: str, images: Mapping[str, Archive]) -> None:
    annotations = images[name].index()["annotations"]
    assert annotations["io.containerd.image.name"] == f"docker.io/consilium/{name}:{version()}"
    assert images[name].config()["config"]["Labels"]["org.opencontainers.image.version"] == version()
