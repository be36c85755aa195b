"""The ONNX project's own test models, as PyPI's `onnx` carries them, and what ONNX Runtime itself makes of each.

Most models are made in memory from the operators' test cases; the others lie in the package as files, the large ones of
them without their inputs, which are then the ramp that the project's own runner feeds them.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, TypeProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")
PACKAGE = Path(onnx.__file__).resolve().parent

# What the protocol has a datatype for.
CARRIED = {
    TensorProto.BOOL,
    TensorProto.UINT8,
    TensorProto.UINT16,
    TensorProto.UINT32,
    TensorProto.UINT64,
    TensorProto.INT8,
    TensorProto.INT16,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.STRING,
}

DataSet = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
"""Inputs and outputs, by name."""


@dataclass(frozen=True)
class Case:
    """A model, and how far from its shipped outputs an answer may lie."""

    name: str
    kind: str
    rtol: float
    atol: float
    _source: Any

    def model(self) -> onnx.ModelProto:
        """The graph."""
        if self._source.model is not None:
            return self._source.model
        return onnx.load(self._file())

    def data_sets(self, model: onnx.ModelProto) -> Iterator[DataSet]:
        """The shipped inputs and outputs; only of models whose every input and output is a tensor."""
        inputs, outputs = given(model), [output.name for output in model.graph.output]
        for values, answers in self._values(model, inputs):
            # Where there are fewer values than inputs, the last ones are optional.
            yield (
                {value.name: _array(array) for value, array in zip(inputs, values, strict=False)},
                {name: _array(array) for name, array in zip(outputs, answers, strict=True)},
            )

    def _values(self, model: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto]) -> Iterator[tuple[Any, Any]]:
        if self._source.data_sets is not None:
            yield from self._source.data_sets
        elif self._source.model_dir:
            for directory in sorted(Path(self._source.model_dir).glob("test_data_set*")):
                yield _stored(directory, "input_"), _stored(directory, "output_")
        else:
            answers = [_read(path) for path in sorted(PACKAGE.parent.glob(self._light("_output_*.pb")))]
            yield [_ramp(value) for value in inputs], answers

    def _file(self) -> Path:
        if self._source.model_dir:
            return Path(self._source.model_dir) / "model.onnx"
        return PACKAGE.parent / self._light(".onnx")

    def _light(self, end: str) -> str:
        """Of a model whose weights were taken out to make it small, a file beside it."""
        if not self._source.url.startswith("onnx/backend/test/data/light/"):
            raise ValueError(f"{self.name} does not lie in the package but at {self._source.url}")
        return self._source.url.removesuffix(".onnx") + end


def cases() -> list[Case]:
    """All of them, in the order of their kinds and names."""
    found = []
    with warnings.catch_warnings():
        # The makers of the operators' cases overflow on purpose.
        warnings.simplefilter("ignore")
        for kind in KINDS:
            for source in sorted(load_model_tests(kind=kind), key=lambda source: source.name):
                found.append(Case(source.name, kind, source.rtol, source.atol, source))
    return found


def given(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that have no default."""
    defaults = {weight.name for weight in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in defaults]


def not_carried(model: onnx.ModelProto) -> str:
    """What of the model's inputs and outputs the protocol has no word for; empty where it has for all."""
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            return kind.removesuffix("_type")
        if value.type.tensor_type.elem_type not in CARRIED:
            return TensorProto.DataType.Name(value.type.tensor_type.elem_type)
    return ""


class OnnxRuntime:
    """ONNX Runtime without a server around it, on one thread."""

    def __init__(self, model: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs, by name."""
        values = {name: _to_value(array) for name, array in inputs.items()}
        answers = self._session.run_with_ort_values(self._outputs, values)
        return {name: _from_value(answer) for name, answer in zip(self._outputs, answers, strict=True)}


def deviation(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray], rtol: float, atol: float) -> str:
    """How an answer differs from the wanted one, by the rules of the project's own runner; empty where it does not."""
    for name, expected in wanted.items():
        array = got.get(name)
        if array is None:
            return f"{name} is missing"
        if array.dtype != expected.dtype:
            return f"{name} is {array.dtype}; expected {expected.dtype}"
        if array.shape != expected.shape:
            return f"{name} is {array.shape}; expected {expected.shape}"
        if not _close(array, expected, rtol, atol):
            return f"{name} has other values"
    return ""


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Whether both are the same to the bit."""
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return one.tolist() == other.tolist() if one.dtype == np.object_ else one.tobytes() == other.tobytes()


def _close(got: np.ndarray, wanted: np.ndarray, rtol: float, atol: float) -> bool:
    if wanted.dtype == np.object_:
        return got.tolist() == wanted.tolist()
    if wanted.dtype == ml_dtypes.bfloat16:
        # The runner allows two units in the last place of it.
        got, wanted, rtol = got.astype(np.float32), wanted.astype(np.float32), max(rtol, 2**-6)
    with np.errstate(all="ignore"):
        return np.allclose(got, wanted, rtol=rtol, atol=atol, equal_nan=True)


def _array(value: Any) -> np.ndarray:
    array = numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)
    return array.astype(np.object_) if array.dtype.kind in "US" else array


def _stored(directory: Path, start: str) -> list[TensorProto]:
    paths = sorted(directory.glob(f"{start}*.pb"), key=lambda path: int(path.stem.removeprefix(start)))
    return [_read(path) for path in paths]


def _read(path: Path) -> TensorProto:
    return TensorProto.FromString(path.read_bytes())


def _ramp(value: onnx.ValueInfoProto) -> np.ndarray:
    kind: TypeProto.Tensor = value.type.tensor_type
    if kind.elem_type != TensorProto.FLOAT:
        raise ValueError(f"{value.name} is no FP32, and its values are not in the package")
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else 1 for dim in kind.shape.dim)
    count = np.prod(shape)
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def _to_value(array: np.ndarray) -> onnxruntime.OrtValue:
    # NumPy has no BF16 of its own, so ONNX Runtime takes and gives its bits.
    if array.dtype == ml_dtypes.bfloat16:
        bits = np.ascontiguousarray(array).view(np.uint16)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"))


def _from_value(value: onnxruntime.OrtValue) -> np.ndarray:
    if value.element_type() != TensorProto.BFLOAT16:
        array = value.numpy()
        return array.astype(np.object_) if array.dtype.kind in "US" else array
    content = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(content, dtype=ml_dtypes.bfloat16).reshape(value.shape())
