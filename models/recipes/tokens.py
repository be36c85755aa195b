"""A table of one vector a token, distilled from a sentence encoder: a text gets a vector without a forward pass.

The sum of the vectors of a text's tokens points, as nearly as a sum can, to where the encoder would have put the text.
Two steps learn that from what the encoder answers for made-up sentences. The first finds one linear map from the
encoder's own word embeddings to contributions, which holds for words no sentence had too. The second corrects single
tokens, as far as the sentences say anything about them: what a word is worth beside others is learned here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy import sparse, stats

from recipes.made_up import sentences
from recipes.manifest import TOKENS
from recipes.proofs import ProofError
from recipes.text import TextModel

COLUMNS = 256
SENTENCES = 9_000
HELD_OUT = 600
SEED = 2026
# The weight of a token that is the share p of all tokens starts as a / (a + p), which is small for “the” and about 1
# for most; Arora et al., “A simple but tough-to-beat baseline for sentence embeddings”, 2017. Shares are by Zipf's law.
COMMON = 1e-4
# How much the map, and the correction of a token, is held back. In units of sentences: a token that fewer sentences
# than that have stays near what the map says.
HOLD_MAP = 3.0
HOLD_TOKEN = 3.0
ROUNDS = 2
STEPS = 24
# Rank correlation of the similarities that the table and the encoder see between sentences held out.
LEAST_CORRELATION = 0.5
LEAST_PARAPHRASES = 0.9


@dataclass(frozen=True)
class Table:
    """One row a token: int8 directions, and what a unit of each is worth, the token's weight included."""

    rows: np.ndarray
    """I8 [tokens, columns]"""
    scales: np.ndarray
    """F32 [tokens], 0 for a token that says nothing"""

    @classmethod
    def of(cls, vectors: np.ndarray) -> Table:
        """Rounds `vectors` [tokens, columns]; the largest number of each row becomes 127."""
        scales = (np.abs(vectors).max(axis=1) / 127).astype(np.float32)
        divisors = np.where(scales > 0, scales, 1)[:, None]
        return cls(np.rint(vectors / divisors).astype(np.int8), scales)

    @classmethod
    def load(cls, directory: Path) -> Table:
        """Reads the table of a model directory."""
        return cls(**load_file(directory / TOKENS))

    def save(self, directory: Path) -> None:
        """Writes the table into a model directory."""
        save_file({"rows": self.rows, "scales": self.scales}, directory / TOKENS)

    def embed(self, encoded: Sequence[Sequence[int]]) -> np.ndarray:
        """Vectors of length 1 of texts given as token ids; zeros where no token says anything."""
        sums = np.stack([self.scales[list(ids)] @ self.rows[list(ids)].astype(np.float32) for ids in encoded])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        return sums / np.where(lengths > 0, lengths, 1)


