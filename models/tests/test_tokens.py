"""The token table: what distilling learns, what its file and the manifest say, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from recipes import made_up, manifest, tokens
from recipes.proofs import ProofError

HIDDEN = 12
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


class Sums:
    """An encoder whose answer is a sum, in which `a` is worth nothing and `b` is worth four words."""

    def __init__(self) -> None:
        frames = {word for frame in made_up.FRAMES for word in frame.replace("'", " ' ").split() if word != made_up.GAP}
        vocabulary = [*SPECIAL, *sorted(frames | {"a", "b", "'"}), *(f"w{chr(97 + n)}" for n in range(20)), "##s"]
        ids = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
        self.tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
        self.tokenizer.normalizer = normalizers.BertNormalizer()
        self.tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self.tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")]
        )
        self.words = np.random.default_rng(3).normal(size=(len(ids), HIDDEN)).astype(np.float32)
        self._worth = np.ones(len(ids), np.float32)
        self._worth[[ids["a"], ids["b"]]] = 0, 4

    def run_ids(self, encoded: Sequence[Sequence[int]], batch: int) -> dict[str, np.ndarray]:
        """What `TextModel` has; rows of length 1."""
        sums = np.stack([self._worth[ids] @ self.words[ids] for ids in map(list, encoded)])
        return {"embedding": sums / np.linalg.norm(sums, axis=1, keepdims=True)}


@pytest.fixture(scope="module")
def encoder() -> Sums:
    return Sums()


@pytest.fixture(scope="module")
def table(encoder: Sums) -> tokens.Table:
    return tokens.distil(encoder, encoder.words)


def test_a_table_learns_an_encoder_that_adds(encoder: Sums, table: tokens.Table):
    figures = tokens.prove(encoder, table, [("call and ask", "ask and call"), ("open the list", "the list open")])
    assert figures["tokens_correlation"] > 0.7
    assert figures["tokens_paraphrases"] == 1


def test_a_token_weighs_what_it_is_worth(encoder: Sums, table: tokens.Table):
    lengths = np.linalg.norm(table.scales[:, None] * table.rows, axis=1) / np.linalg.norm(encoder.words, axis=1)
    nothing, much, usual = (lengths[encoder.tokenizer.token_to_id(token)] for token in ("a", "b", "not"))
    assert nothing < usual / 2
    assert much > usual * 2


def test_special_tokens_say_nothing(encoder: Sums, table: tokens.Table):
    mute = [encoder.tokenizer.token_to_id(token) for token in SPECIAL]
    assert not table.scales[mute].any()
    assert not table.embed([mute]).any()


def test_a_table_of_other_words_does_not_prove_itself(encoder: Sums, table: tokens.Table):
    shuffled = np.random.default_rng(1).permutation(len(table.scales))
    with pytest.raises(ProofError, match="correlation"):
        tokens.prove(encoder, tokens.Table(table.rows[shuffled], table.scales[shuffled]), [("call me", "me call")])


def test_distilling_twice_gives_the_same(encoder: Sums, table: tokens.Table):
    again = tokens.distil(encoder, encoder.words)
    assert np.array_equal(again.rows, table.rows)
    assert np.array_equal(again.scales, table.scales)


def test_rounding_keeps_directions():
    vectors = np.random.default_rng(2).normal(size=(50, tokens.COLUMNS)).astype(np.float32)
    vectors[7] = 0
    table = tokens.Table.of(vectors)
    assert np.abs(table.rows[:7]).max() == 127
    assert np.allclose(table.scales[:, None] * table.rows, vectors, atol=np.abs(vectors).max() / 250)
    assert table.scales[7] == 0


def test_made_up_sentences_are_the_same_for_a_seed_and_without_gaps(encoder: Sums):
    one, same, other = (made_up.sentences(encoder.tokenizer, 40, seed) for seed in (5, 5, 6))
    assert one == same != other
    assert all(sentence and encoder.tokenizer.token_to_id("[UNK]") not in sentence for sentence in one)
    texts = [encoder.tokenizer.decode(sentence) for sentence in one]
    assert not any(made_up.GAP in text for text in texts)


@pytest.fixture
def described(fixtures: Path, tmp_path: Path) -> Path:
    for name in (manifest.MODEL, manifest.TOKENIZER):
        (tmp_path / name).write_bytes((fixtures / "tiny-text" / name).read_bytes())
    return tmp_path


def vocabulary(directory: Path) -> int:
    return Tokenizer.from_file(str(directory / manifest.TOKENIZER)).get_vocab_size()


def test_the_manifest_names_the_table(described: Path):
    rows = vocabulary(described)
    tokens.Table(np.ones((rows, 3), np.int8), np.ones(rows, np.float32)).save(described)
    written = manifest.write(described, manifest.About("mine", max_tokens=32))
    assert written["tokens"] == {"file": "tokens.safetensors", "rows": rows, "columns": 3}
    assert [entry["path"] for entry in written["files"]] == ["model.onnx", "tokenizer.json", "tokens.safetensors"]
    assert json.loads((described / manifest.FILE).read_text()) == written
    assert np.array_equal(tokens.Table.load(described).rows, np.ones((rows, 3)))


def test_a_model_without_a_table_has_no_such_section(described: Path):
    assert "tokens" not in manifest.write(described, manifest.About("mine", max_tokens=32))


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"rows": np.ones((3, 2), np.int8), "scales": np.ones(3, np.float32)}, "has 3 rows"),
        ({"rows": np.ones((3, 2), np.int16), "scales": np.ones(3, np.float32)}, "expected rows I8"),
        ({"rows": np.ones((3, 2), np.int8), "scales": np.ones(2, np.float32)}, "expected rows I8"),
        ({"rows": np.ones((3, 2), np.int8)}, "expected rows I8"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(described: Path, tensors: dict[str, np.ndarray], problem: str):
    save_file(tensors, described / manifest.TOKENS)
    with pytest.raises(manifest.ManifestError, match=problem):
        manifest.describe(described, manifest.About("mine", max_tokens=32))


def test_a_table_that_cannot_be_read_is_refused(described: Path):
    (described / manifest.TOKENS).write_bytes(b"no table")
    with pytest.raises(manifest.ManifestError, match="cannot be read"):
        manifest.describe(described, manifest.About("mine", max_tokens=32))
