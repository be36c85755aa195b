"""The classifier of the clinic example: from findings in free text to a specialty and an urgency."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes import bert, classifier, manifest, minilm
from recipes.proofs import ProofError
from recipes.recipe import Context, Recipe

MODELS = Path(__file__).resolve().parent.parent
FINDINGS = MODELS.parent / "meshes/clinic/experts/diagnostic-reasoning/findings.jsonl"
# Textbook terms of each specialty: they name what a few hundred findings cannot all mention. Never held out.
TERMS = MODELS / "data/clinic-terms.jsonl"
LEAST_ACCURACY = {"specialty": 0.80, "urgency": 0.65}


def _make(context: Context) -> Mapping[str, Any]:
    minilm.write_tokenizer(context.directory)
    about = manifest.About(
        "clinic-diagnostic",
        licence=minilm.LICENCE,
        source=f"{minilm.SOURCE}; heads trained on {FINDINGS.name} and {TERMS.name} of this project",
        max_tokens=minilm.max_tokens(),
    )
    context.say("training two heads")
    encoder = bert.Bert.load(minilm.pretrained())
    figures = classifier.train_and_export(
        context.directory, encoder, about, classifier.read(FINDINGS), classifier.read(TERMS)
    )
    for head, least in LEAST_ACCURACY.items():
        reached = figures[f"{head}_accuracy"]
        if reached < least:
            raise ProofError(
                f"clinic-diagnostic: {head} is right in {reached:.3f} of the rows held out; {least} needed"
            )
    return manifest.add_metrics(context.directory, figures)


RECIPE = Recipe(
    name="clinic-diagnostic",
    make=_make,
    modules=("recipes.bert", "recipes.classifier", "recipes.clinic", "recipes.minilm"),
    packages=(*minilm.PACKAGES, "scikit-learn"),
    data=(FINDINGS, TERMS),
)
