"""The manifest of a directory: what it says, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper

import build
from recipes import manifest
from recipes.graph import Graph


def add_model(directory: Path, shape: tuple[int | str, ...] = ("batch", 4)) -> None:
    graph = Graph("sum")
    graph.output("y", graph.node("Add", graph.input("x", shape), graph.weight("bias", np.ones(4, np.float32))), shape)
    graph.save(directory / manifest.MODEL)


def problems(directory: Path, about: manifest.About) -> str:
    with pytest.raises(manifest.ManifestError) as refused:
        manifest.describe(directory, about)
    return str(refused.value)


def test_describes_what_the_files_say(tmp_path: Path):
    add_model(tmp_path)
    described = manifest.write(tmp_path, manifest.About("mine", licence="MIT"))
    bytes_of_model = (tmp_path / manifest.MODEL).read_bytes()
    assert described["files"] == [
        {
            "path": "model.onnx",
            "size": len(bytes_of_model),
            "sha256": hashlib.sha256(bytes_of_model).hexdigest(),
        }
    ]
    assert described["kind"] == "tensors"
    assert described["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert described["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]
    assert "tokenizer" not in described
    assert json.loads((tmp_path / manifest.FILE).read_text()) == described


def test_describes_a_text_model(fixtures: Path):
    described = json.loads((fixtures / "tiny-classify" / manifest.FILE).read_text())
    assert described["kind"] == "text"
    assert described["tokenizer"] == {"file": "tokenizer.json", "max_tokens": 32, "vocab_size": 45, "pad_id": 0}
    assert [entry["path"] for entry in described["files"]] == ["model.onnx", "tokenizer.json"]
    assert described["labels"]["colour"] == ["red", "green", "blue"]


def test_all_problems_are_told_together(fixtures: Path, tmp_path: Path):
    add_model(tmp_path)
    (tmp_path / manifest.TOKENIZER).write_bytes((fixtures / "tiny-text" / manifest.TOKENIZER).read_bytes())
    told = problems(tmp_path, manifest.About("mine", labels={"y": ["a", "b"], "z": ["c"]}))
    assert "give --max-tokens" in told
    assert "needs the input `input_ids`" in told
    assert "needs the input `attention_mask`" in told
    assert "output `y` is 4 wide and has 2 labels" in told
    assert "`z`, which is not an output" in told


def test_a_text_model_that_does_not_pool_is_refused(fixtures: Path, tmp_path: Path):
    graph = Graph("states")
    ids = graph.input("input_ids", ("batch", "length"), onnx.TensorProto.INT64)
    graph.input("attention_mask", ("batch", "length"), onnx.TensorProto.INT64)
    states = graph.node("Gather", graph.weight("words", np.zeros((44, 8), np.float32)), ids)
    graph.output("last_hidden_state", states, ("batch", "length", 8))
    graph.save(tmp_path / manifest.MODEL)
    (tmp_path / manifest.TOKENIZER).write_bytes((fixtures / "tiny-text" / manifest.TOKENIZER).read_bytes())
    assert "pool in the graph" in problems(tmp_path, manifest.About("mine", max_tokens=32))


def test_garbage_is_refused_without_its_content(fixtures: Path):
    told = problems(fixtures / "not-onnx", manifest.About("mine"))
    assert "is not an ONNX file" in told


def test_weights_outside_the_directory_are_refused(fixtures: Path):
    assert "outside the directory: ../evil.bin" in problems(fixtures / "external-escape", manifest.About("mine"))


def test_weights_beside_the_model_are_listed(tmp_path: Path):
    add_model(tmp_path)
    model = onnx.load(tmp_path / manifest.MODEL)
    weight = model.graph.initializer[0]
    (tmp_path / "weights.bin").write_bytes(weight.raw_data)
    external_data_helper.set_external_data(weight, "weights.bin")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.ClearField("raw_data")
    (tmp_path / manifest.MODEL).write_bytes(model.SerializeToString())
    described = manifest.describe(tmp_path, manifest.About("mine"))
    assert [entry["path"] for entry in described["files"]] == ["model.onnx", "weights.bin"]


def test_command_line_keeps_what_was_said_before(tmp_path: Path):
    add_model(tmp_path)
    assert build.main(["manifest", str(tmp_path), "--name", "mine", "--labels", "y=a,b,c,d"]) == 0
    assert build.main(["manifest", str(tmp_path), "--version", "2"]) == 0
    described = json.loads((tmp_path / manifest.FILE).read_text())
    assert (described["name"], described["version"]) == ("mine", "2")
    assert described["labels"] == {"y": ["a", "b", "c", "d"]}


def test_command_line_fails_where_nothing_can_be_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert build.main(["manifest", str(tmp_path)]) == 1
    assert "model.onnx is missing" in capsys.readouterr().err
