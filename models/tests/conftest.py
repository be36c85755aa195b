"""Fixtures that more than one test file uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes import fixtures as recipe
from recipes.recipe import build


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny models, built for this run; tests only read it."""
    out = tmp_path_factory.mktemp("build")
    build([recipe.RECIPE], out)
    return out / recipe.RECIPE.name
