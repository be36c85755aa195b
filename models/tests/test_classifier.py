"""The encoder graph against numpy, and training and export of heads, on a tiny random encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recipes import bert, classifier, manifest, proofs
from recipes.fixtures import TOPICS
from recipes.graph import Graph
from recipes.text import TextModel

HIDDEN = 64
COLD, WARM = (f"{TOPICS[one]} {TOPICS[two]}".split() for one, two in (("weather", "travel"), ("food", "animals")))


@pytest.fixture
def encoder() -> bert.Bert:
    random = np.random.default_rng(7)

    def draw(*shape: int) -> np.ndarray:
        # Small, so that words and not layers decide where a text points.
        return random.normal(scale=0.1, size=shape).astype(np.float32)

    def dense(name: str, wide: int, narrow: int) -> dict[str, np.ndarray]:
        return {f"{name}.weight": draw(wide, narrow), f"{name}.bias": draw(wide)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.weight": 1 + draw(HIDDEN), f"{name}.bias": draw(HIDDEN)}

    weights = {
        "embeddings.word_embeddings.weight": 20 * draw(80, HIDDEN),
        "embeddings.position_embeddings.weight": draw(32, HIDDEN),
        "embeddings.token_type_embeddings.weight": draw(2, HIDDEN),
    } | norm("embeddings.LayerNorm")
    for number in range(4):
        layer = f"encoder.layer.{number}"
        for part in bert.PROJECTIONS:
            weights |= dense(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        weights |= dense(f"{layer}.attention.output.dense", HIDDEN, HIDDEN) | norm(
            f"{layer}.attention.output.LayerNorm"
        )
        weights |= dense(f"{layer}.intermediate.dense", 2 * HIDDEN, HIDDEN)
        weights |= dense(f"{layer}.output.dense", HIDDEN, 2 * HIDDEN) | norm(f"{layer}.output.LayerNorm")
    return bert.Bert(weights=weights, hidden=HIDDEN, heads=4, layers=4, epsilon=1e-12, positions=32)


@pytest.fixture
def directory(fixtures: Path, tmp_path: Path) -> Path:
    (tmp_path / manifest.TOKENIZER).write_bytes((fixtures / "tiny-text" / manifest.TOKENIZER).read_bytes())
    return tmp_path


def test_graph_and_numpy_agree(encoder: bert.Bert, directory: Path):
    graph = Graph("encoder")
    layers = {"embedding": encoder.layers, "features": 2}
    for name, vector in zip(layers, bert.add_vectors(graph, encoder, list(layers.values())), strict=True):
        graph.output(name, vector, ("batch", HIDDEN))
    graph.save(directory / manifest.MODEL)
    manifest.write(directory, manifest.About("encoder", max_tokens=32))
    model = TextModel(directory)
    texts = ["cat", "rain and snow", "the dog was at the station with bread", "map " * 40]
    answers = model.run(texts)
    for chosen, ids, mask in model.batches(texts):
        for name, layer in layers.items():
            proofs.expect_close(name, answers[name][chosen], bert.reference(encoder, ids, mask, layer), 1e-5)


def rows(count: int) -> list[classifier.Row]:
    random = np.random.default_rng(1)
    made = []
    for number in range(count):
        taste, words = (("cold", COLD), ("warm", WARM))[number % 2]
        size = ("short", "middle", "long")[number % 3]
        text = " ".join(random.choice(words, size=(3, 5, 8)[number % 3]))
        made.append(classifier.Row(f"{text} {random.choice(['a', 'the', 'of', 'on'])}", {"taste": taste, "size": size}))
    return made


def test_trains_exports_and_measures_what_it_exported(encoder: bert.Bert, directory: Path):
    extra = [classifier.Row(word, {"taste": "cold"}) for word in COLD] + [
        classifier.Row(word, {"taste": "warm"}) for word in WARM
    ]
    about = manifest.About("taste", max_tokens=32)
    figures = classifier.train_and_export(directory, encoder, about, rows(240), extra)
    assert figures["taste_accuracy"] > 0.8
    model = TextModel(directory)
    assert model.labels == {"taste": ["cold", "warm"], "size": ["short", "middle", "long"]}
    answers = model.run(["snow hail fog rain wind storm", "soup rice honey bread milk cheese"])
    np.testing.assert_allclose(answers["taste"].sum(axis=1), 1.0, atol=1e-6)
    assert [model.labels["taste"][index] for index in answers["taste"].argmax(axis=1)] == ["cold", "warm"]
    assert sorted(path.name for path in directory.iterdir()) == ["manifest.json", "model.onnx", "tokenizer.json"]


def test_rows_that_are_all_alike_are_refused(encoder: bert.Bert, directory: Path):
    alike = [classifier.Row("rain and snow", {"taste": "cold"})] * 10
    with pytest.raises(proofs.ProofError, match="near-duplicates"):
        classifier.train_and_export(directory, encoder, manifest.About("taste", max_tokens=32), alike)


def test_split_holds_out_a_fifth_of_every_kind_whatever_the_order():
    made = [classifier.Row(f"text {n}", {"kind": "ab"[n % 2]}) for n in range(100)]
    vectors = np.eye(100, dtype=np.float32)
    held_out = classifier.split(made, vectors)
    assert [sum(held_out[kind::2]) for kind in (0, 1)] == [10, 10]
    backwards = classifier.split(made[::-1], vectors)[::-1]
    np.testing.assert_array_equal(held_out, backwards)


def test_near_duplicates_stay_on_one_side():
    made = [classifier.Row(f"text {n}", {"kind": "a"}) for n in range(60)]
    vectors = np.repeat(np.eye(20, dtype=np.float32), 3, axis=0)  # three texts of each meaning
    held_out = classifier.split(made, vectors).reshape(20, 3)
    assert held_out.any()
    assert (held_out.all(axis=1) == held_out.any(axis=1)).all()


def test_rows_for_training_that_repeat_a_held_out_text_are_found():
    held_out = np.array([[1.0, 0.0]])
    np.testing.assert_array_equal(classifier.close_to(np.array([[1.0, 0.0], [0.0, 1.0]]), held_out, 0.9), [True, False])
