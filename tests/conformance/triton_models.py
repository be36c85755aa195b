"""What the server says of itself and of its models: health, metadata, configuration, figures and the index."""

from __future__ import annotations

import time

import numpy as np

from datatypes import CASES
from report import Checks, expect, expect_equal
from subject import Subject, refused
from triton_requests import add_sub, numbers

CHECKS = Checks()

# Datatype and shape of inputs, then of outputs. Of `unknown-rank` nobody can say the output's shape.
TENSORS = {
    **{f"identity-{name.lower()}": ({"x": (name, [-1, -1])}, {"y": (name, [-1, -1])}) for name in CASES},
    "add-sub": (
        {"a": ("FP32", [-1, 16]), "b": ("FP32", [-1, 16])},
        {"sum": ("FP32", [-1, 16]), "difference": ("FP32", [-1, 16])},
    ),
    "scalar": ({"a": ("FP32", []), "b": ("FP32", [])}, {"y": ("FP32", [])}),
    "no-batch": ({"x": ("FP32", [2, 3])}, {"y": ("FP32", [3])}),
    "optional-input": ({"x": ("FP32", [-1, 4]), "scale": ("FP32", [])}, {"y": ("FP32", [-1, 4])}),
    "mean-centred": ({"x": ("FP32", [-1, 4])}, {"y": ("FP32", [-1, 4])}),
    "nonzero": ({"x": ("FP32", [-1, 4])}, {"y": ("INT64", [-1, 2])}),
    "unknown-rank": ({"x": ("FP32", [-1, -1]), "shape": ("INT64", [-1])}, None),
}
NEVER_JOINED = ("scalar", "no-batch", "mean-centred", "nonzero", "unknown-rank")


@CHECKS.add("ServerLive", "is live")
def _live(subject: Subject) -> None:
    expect(subject.client.is_server_live(), "it is not")


@CHECKS.add("ServerReady", "is ready")
def _ready(subject: Subject) -> None:
    expect(subject.client.is_server_ready(), "it is not")


@CHECKS.add("ServerMetadata", "name, version, and the extensions that clients look for")
def _metadata(subject: Subject) -> None:
    metadata = subject.client.get_server_metadata()
    expect_equal("the name", metadata.name, "consilium")
    expect(metadata.version, "the version is empty")
    missing = {"model_repository", "model_configuration", "statistics"} - set(metadata.extensions)
    expect(not missing, f"no extension {sorted(missing)}")


@CHECKS.add("ModelReady", "every model of the repository is")
def _models_ready(subject: Subject) -> None:
    unready = [model for model in TENSORS if not subject.client.is_model_ready(subject.model(model))]
    expect(not unready, f"not ready: {unready}")


@CHECKS.add("ModelReady", "an unknown model and an unknown version are not, which is no error")
def _unknown_not_ready(subject: Subject) -> None:
    expect(not subject.client.is_model_ready(subject.model("no-such-model")), "an unknown model is ready")
    expect(not subject.client.is_model_ready(subject.model("add-sub"), "99"), "an unknown version is ready")


@CHECKS.add("ModelMetadata", "datatypes and shapes of every model of the repository")
def _model_metadata(subject: Subject) -> None:
    for model, (inputs, outputs) in TENSORS.items():
        metadata = subject.client.get_model_metadata(subject.model(model))
        expect_equal("the name", metadata.name, subject.model(model))
        expect(all(version.isdigit() for version in metadata.versions), f"{model} has versions {metadata.versions}")
        expect(metadata.versions, f"{model} has no version")
        expect_equal("the platform", metadata.platform, "onnxruntime_onnx")
        said = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs}
        expect_equal(f"the inputs of {model}", said, inputs)
        if outputs:
            said = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in metadata.outputs}
            expect_equal(f"the outputs of {model}", said, outputs)


@CHECKS.add("ModelMetadata", "an unknown model and an unknown version are NOT_FOUND")
def _unknown_metadata(subject: Subject) -> None:
    refused(lambda: subject.client.get_model_metadata(subject.model("no-such-model")), "NOT_FOUND")
    refused(lambda: subject.client.get_model_metadata(subject.model("add-sub"), "99"), "NOT_FOUND")


@CHECKS.add("ModelConfig", "datatypes, dims and max_batch_size of every model fit its metadata")
def _config(subject: Subject) -> None:
    for model, (inputs, outputs) in TENSORS.items():
        config = subject.client.get_model_config(subject.model(model), as_json=False).config
        expect_equal("the name", config.name, subject.model(model))
        expect_equal("platform and backend", (config.platform, config.backend), ("onnxruntime_onnx", "onnxruntime"))
        batched = config.max_batch_size > 0
        expect_equal(f"{model}: dynamic_batching", config.HasField("dynamic_batching"), batched)
        for wanted, said in ((inputs, config.input), (outputs, config.output)):
            for name, (datatype, shape) in (wanted or {}).items():
                found = [tensor for tensor in said if tensor.name == name]
                expect_equal(f"{model}: tensors called {name}", len(found), 1)
                number = found[0].DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
                expected = "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
                expect_equal(f"{model}: the type of {name}", number[found[0].data_type].name, expected)
                expect_equal(f"{model}: dims of {name}", list(found[0].dims), shape[1:] if batched else shape)
        expect(not config.model_transaction_policy.decoupled, f"{model} is decoupled")


