"""A small writer of ONNX graphs over `onnx.helper`: nodes and weights are added in order, names are made here.

Nothing in this module knows a model. Bytes are deterministic: the same calls give the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# 17 is the first opset with LayerNormalization as one operator. The IR version is pinned too, so that a newer `onnx`
# package cannot write files that the pinned ONNX Runtime refuses.
OPSET = 17
IR_VERSION = 8

Shape = Sequence[int | str]


class Graph:
    """One graph under construction; `save` checks it and writes the file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> str:
        """Declares a graph input; a string in `shape` names a free dimension."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, name: str, value: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> None:
        """Declares `value` as the graph output `name`."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"output/{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def weight(self, name: str, values: np.ndarray) -> str:
        """Adds an initializer; asking twice for the same name gives the first one back."""
        if name not in self._weights:
            self._weights[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def ints(self, *values: int) -> str:
        """A constant INT64 vector, for axes and shapes."""
        return self.weight("ints/" + ",".join(map(str, values)), np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """A constant FP32 scalar."""
        return self.weight(f"scalar/{value!r}", np.array(value, dtype=np.float32))

    def node(self, op: str, *inputs: str, name: str = "", **attributes: object) -> str:
        """Adds an operator with one output and gives that output's name."""
        name = name or f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def model(self) -> onnx.ModelProto:
        """The checked model."""
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, list(self._weights.values()))
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="consilium-recipes",
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def save(self, path: Path) -> None:
        """Checks the model and writes it with its weights inline."""
        path.write_bytes(self.model().SerializeToString(deterministic=True))


def masked_mean(graph: Graph, tokens: str, mask: str) -> str:
    """Mean of `tokens` [batch, length, n] over the positions where `mask` [batch, length] is 1 → [batch, n].

    A row whose mask is all zeros gives zeros, not NaN.
    """
    weights = graph.node("Cast", graph.node("Unsqueeze", mask, graph.ints(-1)), to=TensorProto.FLOAT)
    total = graph.node("ReduceSum", graph.node("Mul", tokens, weights), graph.ints(1), keepdims=0)
    count = graph.node("ReduceSum", weights, graph.ints(1), keepdims=0)
    return graph.node("Div", total, graph.node("Max", count, graph.scalar(1e-9)))


def unit_norm(graph: Graph, rows: str) -> str:
    """Scales every row of `rows` [batch, n] to length 1; a row of zeros stays as it is."""
    length = graph.node("ReduceL2", rows, axes=[-1], keepdims=1)
    return graph.node("Div", rows, graph.node("Max", length, graph.scalar(1e-12)))


def text_inputs(graph: Graph) -> tuple[str, str]:
    """The two inputs of every text model: `input_ids` and `attention_mask`, INT64 [batch, length]."""
    shape = ("batch", "length")
    return (
        graph.input("input_ids", shape, TensorProto.INT64),
        graph.input("attention_mask", shape, TensorProto.INT64),
    )
