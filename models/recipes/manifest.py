"""The manifest of a model directory: what the files are, what goes in and what comes out.

Everything that can be read is read: sizes and hashes from the files, tensors from the graph, the vocabulary from the
tokenizer. What cannot (labels, licence, source, metrics) is given by whoever builds the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

SCHEMA = 1
FILE = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
TOKENS = "tokens.safetensors"

# Names of the Open Inference Protocol.
DATATYPES = {
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}


class ManifestError(Exception):
    """The directory cannot be described; the message lists every problem, one a line."""

    def __init__(self, directory: Path, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join([f"{directory.name}: no manifest can be written:", *(f"  - {p}" for p in problems)]))


@dataclass(frozen=True)
class About:
    """What a manifest says that no file tells."""

    name: str
    version: str = "1"
    licence: str = ""
    source: str = ""
    max_tokens: int | None = None
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def about(directory: Path, given: Mapping[str, Any]) -> About:
    """What `given` says, then what the manifest already in `directory` says, then the defaults.

    `given["labels"]` is a list of `output=first,second,…`.
    """
    told: dict[str, Any] = {"name": directory.resolve().name}
    if (directory / FILE).is_file():
        try:
            old = json.loads((directory / FILE).read_text(encoding="utf-8"))
            told |= {
                key: old[key] for key in ("name", "version", "licence", "source", "labels", "metrics") if key in old
            }
            told["max_tokens"] = old.get("tokenizer", {}).get("max_tokens")
        except (ValueError, AttributeError) as error:
            raise ManifestError(directory, [f"{FILE} is there and cannot be read: {error}"]) from error
    told |= {key: given[key] for key in ("name", "version", "licence", "source", "max_tokens") if given.get(key)}
    if given.get("labels"):
        pairs = [text.partition("=") for text in given["labels"]]
        problems = [f"--labels {output}: expected OUTPUT=A,B,…" for output, _, labels in pairs if not labels]
        if problems:
            raise ManifestError(directory, problems)
        told["labels"] = {output: labels.split(",") for output, _, labels in pairs}
    return About(**told)


def write(directory: Path, about: About) -> dict[str, Any]:
    """Describes the model in `directory`, writes `manifest.json` there and gives its content."""
    manifest = describe(directory, about)
    save(directory, manifest)
    return manifest


def save(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Writes `manifest` as it is. The model's digest is the SHA-256 of exactly these bytes."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (directory / FILE).write_text(text + "\n", encoding="utf-8")


def add_metrics(directory: Path, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Puts what was measured into the manifest in `directory`, to three significant digits, and gives it back."""
    metrics = {name: _rounded(value) for name, value in figures.items()}
    described = json.loads((directory / FILE).read_text(encoding="utf-8"))
    save(directory, described | {"metrics": metrics})
    return metrics


def describe(directory: Path, about: About) -> dict[str, Any]:
    """The manifest of the model in `directory`; raises `ManifestError` with all problems found."""
    if not (directory / MODEL).is_file():
        raise ManifestError(directory, [f"{MODEL} is missing"])
    try:
        model = onnx.load(directory / MODEL, load_external_data=False)
    except Exception as error:  # protobuf raises its own kinds, which differ between its implementations
        raise ManifestError(directory, [f"{MODEL} is not an ONNX file ({type(error).__name__})"]) from error

    weights = {weight.name for weight in model.graph.initializer}
    inputs = [_tensor(value) for value in model.graph.input if value.name not in weights]
    outputs = [_tensor(value) for value in model.graph.output]
    problems = [f"{what}: {tensor['problem']}" for what in (inputs, outputs) for tensor in what if "problem" in tensor]
    external, found = _external_files(model, directory)
    problems += found

    text = (directory / TOKENIZER).is_file()
    table = text and (directory / TOKENS).is_file()
    listed = [MODEL, *([TOKENIZER] if text else []), *([TOKENS] if table else []), *external]
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "name": about.name,
        "version": about.version,
        "kind": "text" if text else "tensors",
        "model": MODEL,
        "files": [entry(directory, name) for name in listed],
    }
    if text:
        manifest["tokenizer"], found = _tokenizer(directory, about)
        problems += found + _text_problems(inputs, outputs)
    if table:
        manifest["tokens"], found = _tokens(directory, manifest["tokenizer"].get("vocab_size"))
        problems += found
    manifest["inputs"] = inputs
    manifest["outputs"] = outputs
    if about.labels:
        manifest["labels"] = {output: list(labels) for output, labels in about.labels.items()}
        problems += _label_problems(about.labels, outputs)
    manifest["licence"] = about.licence
    manifest["source"] = about.source
    manifest["metrics"] = dict(about.metrics)
    if problems:
        raise ManifestError(directory, problems)
    return manifest


