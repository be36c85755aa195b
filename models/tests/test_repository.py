"""The models of the repository compute what they are there for, and those to be refused are models all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from recipes import manifest, repository


def session(fixtures: Path, model: str, version: str = "1") -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(fixtures / "repository" / model / version / manifest.MODEL))


def rows(count: int, columns: int) -> np.ndarray:
    return np.arange(count * columns, dtype=np.float32).reshape(count, columns) - 5


def number(value: float) -> np.ndarray:
    return np.array(value, dtype=np.float32)


def test_nothing_lies_there_but_versions_of_models(fixtures: Path):
    for folder in ("repository", "repository-refused"):
        files = [path.relative_to(fixtures / folder) for path in (fixtures / folder).rglob("*") if path.is_file()]
        assert files
        for path in files:
            model, version, file = path.parts
            assert (version.isdigit(), file) == (True, manifest.MODEL), model


def test_every_datatype_is_handed_through(fixtures: Path):
    assert set(manifest.DATATYPES.values()) == {name.upper() for name in repository.DATATYPES}
    for name, onnx_name in repository.DATATYPES.items():
        identity = session(fixtures, f"identity-{name}")
        for tensor in (*identity.get_inputs(), *identity.get_outputs()):
            assert tensor.type == f"tensor({onnx_name})"
            assert [isinstance(dim, str) for dim in tensor.shape] == [True, True]
    text = np.array([["", "naïve"], ["a b", "c"]], dtype=object)
    assert (session(fixtures, "identity-bytes").run(None, {"x": text})[0] == text).all()


def test_versions_of_add_sub_differ_by_a_hundred(fixtures: Path):
    a, b = rows(2, 16), np.ones((2, 16), dtype=np.float32)
    for version, more in (("1", 0), ("2", 100)):
        total, difference = session(fixtures, "add-sub", version).run(["sum", "difference"], {"a": a, "b": b})
        np.testing.assert_array_equal(total, a + b + more)
        np.testing.assert_array_equal(difference, a - b)


def test_shapes_that_are_not_a_batch(fixtures: Path):
    five = session(fixtures, "scalar").run(None, {"a": number(2), "b": number(3)})[0]
    assert (five.shape, five) == ((), 5)
    np.testing.assert_array_equal(session(fixtures, "no-batch").run(None, {"x": rows(2, 3)})[0], [-7, -5, -3])
    free = session(fixtures, "unknown-rank")
    for shape in ([6], [2, 3], [1, 2, 1, 3]):
        feed = {"x": rows(2, 3), "shape": np.array(shape, dtype=np.int64)}
        np.testing.assert_array_equal(free.run(None, feed)[0], rows(2, 3).reshape(shape))


def test_an_input_may_be_left_out(fixtures: Path):
    scaled = session(fixtures, "optional-input")
    assert [tensor.name for tensor in scaled.get_overridable_initializers()] == ["scale"]
    np.testing.assert_array_equal(scaled.run(None, {"x": rows(2, 4)})[0], rows(2, 4) * 2)
    np.testing.assert_array_equal(scaled.run(None, {"x": rows(2, 4), "scale": number(3)})[0], rows(2, 4) * 3)


@pytest.mark.parametrize("model", ["mean-centred", "nonzero"])
def test_joined_rows_have_other_answers(fixtures: Path, model: str):
    alone, x = session(fixtures, model), rows(2, 4)
    separate = np.concatenate([alone.run(None, {"x": x[row : row + 1]})[0] for row in range(2)])
    assert not np.array_equal(alone.run(None, {"x": x})[0], separate)


def test_models_to_be_refused_are_models(fixtures: Path):
    types = {
        "sequence-input": "seq(tensor(float))",
        "optional-sequence": "optional(seq(tensor(float)))",
        "map-output": "seq(map(int64,tensor(float)))",
        "float8": "tensor(float8e4m3fn)",
    }
    assert set(types) == {path.name for path in (fixtures / "repository-refused").iterdir()}
    for model, expected in types.items():
        path = fixtures / "repository-refused" / model / "1" / manifest.MODEL
        loaded = onnxruntime.InferenceSession(str(path))
        assert expected in [tensor.type for tensor in (*loaded.get_inputs(), *loaded.get_outputs())], model
