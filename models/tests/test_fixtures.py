"""The tiny models mean what their recipe says, and the broken ones are broken in one way only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from recipes import fixtures as recipe
from recipes import manifest, proofs
from recipes.recipe import build
from recipes.text import TextModel


def described(directory: Path) -> dict:
    return json.loads((directory / manifest.FILE).read_text())


def test_two_builds_are_the_same_bytes(fixtures: Path, tmp_path: Path):
    build([recipe.RECIPE], tmp_path)
    files = sorted(path.relative_to(fixtures) for path in fixtures.rglob("*") if path.is_file())
    again = tmp_path / recipe.RECIPE.name
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [path for path in files if (fixtures / path).read_bytes() != (again / path).read_bytes()] == []


@pytest.mark.parametrize(
    "name", ["tiny-text", "tiny-classify", "tiny-add", "tiny-fixed", "external-escape", "not-onnx"]
)
def test_hashes_are_right(fixtures: Path, name: str):
    for entry in described(fixtures / name)["files"]:
        assert hashlib.sha256((fixtures / name / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]


def test_bad_hash_has_the_right_size_and_another_hash(fixtures: Path):
    entry = described(fixtures / "bad-hash")["files"][0]
    content = (fixtures / "bad-hash" / entry["path"]).read_bytes()
    assert len(content) == entry["size"]
    assert hashlib.sha256(content).hexdigest() != entry["sha256"]


def test_tensor_models_compute(fixtures: Path):
    add = onnxruntime.InferenceSession(str(fixtures / "tiny-add" / manifest.MODEL))
    a, b = np.arange(8, dtype=np.float32).reshape(2, 4), np.ones((2, 4), dtype=np.float32)
    np.testing.assert_array_equal(add.run(["sum"], {"a": a, "b": b})[0], a + b)
    fixed = onnxruntime.InferenceSession(str(fixtures / "tiny-fixed" / manifest.MODEL))
    np.testing.assert_array_equal(fixed.run(["y"], {"x": np.array([0, 1, -1], np.float32)})[0], [1, 3, -1])


def test_text_vectors_have_length_one_even_for_no_words(fixtures: Path):
    rows = TextModel(fixtures / "tiny-text").run(["", "the cat in the rain", "xyzzy", "bread " * 100])["embedding"]
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)


def test_padding_does_not_change_an_answer(fixtures: Path):
    assert (
        proofs.expect_batching(TextModel(fixtures / "tiny-text"), ["cat", "rain and snow", "map " * 30], 1e-6) <= 1e-6
    )


def test_a_proof_that_fails_says_so(fixtures: Path):
    with pytest.raises(proofs.ProofError, match="words of one topic"):
        proofs.expect_topics(fixtures / "tiny-text", {"one": "cat rain", "two": "dog snow"})
    with pytest.raises(proofs.ProofError, match="labels of 1 texts are wrong"):
        proofs.expect_labels(fixtures / "tiny-classify", {"colour": {"red": "azure"}})
    with pytest.raises(proofs.ProofError, match="differ by nan"):
        proofs.expect_close("rows", np.array([np.nan]), np.array([0.0]), 1.0)