@CHECKS.add("ModelConfig", "only models that can be joined say so")
def _joins(subject: Subject) -> None:
    sizes = {model: subject.client.get_model_config(subject.model(model)).config.max_batch_size for model in TENSORS}
    expect(sizes["add-sub"] > 0, "add-sub is not joined")
    expect_equal(
        "what may never be joined", {model: sizes[model] for model in NEVER_JOINED}, dict.fromkeys(NEVER_JOINED, 0)
    )


@CHECKS.add("ModelConfig", "an input with a default is optional, others are not")
def _optional(subject: Subject) -> None:
    config = subject.client.get_model_config(subject.model("optional-input")).config
    expect_equal("optional", {tensor.name: tensor.optional for tensor in config.input}, {"x": False, "scale": True})


@CHECKS.add("ModelConfig", "an unknown model is NOT_FOUND")
def _unknown_config(subject: Subject) -> None:
    refused(lambda: subject.client.get_model_config(subject.model("no-such-model")), "NOT_FOUND")


@CHECKS.add("ModelStatistics", "grow by what was asked", only="expert")
def _statistics(subject: Subject) -> None:
    before, after = _asked(subject)
    # Nine requests of one row and one of three, one after the other.
    expect_equal("inference_count", after.inference_count - before.inference_count, 12)
    expect_equal("execution_count", after.execution_count - before.execution_count, 10)
    for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        grown = getattr(after.inference_stats, part).count - getattr(before.inference_stats, part).count
        expect_equal(f"{part}.count", grown, 10)
    expect_equal("fail.count", after.inference_stats.fail.count, before.inference_stats.fail.count)
    for part in ("success", "compute_infer"):
        spent = getattr(after.inference_stats, part).ns - getattr(before.inference_stats, part).ns
        expect(0 < spent < 60e9, f"{part} grew by {spent} ns")
    expect(abs(time.time() * 1000 - after.last_inference) < 60_000, f"last_inference is {after.last_inference}")
    sizes = {batch.batch_size: batch.compute_infer.count for batch in after.batch_stats}
    before_sizes = {batch.batch_size: batch.compute_infer.count for batch in before.batch_stats}
    grown = {size: count - before_sizes.get(size, 0) for size, count in sizes.items()}
    expect_equal("batches by size", {size: count for size, count in grown.items() if count}, {1: 9, 3: 1})


@CHECKS.add("ModelStatistics", "grow by what was asked, at least: others may ask too", only="router")
def _statistics_of_all(subject: Subject) -> None:
    before, after = _asked(subject)
    grown = after.inference_count - before.inference_count
    expect(grown >= 12, f"inference_count grew by {grown}; expected 12 or more")
    for part in ("success", "queue", "compute_infer"):
        grown = getattr(after.inference_stats, part).count - getattr(before.inference_stats, part).count
        expect(grown >= 10, f"{part}.count grew by {grown}; expected 10 or more")


def _asked(subject: Subject) -> tuple:
    """The figures of `add-sub` before and after ten requests, one after the other."""
    before = _figures(subject)
    for rows in (1,) * 9 + (3,):
        subject.infer("add-sub", {"a": numbers(rows, 16), "b": numbers(rows, 16)})
    return before, _figures(subject)


def _figures(subject: Subject) -> object:
    statistics = subject.client.get_inference_statistics(subject.model("add-sub")).model_stats
    expect_equal("the number of models", len(statistics), 1)
    expect_equal("the name", statistics[0].name, subject.model("add-sub"))
    expect(statistics[0].version.isdigit(), f"the version is {statistics[0].version!r}")
    return statistics[0]


@CHECKS.add("ModelStatistics", "of all models, and NOT_FOUND for an unknown one")
def _all_statistics(subject: Subject) -> None:
    add_sub(subject)
    names = {statistics.name for statistics in subject.client.get_inference_statistics().model_stats}
    missing = {subject.model(model) for model in TENSORS} - names
    expect(not missing, f"missing: {sorted(missing)}")
    refused(lambda: subject.client.get_inference_statistics(subject.model("no-such-model")), "NOT_FOUND")


@CHECKS.add("RepositoryIndex", "every model of the repository is READY, in the version that answers")
def _index(subject: Subject) -> None:
    answering = add_sub(subject).get_response().model_version
    index = subject.client.get_model_repository_index().models
    for model in TENSORS:
        found = [(entry.version, entry.state) for entry in index if entry.name == subject.model(model)]
        expect((answering if model == "add-sub" else "1", "READY") in found, f"{model}: {found}")


@CHECKS.add("ModelInfer", "an expert answers under its own name with its default model", mode="unary")
def _default_model(subject: Subject) -> None:
    metadata = subject.client.get_model_metadata(subject.prefix)
    expect_equal("the name", metadata.name, subject.prefix)
    expect_equal("the inputs", sorted(tensor.name for tensor in metadata.inputs), ["a", "b"])
    expect(np.prod(metadata.inputs[0].shape) == -16, f"the shape is {metadata.inputs[0].shape}")
