"""A second mesh, in which everybody shows a certificate."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from suite.processes import CommandError
from suite.release import Certificates, Release
from suite.table import Table

QUESTION = "Can my patient take ibuprofen with warfarin?"


@pytest.fixture(scope="module")
def secured(make_release: Callable[[str, str], Release], table: Table) -> Release:
    """A small mesh with TLS, whose certificates the chart made."""
    release = make_release("secured", "secured")
    with table.step("`helm install --wait` of a small mesh with mutual TLS"):
        release.install("secured")
    return release


@pytest.fixture
def certificates(secured: Release, tmp_path: Path) -> Certificates:
    """What the routers' authority has vouched for: their own certificate, which is as good as a client's."""
    data = secured.namespace.one("secret", f"{secured.fullname}-router-tls")["data"]
    for file, content in data.items():
        (tmp_path / file).write_bytes(base64.b64decode(content))
    return Certificates(tmp_path / "ca.crt", tmp_path / "tls.crt", tmp_path / "tls.key")


def test_helm_test_with_certificates(secured: Release, table: Table) -> None:
    with table.step("`helm test` of it"):
        assert "Failed" not in secured.test()


def test_who_shows_a_certificate_is_answered(secured: Release, certificates: Certificates, table: Table) -> None:
    with table.step("a question from the Python client, with a certificate") as row:
        said = secured.ask(QUESTION, certificates=certificates)
        row.saw(said["expert"])
    assert said["expert"] == "drug-interactions"


def test_who_shows_none_is_not(secured: Release, certificates: Certificates, table: Table) -> None:
    with pytest.raises(CommandError, match="UNAVAILABLE"):
        secured.ask(QUESTION, certificates=Certificates(certificates.ca))
    with pytest.raises(CommandError, match="UNAVAILABLE"):
        secured.ask(QUESTION)
    table.note("without a certificate, and in plaintext", "refused")


def test_it_is_removed(secured: Release) -> None:
    secured.uninstall()
