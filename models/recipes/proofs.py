"""What a built model must show before it is kept. Each proof gives its figure or raises `ProofError`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np

from recipes.text import TextModel


class ProofError(Exception):
    """A model does not do what it is for; the message has the figures."""


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Row by row; rows need not be unit vectors."""
    scale = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.sum(left * right, axis=1) / scale


def expect_close(what: str, left: np.ndarray, right: np.ndarray, tolerance: float) -> float:
    """The largest difference between two arrays, which must be within `tolerance`."""
    difference = float(np.max(np.abs(left - right)))
    # Written so that NaN fails too.
    if not difference <= tolerance:
        raise ProofError(f"{what}: differ by {difference:.2e}, more than {tolerance:.0e}")
    return difference


def expect_pairs(model: TextModel, pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Each pair says the same in other words, so it must be closer than every two texts of different pairs."""
    left = model.run([pair[0] for pair in pairs])["embedding"]
    right = model.run([pair[1] for pair in pairs])["embedding"]
    scores = left @ right.T
    same = np.diag(scores)
    other = scores[~np.eye(len(pairs), dtype=bool)]
    if not same.min() > other.max():
        worst = pairs[int(same.argmin())][0]
        raise ProofError(
            f"paraphrases reach only {same.min():.3f} while unrelated texts reach {other.max():.3f}; worst: {worst!r}"
        )
    return {"paraphrases_min": float(same.min()), "unrelated_max": float(other.max())}


def expect_agreement(model: TextModel, reference: TextModel, texts: Sequence[str], least: float) -> dict[str, float]:
    """Both models must point the same way for every text."""
    agreement = cosines(model.run(texts)["embedding"], reference.run(texts)["embedding"])
    if not agreement.min() >= least:
        raise ProofError(f"cosine with the full model falls to {agreement.min():.4f}, below {least}")
    return {"cosine_min": float(agreement.min()), "cosine_mean": float(agreement.mean())}


def expect_batching(model: TextModel, texts: Sequence[str], tolerance: float) -> float:
    """A text must get the same answer alone and padded beside longer ones."""
    together = model.run(texts, batch=len(texts))
    alone = model.run(texts, batch=1)
    return max(expect_close(f"batch and single runs, {name}", together[name], alone[name], tolerance) for name in alone)


def batch_cosine(model: TextModel, texts: Sequence[str]) -> float:
    """How far a text's answer turns when it runs beside others: the smallest cosine with its answer alone."""
    together = model.run(texts, batch=len(texts))["embedding"]
    return float(cosines(together, model.run(texts, batch=1)["embedding"]).min())


def expect_topics(directory: Path, topics: Mapping[str, str]) -> str:
    """Any two words of one topic must be closer than any two words of different topics."""
    model = TextModel(directory)
    rows = {topic: model.run(words.split())["embedding"] for topic, words in topics.items()}
    within = min(float((vectors @ vectors.T).min()) for vectors in rows.values())
    across = max(float((rows[one] @ rows[two].T).max()) for one, two in combinations(rows, 2))
    if not within > across:
        raise ProofError(f"words of one topic reach {within:.3f}, of different topics {across:.3f}")
    return f"{within:.2f} > {across:.2f}"


def expect_labels(directory: Path, heads: Mapping[str, Mapping[str, str]]) -> str:
    """Every combination of words, one for each head, must be read as what it says."""
    model = TextModel(directory)
    said = [[(word, label) for label, words in head.items() for word in words.split()] for head in heads.values()]
    cases = list(product(*said))
    answers = model.run([" ".join(word for word, _ in case) for case in cases])
    wrong = 0
    for position, head in enumerate(heads):
        expected = [model.labels[head].index(case[position][1]) for case in cases]
        wrong += int(np.sum(answers[head].argmax(axis=1) != expected))
    if wrong:
        raise ProofError(f"{wrong} labels of {len(cases)} texts are wrong")
    return f"{len(cases)} of {len(cases)}"