def distil(model: TextModel, words: np.ndarray) -> Table:
    """Makes the table of `model`, whose word embeddings are `words` [tokens, hidden]."""
    encoded = sentences(model.tokenizer, SENTENCES, SEED)
    counts = _counts(encoded, len(words))
    targets = answers(model, encoded)
    targets -= targets.mean(axis=0)
    mute = [model.tokenizer.token_to_id(token) for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    features = _features(words, mute)
    vectors = _fit(features, counts, targets)
    vectors[mute] = 0
    return Table.of(_narrow(vectors))


def prove(model: TextModel, table: Table, paraphrases: Sequence[tuple[str, str]]) -> dict[str, float]:
    """The table must see what `model` sees in sentences it was not made from, and find the other half of a pair."""
    encoded = sentences(model.tokenizer, HELD_OUT, SEED + 1)
    apart = np.triu_indices(len(encoded), 1)
    full, quick = answers(model, encoded), table.embed(encoded)
    correlation = float(stats.spearmanr((full @ full.T)[apart], (quick @ quick.T)[apart]).statistic)
    left, right = (
        table.embed([model.tokenizer.encode(text, add_special_tokens=False).ids for text in side])
        for side in zip(*paraphrases, strict=True)
    )
    found = float(np.mean((left @ right.T).argmax(axis=1) == np.arange(len(paraphrases))))
    # Written so that NaN fails too.
    if not (correlation >= LEAST_CORRELATION and found >= LEAST_PARAPHRASES):
        raise ProofError(
            f"the token table orders pairs with correlation {correlation:.3f} and finds {found:.2f} of paraphrases; "
            f"{LEAST_CORRELATION} and {LEAST_PARAPHRASES} needed"
        )
    return {"tokens_correlation": correlation, "tokens_paraphrases": found}


def answers(model: TextModel, encoded: Sequence[Sequence[int]]) -> np.ndarray:
    """What the encoder says of texts given as token ids without the special ones."""
    first, last = (model.tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    return model.run_ids([[first, *ids, last] for ids in encoded], batch=64)["embedding"]


def _counts(encoded: Sequence[Sequence[int]], tokens: int) -> sparse.csr_array:
    """How often each sentence has each token, [sentences, tokens]."""
    ends = np.cumsum([0, *(len(ids) for ids in encoded)])
    columns = np.concatenate([np.asarray(ids) for ids in encoded])
    counts = sparse.csr_array((np.ones(len(columns), np.float32), columns, ends), shape=(len(encoded), tokens))
    counts.sum_duplicates()
    return counts


def _features(words: np.ndarray, mute: Sequence[int]) -> np.ndarray:
    """Word embeddings around their mean, about 1 long, and weighted by how common the token is."""
    shares = 1 / np.arange(1, len(words) + 1)
    shares /= shares.sum()
    features = words - words.mean(axis=0)
    features /= np.sqrt(np.mean(np.sum(features**2, axis=1)))
    features *= (COMMON / (COMMON + shares))[:, None]
    features[list(mute)] = 0
    return features.astype(np.float32)


def _fit(features: np.ndarray, counts: sparse.csr_array, targets: np.ndarray) -> np.ndarray:
    """Vectors [tokens, hidden] whose sums over a sentence, made 1 long, come nearest to `targets`."""
    lengths = np.sqrt(counts.sum(axis=1))
    for _ in range(ROUNDS):
        # The length of a sum depends on the vectors that are looked for; the last round's stand for them.
        scaled = sparse.csr_array(counts.multiply(1 / lengths[:, None]), dtype=np.float32)
        sums = scaled @ features
        held = sums.T @ sums + HOLD_MAP * np.eye(features.shape[1], dtype=np.float32)
        vectors = features @ np.linalg.solve(held, sums.T @ targets)
        vectors += _ridge(scaled, targets - scaled @ vectors, HOLD_TOKEN)
        lengths = np.linalg.norm(counts @ vectors, axis=1)
    return vectors


def _ridge(left: sparse.csr_array, right: np.ndarray, hold: float) -> np.ndarray:
    """X with the least |left X - right|² + hold |X|², by conjugate gradients on all columns at once."""
    across = sparse.csr_array(left.T)
    found = np.zeros((left.shape[1], right.shape[1]), np.float32)
    rest = across @ right
    direction = rest.copy()
    size = np.sum(rest**2, axis=0)
    for _ in range(STEPS):
        turned = across @ (left @ direction) + hold * direction
        step = size / np.maximum(np.sum(direction * turned, axis=0), np.float32(1e-12))
        found += step * direction
        rest -= step * turned
        before, size = size, np.sum(rest**2, axis=0)
        direction = rest + size / np.maximum(before, np.float32(1e-12)) * direction
    return found


def _narrow(vectors: np.ndarray) -> np.ndarray:
    """The `COLUMNS` directions in which the vectors differ most. Signs are fixed, so that a rebuild gives the same."""
    _, directions = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    chosen = directions[:, ::-1][:, :COLUMNS]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])])
    return vectors @ chosen.astype(np.float32)
