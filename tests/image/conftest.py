"""Builds the images once for all tests, from the programs of target/debug or what IMAGE_PROFILE says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

import build
from archives import Archive
from layout import PROGRAMS, ROOT


@pytest.fixture(scope="session")
def out() -> Path:
    """Where they were built."""
    folder = ROOT / "target/image/tests"
    shutil.rmtree(folder / "plain", ignore_errors=True)
    code = build.main(["--profile", os.environ.get("IMAGE_PROFILE", "debug"), "--out", str(folder)])
    assert code == 0, "the images could not be built: what was printed says why"
    return folder


@pytest.fixture(scope="session")
def images(out: Path) -> Mapping[str, Archive]:
    """Router, expert and cli."""
    return {name: Archive(out / f"{name}.tar") for name in PROGRAMS}


@pytest.fixture(params=tuple(PROGRAMS))
def image(request: pytest.FixtureRequest, images: Mapping[str, Archive]) -> Archive:
    """One after the other."""
    return images[request.param]
