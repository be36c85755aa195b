"""Trains a classifier on a frozen encoder and exports both as one graph.

One linear head per name found in the data, each with its softmax. A head reads either the sentence vector or the means
of the upper layers, whichever does better in cross validation: what a text is about is best seen in the first, how it
is said in the second. A part of the rows is held out before anything is fitted, and what was measured on it is what is
shipped: the heads are not fitted again on everything.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from recipes import bert, manifest, proofs
from recipes.graph import Graph, masked_mean, text_inputs, unit_norm
from recipes.text import TextModel

HELD_OUT = 0.2
# Two texts at least this close are one text told twice and must not stand on both sides of the split.
NEAR_DUPLICATE = 0.9
UPPER_LAYERS = 3
FOLDS = 5
# Inverse strengths of regularisation to choose from. Sentence vectors have length 1; layers are standardised.
STRENGTHS = {"sentence": (0.5, 1.0, 2.0, 4.0), "layers": (0.001, 0.003)}


@dataclass(frozen=True)
class Row:
    """One labelled text; it need not have a label for every head."""

    text: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Head:
    """A fitted linear head: probabilities = softmax(features · weights + bias)."""

    name: str
    labels: list[str]
    features: str
    validated: float
    """Accuracy in cross validation, by which features and regularisation were chosen."""
    weights: np.ndarray
    bias: np.ndarray

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Rows [texts, labels] that sum to 1."""
        logits = features @ self.weights + self.bias
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        return chances / chances.sum(axis=1, keepdims=True)


