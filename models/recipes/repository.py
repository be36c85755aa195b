"""Tiny models as other people keep them: `<model>/<version>/model.onnx`, and no manifest beside it.

Each is there for one thing that a server may get wrong; what that is stands beside the model. They are written in the
text form that ONNX itself has, which says a graph's types and its nodes in a line or two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import parser

from recipes import manifest
from recipes.graph import IR_VERSION, OPSET

# The protocol's datatypes, by the name of the model that hands them through, in ONNX's words.
DATATYPES = {
    "bool": "bool",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp32": "float",
    "fp64": "double",
    "bytes": "string",
}


@dataclass(frozen=True)
class _Model:
    """The text of a graph, and what is not as usual about the file."""

    graph: str
    opset: int = OPSET
    ir_version: int = IR_VERSION
    domains: str = ""
    checked: bool = True
    """Whether ONNX's checker takes it; ONNX Runtime takes them all."""

    def save(self, name: str, directory: Path) -> None:
        directory.mkdir(parents=True)
        header = (
            f'ir_version: {self.ir_version}, opset_import: ["" : {self.opset}{self.domains}], '
            'producer_name: "consilium-recipes"'
        )
        model = parser.parse_model(f"<{header}> {name.replace('-', '_')} {self.graph}")
        if self.checked:
            onnx.checker.check_model(model, full_check=True)
        (directory / manifest.MODEL).write_bytes(model.SerializeToString(deterministic=True))


def make(directory: Path) -> int:
    """Writes the models that a server can serve, by name and version; gives how many there are."""
    for (name, version), model in _SERVED.items():
        model.save(name, directory / name / version)
    return len(_SERVED)


def make_refused(directory: Path) -> int:
    """Writes the models that ONNX Runtime runs and the protocol has no words for; gives how many there are."""
    for name, model in _REFUSED.items():
        model.save(name, directory / name / "1")
    return len(_REFUSED)


def _identity(datatype: str) -> _Model:
    return _Model(f"({datatype}[rows, columns] x) => ({datatype}[rows, columns] y) {{ y = Identity(x) }}")


_SERVED = {
    **{(f"identity-{name}", "1"): _identity(datatype) for name, datatype in DATATYPES.items()},
    # Two versions that one can tell apart by their answers.
    ("add-sub", "1"): _Model("""
        (float[batch, 16] a, float[batch, 16] b) => (float[batch, 16] sum, float[batch, 16] difference) {
            sum = Add(a, b)
            difference = Sub(a, b)
        }"""),
    ("add-sub", "2"): _Model("""
        (float[batch, 16] a, float[batch, 16] b) => (float[batch, 16] sum, float[batch, 16] difference)
        <float hundred = {100.0}> {
            total = Add(a, b)
            sum = Add(total, hundred)
            difference = Sub(a, b)
        }"""),
    # No dimension at all.
    ("scalar", "1"): _Model("(float a, float b) => (float y) { y = Add(a, b) }"),
    # Dimensions, none of them free.
    ("no-batch", "1"): _Model("""
        (float[2, 3] x) => (float[3] y) <int64[1] axes = {0}> { y = ReduceSum<keepdims = 0>(x, axes) }"""),
    # `scale` may be left out of a request, and is 2 then.
    ("optional-input", "1"): _Model(
        "(float[batch, 4] x, float scale = {2.0}) => (float[batch, 4] y) { y = Mul(x, scale) }"
    ),
    # A row's answer depends on the rows beside it, so requests must never be joined, although every shape allows it.
    ("mean-centred", "1"): _Model("""
        (float[batch, 4] x) => (float[batch, 4] y) {
            mean = ReduceMean<axes = [0], keepdims = 1>(x)
            y = Sub(x, mean)
        }"""),
    # As many rows come out as there are numbers other than 0, which is only by chance as many as went in.
    ("nonzero", "1"): _Model("""
        (float[batch, 4] x) => (int64[found, 2] y) {
            positions = NonZero(x)
            y = Transpose(positions)
        }"""),
    # How many dimensions come out, the request decides. ONNX's checker wants that said, and there is no way to say it.
    ("unknown-rank", "1"): _Model(
        "(float[rows, columns] x, int64[rank] shape) => (float[] y) { y = Reshape(x, shape) }", checked=False
    ),
}

_REFUSED = {
    "sequence-input": _Model("(seq(float[n]) x) => (float[m] y) { y = ConcatFromSequence<axis = 0>(x) }"),
    "optional-sequence": _Model("(optional(seq(float[n])) x) => (bool y) { y = OptionalHasElement(x) }"),
    "map-output": _Model(
        "(float[batch, 2] x) => (seq(map(int64, float)) y) { y = ai.onnx.ml.ZipMap<classlabels_int64s = [0, 1]>(x) }",
        domains=', "ai.onnx.ml" : 3',
    ),
    # Opset 19 is the first in which anything takes it.
    "float8": _Model("(float8e4m3fn[n] x) => (float8e4m3fn[n] y) { y = Identity(x) }", opset=19, ir_version=9),
}