def entry(directory: Path, name: str) -> dict[str, Any]:
    """One element of `files`."""
    with (directory / name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": name, "size": (directory / name).stat().st_size, "sha256": digest}


def _rounded(value: object) -> object:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _tensor(value: onnx.ValueInfoProto) -> dict[str, Any]:
    kind = value.type.tensor_type
    described = {
        "name": value.name,
        "datatype": DATATYPES.get(kind.elem_type, ""),
        "shape": [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim],
    }
    if not described["datatype"]:
        described["problem"] = f"`{value.name}` is not a tensor of a datatype that the protocol knows"
    return described


def _external_files(model: onnx.ModelProto, directory: Path) -> tuple[list[str], list[str]]:
    """Files beside the model that hold its weights; a file outside the directory is a problem, not an entry."""
    names: set[str] = set()
    for weight in _weights(model.graph):
        if weight.data_location == TensorProto.EXTERNAL:
            names |= {item.value for item in weight.external_data if item.key == "location"}
    files, problems = [], []
    for name in sorted(names):
        path = (directory / name).resolve()
        if not path.is_relative_to(directory.resolve()):
            problems.append(f"weights lie outside the directory: {name}")
        elif not path.is_file():
            problems.append(f"weights are missing: {name}")
        else:
            files.append(name)
    return files, problems


def _weights(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in `graph`: its weights, and the constants of its nodes and of the graphs inside them."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _weights(inner)


def _tokenizer(directory: Path, about: About) -> tuple[dict[str, Any], list[str]]:
    path = directory / TOKENIZER
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        return {}, [f"{TOKENIZER} cannot be read: {error}"]
    stored = json.loads(path.read_text(encoding="utf-8"))
    max_tokens = about.max_tokens or (stored.get("truncation") or {}).get("max_length")
    pad_id = (stored.get("padding") or {}).get("pad_id")
    for token in ("[PAD]", "<pad>"):
        pad_id = tokenizer.token_to_id(token) if pad_id is None else pad_id
    problems = []
    if max_tokens is None:
        problems.append("the longest text is not known: give --max-tokens")
    if pad_id is None:
        problems.append(f"{TOKENIZER} has no padding token ([PAD] or <pad>)")
    return {
        "file": TOKENIZER,
        "max_tokens": max_tokens,
        "vocab_size": tokenizer.get_vocab_size(with_added_tokens=True),
        "pad_id": pad_id,
    }, problems


def _tokens(directory: Path, vocabulary: int | None) -> tuple[dict[str, Any], list[str]]:
    """The table of one vector a token: `rows` I8 [tokens, columns] and `scales` F32 [tokens]."""
    try:
        with safe_open(directory / TOKENS, "numpy") as file:
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            found = {name: (part.get_dtype(), part.get_shape()) for name, part in tensors.items()}
    except (SafetensorError, OSError) as error:
        return {}, [f"{TOKENS} cannot be read: {error}"]
    rows, columns = next((shape for _, shape in found.values() if len(shape) == 2), (0, 0))
    problems = []
    if found != {"rows": ("I8", [rows, columns]), "scales": ("F32", [rows])}:
        problems.append(f"{TOKENS} has {found}; expected rows I8 [n, m] and scales F32 [n]")
    elif rows != vocabulary:
        problems.append(f"{TOKENS} has {rows} rows and {TOKENIZER} {vocabulary} tokens")
    return {"file": TOKENS, "rows": rows, "columns": columns}, problems


def _text_problems(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> list[str]:
    """A text model takes token ids and a mask, and answers one row of floats a text."""
    problems = []
    names = {tensor["name"] for tensor in inputs}
    for name in ("input_ids", "attention_mask"):
        if name not in names:
            problems.append(f"a text model needs the input `{name}`; this one has {sorted(names)}")
    for tensor in inputs:
        if tensor["datatype"] != "INT64" or tensor["shape"] != [-1, -1]:
            problems.append(f"input `{tensor['name']}` is {_say(tensor)}; expected INT64 [-1, -1]")
    for tensor in outputs:
        shape = tensor["shape"]
        if tensor["datatype"] != "FP32" or len(shape) != 2 or shape[0] != -1 or shape[1] < 1:
            problems.append(f"output `{tensor['name']}` is {_say(tensor)}; expected FP32 [-1, n]: pool in the graph")
    return problems


def _label_problems(labels: Mapping[str, Sequence[str]], outputs: list[dict[str, Any]]) -> list[str]:
    widths = {tensor["name"]: (tensor["shape"] or [-1])[-1] for tensor in outputs}
    problems = []
    for name, values in labels.items():
        if name not in widths:
            problems.append(f"labels are given for `{name}`, which is not an output")
        elif len(values) != widths[name]:
            problems.append(f"output `{name}` is {widths[name]} wide and has {len(values)} labels")
        elif len(set(values)) != len(values):
            problems.append(f"labels of `{name}` repeat")
    return problems


def _say(tensor: Mapping[str, Any]) -> str:
    return f"{tensor['datatype']} {tensor['shape']}"