def read(path: Path) -> list[Row]:
    """Rows of a JSON Lines file: `{"text": "…", "labels": {"head": "label"}}`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Row(**json.loads(line)) for line in lines if line.strip()]


def train_and_export(
    directory: Path,
    encoder: bert.Bert,
    about: manifest.About,
    rows: Sequence[Row],
    only_for_training: Sequence[Row] = (),
) -> dict[str, Any]:
    """Writes `model.onnx` and its manifest beside the tokenizer in `directory`; gives what was measured."""
    features = _features(directory, encoder, about, [row.text for row in (*rows, *only_for_training)])
    vectors = features["sentence"]
    held_out = split(rows, vectors[: len(rows)])
    if held_out.all() or not held_out.any():
        raise proofs.ProofError("the rows cannot be split: nearly all of them are near-duplicates of each other")
    keep = ~held_out
    extra = ~close_to(vectors[len(rows) :], vectors[: len(rows)][held_out], NEAR_DUPLICATE)
    train = np.concatenate([keep, extra])
    test = np.concatenate([held_out, np.zeros(len(only_for_training), dtype=bool)])

    everything = [*rows, *only_for_training]
    names = list(dict.fromkeys(name for row in rows for name in row.labels))
    heads = [_fit(name, everything, features, train, len(only_for_training)) for name in names]
    labels = {head.name: head.labels for head in heads}
    _graph(encoder, heads).save(directory / manifest.MODEL)
    manifest.write(directory, manifest.About(**{**vars(about), "labels": labels}))
    figures: dict[str, Any] = {"rows_trained": int(train.sum()), "rows_held_out": int(test.sum())}
    return figures | _measure(directory, everything, features, heads, test)


def split(rows: Sequence[Row], vectors: np.ndarray) -> np.ndarray:
    """Which rows are held out: one in five of every combination of labels, chosen by the digest of the text.

    The choice depends on the texts alone, not on their order, and near-duplicates go to one side.
    """
    strata: dict[tuple[tuple[str, str], ...], list[list[int]]] = defaultdict(list)
    for group in _near_duplicates(vectors):
        group.sort(key=lambda index: _digest(rows[index].text))
        strata[tuple(sorted(rows[group[0]].labels.items()))].append(group)
    held_out = np.zeros(len(rows), dtype=bool)
    for groups in strata.values():
        wanted = round(HELD_OUT * sum(len(group) for group in groups))
        for group in sorted(groups, key=lambda group: _digest(rows[group[0]].text)):
            if wanted <= 0:
                break
            held_out[group] = True
            wanted -= len(group)
    return held_out


def close_to(vectors: np.ndarray, others: np.ndarray, least: float) -> np.ndarray:
    """Which of the unit `vectors` have a cosine of at least `least` with one of `others`."""
    if len(vectors) == 0 or len(others) == 0:
        return np.zeros(len(vectors), dtype=bool)
    return (vectors @ others.T).max(axis=1) >= least


def _near_duplicates(vectors: np.ndarray) -> list[list[int]]:
    """Groups of rows joined by chains of near-duplicates; most groups are one row."""
    group = list(range(len(vectors)))
    for left, right in np.argwhere(np.triu(vectors @ vectors.T >= NEAR_DUPLICATE, k=1)):
        old, new = group[right], group[left]
        group = [new if member == old else member for member in group]
    members: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(group):
        members[number].append(index)
    return list(members.values())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _features(
    directory: Path, encoder: bert.Bert, about: manifest.About, texts: Sequence[str]
) -> dict[str, np.ndarray]:
    """What the heads can read, for every text, from the same graph that is exported later."""
    graph = Graph("features")
    for name, value in _add_features(graph, encoder).items():
        graph.output(name, value, ("batch", encoder.hidden * (UPPER_LAYERS if name == "layers" else 1)))
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        beside = Path(temporary)
        graph.save(beside / manifest.MODEL)
        (beside / manifest.TOKENIZER).write_bytes((directory / manifest.TOKENIZER).read_bytes())
        manifest.write(beside, manifest.About("features", max_tokens=about.max_tokens))
        return TextModel(beside).run(texts)


def _add_features(graph: Graph, encoder: bert.Bert) -> dict[str, str]:
    """`sentence`: unit vectors [batch, hidden]; `layers`: means of the upper layers [batch, UPPER_LAYERS · hidden]."""
    ids, mask = text_inputs(graph)
    states = bert.add_layers(graph, encoder, ids, mask)
    means = [masked_mean(graph, state, mask) for state in states[-UPPER_LAYERS:]]
    return {"sentence": unit_norm(graph, means[-1]), "layers": graph.node("Concat", *means, axis=-1)}


def _fit(name: str, rows: Sequence[Row], features: Mapping[str, np.ndarray], train: np.ndarray, extra: int) -> Head:
    """Fits the head `name` on the rows in `train`; the last `extra` rows train only and never judge a choice."""
    known = np.flatnonzero(train & np.array([name in row.labels for row in rows]))
    # In the order in which the data first names them.
    labels = list(dict.fromkeys(row.labels[name] for row in rows if name in row.labels))
    targets = np.array([labels.index(row.labels.get(name, labels[0])) for row in rows])
    judged, always = known[known < len(rows) - extra], known[known >= len(rows) - extra]
    folds = [
        (np.concatenate([judged[fitted], always]), judged[tested])
        for fitted, tested in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(judged, targets[judged])
    ]
    scores = {
        (kind, strength): float(cross_val_score(_pipeline(kind, strength), features[kind], targets, cv=folds).mean())
        for kind, strengths in STRENGTHS.items()
        for strength in strengths
    }
    kind, strength = max(scores, key=lambda choice: scores[choice])
    scaler, fitted = (step for _, step in _pipeline(kind, strength).fit(features[kind][known], targets[known]).steps)
    weights, bias = fitted.coef_, fitted.intercept_
    if len(labels) == 2:  # two classes have one row of weights, for the second
        weights, bias = np.vstack([0 * weights, weights]), np.concatenate([0 * bias, bias])
    if isinstance(scaler, StandardScaler):
        weights = weights / scaler.scale_
        bias = bias - weights @ scaler.mean_
    return Head(name, labels, kind, scores[kind, strength], weights.T.astype(np.float32), bias.astype(np.float32))


def _pipeline(kind: str, strength: float) -> Pipeline:
    scaler = StandardScaler() if kind == "layers" else FunctionTransformer()
    # Balanced: rows for training only need not name every label equally often.
    return make_pipeline(scaler, LogisticRegression(C=strength, max_iter=2000, class_weight="balanced"))


def _graph(encoder: bert.Bert, heads: Sequence[Head]) -> Graph:
    graph = Graph("classifier")
    features = _add_features(graph, encoder)
    for head in heads:
        weights = graph.weight(f"{head.name}/weights", head.weights)
        logits = graph.node("Gemm", features[head.features], weights, graph.weight(f"{head.name}/bias", head.bias))
        graph.output(head.name, graph.node("Softmax", logits, axis=-1), ("batch", len(head.labels)))
    return graph


def _measure(
    directory: Path, rows: Sequence[Row], features: Mapping[str, np.ndarray], heads: Sequence[Head], test: np.ndarray
) -> dict[str, Any]:
    """Accuracy and macro F1 of the exported model on the rows held out; it must answer what the heads answered."""
    answers = TextModel(directory).run([row.text for row, use in zip(rows, test, strict=True) if use])
    figures: dict[str, Any] = {}
    for head in heads:
        expected = head.probabilities(features[head.features][test])
        proofs.expect_close(f"exported and fitted head {head.name}", answers[head.name], expected, 1e-4)
        told = [row.labels.get(head.name) for row, use in zip(rows, test, strict=True) if use]
        known = [index for index, label in enumerate(told) if label is not None]
        truth = [head.labels.index(told[index]) for index in known]
        chosen = answers[head.name][known].argmax(axis=1)
        figures[f"{head.name}_features"] = head.features
        figures[f"{head.name}_validated"] = head.validated
        figures[f"{head.name}_accuracy"] = float(accuracy_score(truth, chosen))
        figures[f"{head.name}_macro_f1"] = float(f1_score(truth, chosen, average="macro"))
    return figures
