"""A BERT encoder that answers sentence embeddings, as an ONNX graph and as plain numpy.

The two are written apart from each other on purpose: the numpy one is the text-book order of operations, and the graph,
which folds and pools, is checked against it at every build.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto
from safetensors.numpy import load_file
from scipy.special import erf

from recipes.graph import Graph, masked_mean, text_inputs, unit_norm

Weights = Mapping[str, np.ndarray]
PROJECTIONS = ("query", "key", "value")


@dataclass(frozen=True)
class Bert:
    """A pretrained encoder as it lies on the disk."""

    weights: Weights
    hidden: int
    heads: int
    layers: int
    epsilon: float
    positions: int

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    @classmethod
    def load(cls, directory: Path) -> Bert:
        """Reads `config.json` and `model.safetensors`; refuses what this module does not implement."""
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        for key, expected in (("model_type", "bert"), ("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
            if config.get(key) != expected:
                raise ValueError(f"{key} is {config.get(key)!r}; this recipe writes only {expected!r}")
        return cls(
            weights=load_file(directory / "model.safetensors"),
            hidden=config["hidden_size"],
            heads=config["num_attention_heads"],
            layers=config["num_hidden_layers"],
            epsilon=config["layer_norm_eps"],
            positions=config["max_position_embeddings"],
        )


def add_vectors(graph: Graph, bert: Bert, layers: Sequence[int]) -> list[str]:
    """Adds inputs, encoder, mean pooling and normalisation to `graph`.

    Gives unit vectors [batch, hidden] of what comes out of each of `layers`: 1 is the first, 0 what goes into it.
    """
    ids, mask = text_inputs(graph)
    states = add_layers(graph, bert, ids, mask)
    return [unit_norm(graph, masked_mean(graph, states[layer], mask)) for layer in layers]


def add_layers(graph: Graph, bert: Bert, ids: str, mask: str) -> list[str]:
    """Adds the encoder; gives what comes out of the embeddings and of every layer, each [batch, length, hidden]."""
    states = [_embed(graph, bert, ids)]
    bias = _mask_bias(graph, mask)
    for layer in range(bert.layers):
        states.append(_layer(graph, bert, f"encoder.layer.{layer}", states[-1], bias))
    return states


def _embed(graph: Graph, bert: Bert, ids: str) -> str:
    weights = bert.weights
    # Every token is of type 0, so that type's vector is a part of the position's.
    positions = (
        weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][:1]
    )
    words = graph.node("Gather", graph.weight("embeddings.words", weights["embeddings.word_embeddings.weight"]), ids)
    length = graph.node("Shape", ids, start=1, end=2)
    places = graph.node("Slice", graph.weight("embeddings.positions", positions), graph.ints(0), length, graph.ints(0))
    return _layer_norm(graph, bert, "embeddings.LayerNorm", graph.node("Add", words, places))


def _mask_bias(graph: Graph, mask: str) -> str:
    """0 where a token may be looked at and -10000 where not, FP32 [batch, 1, 1, length]."""
    shown = graph.node("Cast", graph.node("Unsqueeze", mask, graph.ints(1, 2)), to=TensorProto.FLOAT)
    hidden = graph.node("Sub", graph.scalar(1.0), shown)
    return graph.node("Mul", hidden, graph.scalar(-10000.0))


def _layer(graph: Graph, bert: Bert, layer: str, tokens: str, bias: str) -> str:
    context = _attention(graph, bert, f"{layer}.attention.self", tokens, bias)
    attended = _dense(graph, bert, f"{layer}.attention.output.dense", context)
    tokens = _layer_norm(graph, bert, f"{layer}.attention.output.LayerNorm", graph.node("Add", attended, tokens))
    wide = _gelu(graph, _dense(graph, bert, f"{layer}.intermediate.dense", tokens))
    narrow = _dense(graph, bert, f"{layer}.output.dense", wide)
    return _layer_norm(graph, bert, f"{layer}.output.LayerNorm", graph.node("Add", narrow, tokens))


def _attention(graph: Graph, bert: Bert, name: str, tokens: str, bias: str) -> str:
    # One product for query, key and value together was no faster (8 to 1024 tokens, one thread, FP32 and 8 bits).
    query, key, value = (
        # [batch, length, hidden] → [batch, length, heads, head_size]; 0 copies a dimension of the input.
        graph.node(
            "Reshape", _dense(graph, bert, f"{name}.{part}", tokens), graph.ints(0, 0, bert.heads, bert.head_size)
        )
        for part in PROJECTIONS
    )
    query = graph.node("Transpose", query, perm=[0, 2, 1, 3])
    key = graph.node("Transpose", key, perm=[0, 2, 3, 1])
    value = graph.node("Transpose", value, perm=[0, 2, 1, 3])
    scores = graph.node("Div", graph.node("MatMul", query, key), graph.scalar(math.sqrt(bert.head_size)))
    mixed = graph.node("MatMul", graph.node("Softmax", graph.node("Add", scores, bias), axis=-1), value)
    mixed = graph.node("Transpose", mixed, perm=[0, 2, 1, 3])
    return graph.node("Reshape", mixed, graph.ints(0, 0, bert.hidden))


def _dense(graph: Graph, bert: Bert, name: str, value: str) -> str:
    product = graph.node("MatMul", value, graph.weight(f"{name}.weight", bert.weights[f"{name}.weight"].T))
    return graph.node("Add", product, graph.weight(f"{name}.bias", bert.weights[f"{name}.bias"]))


def _layer_norm(graph: Graph, bert: Bert, name: str, value: str) -> str:
    scale = graph.weight(f"{name}.weight", bert.weights[f"{name}.weight"])
    offset = graph.weight(f"{name}.bias", bert.weights[f"{name}.bias"])
    return graph.node("LayerNormalization", value, scale, offset, axis=-1, epsilon=bert.epsilon)


def _gelu(graph: Graph, value: str) -> str:
    """The exact form, in the order of operations that ONNX Runtime fuses into one."""
    curve = graph.node("Erf", graph.node("Div", value, graph.scalar(math.sqrt(2.0))))
    return graph.node("Mul", graph.node("Mul", value, graph.node("Add", curve, graph.scalar(1.0))), graph.scalar(0.5))


def reference(bert: Bert, ids: np.ndarray, mask: np.ndarray, layers: int | None = None) -> np.ndarray:
    """What the graph must answer: unit vectors [batch, hidden] for INT64 `ids` and `mask` [batch, length].

    After so many of the encoder's `layers`, all of them when not given.
    """
    weights = bert.weights

    def dense(name: str, value: np.ndarray) -> np.ndarray:
        return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def layer_norm(name: str, value: np.ndarray) -> np.ndarray:
        centred = value - value.mean(axis=-1, keepdims=True)
        variance = np.mean(centred**2, axis=-1, keepdims=True)
        return centred / np.sqrt(variance + bert.epsilon) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def by_head(value: np.ndarray) -> np.ndarray:
        return value.reshape(*value.shape[:2], bert.heads, bert.head_size).transpose(0, 2, 1, 3)

    tokens = weights["embeddings.word_embeddings.weight"][ids]
    tokens = tokens + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
    tokens = tokens + weights["embeddings.token_type_embeddings.weight"][0]
    tokens = layer_norm("embeddings.LayerNorm", tokens)
    for number in range(bert.layers if layers is None else layers):
        layer = f"encoder.layer.{number}"
        query, key, value = (by_head(dense(f"{layer}.attention.self.{part}", tokens)) for part in PROJECTIONS)
        scores = query @ key.swapaxes(-1, -2) / math.sqrt(bert.head_size)
        scores = np.where(mask[:, None, None, :] == 1, scores, -np.inf)
        chances = np.exp(scores - scores.max(axis=-1, keepdims=True))
        chances /= chances.sum(axis=-1, keepdims=True)
        context = (chances @ value).transpose(0, 2, 1, 3).reshape(tokens.shape)
        attended = dense(f"{layer}.attention.output.dense", context)
        tokens = layer_norm(f"{layer}.attention.output.LayerNorm", attended + tokens)
        wide = dense(f"{layer}.intermediate.dense", tokens)
        wide = wide * 0.5 * (1.0 + erf(wide / math.sqrt(2.0)))
        tokens = layer_norm(f"{layer}.output.LayerNorm", dense(f"{layer}.output.dense", wide) + tokens)
    total = (tokens * mask[:, :, None]).sum(axis=1)
    mean = total / mask.sum(axis=1, keepdims=True)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)
