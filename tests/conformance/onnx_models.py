#!/usr/bin/env python3
"""Shows that an expert serves whatever ONNX Runtime runs: the ONNX project's own test models, one after the other.

    .tools/oip/triton/bin/python tests/conformance/onnx_models.py --address HOST:PORT --prefix EXPERT --repository DIR \
        [--only PART] [--json FILE]

Each model is put into DIR, from where EXPERT reads its models, loaded through RepositoryModelLoad, asked for the
outputs of its shipped inputs, compared, unloaded and taken out again. What becomes of it:

    right            the answer is the shipped one, within the tolerances of the ONNX project's own runner
    as ONNX Runtime  the answer is not the shipped one, but to the bit what ONNX Runtime says without a server
    random           ONNX Runtime says something else every time: type and shape are right
    refused          with a reason, where the protocol has no words for the model or ONNX Runtime refuses it too
    refused only by the server, and wrong: there must be none; the script ends with 1 where there is one
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import tritonclient.grpc as triton
from tritonclient.utils import np_to_triton_dtype

import onnx_cases
from onnx_cases import Case, OnnxRuntime
from report import ConformanceError, Progress

AT_ONCE = 4
PATIENCE_S = 120.0

RIGHT, AS_RUNTIME, RANDOM = "right", "as ONNX Runtime", "random"
REFUSED, ONLY_REFUSED_HERE, WRONG = "refused", "refused only by the server", "wrong"
OUTCOMES = (RIGHT, AS_RUNTIME, RANDOM, REFUSED, ONLY_REFUSED_HERE, WRONG)


@dataclass(frozen=True)
class Result:
    """What became of a model, and why."""

    name: str
    kind: str
    outcome: str
    why: str = ""
    said: str = ""
    """What the server said where it refused."""


class Server:
    """An expert that loads models from a directory."""

    def __init__(self, address: str, prefix: str, repository: Path) -> None:
        self._client = triton.InferenceServerClient(address)
        self._prefix = prefix
        self._repository = repository

    def put(self, name: str, model: onnx.ModelProto) -> None:
        """Writes the model as version 1."""
        directory = self._repository / name
        if directory.exists():
            raise ConformanceError(f"{directory} is there already: this wants a repository without a model {name}")
        (directory / "1").mkdir(parents=True)
        (directory / "1" / "model.onnx").write_bytes(model.SerializeToString())

    def load(self, name: str) -> None:
        """Loads what was put there."""
        self._client.load_model(f"{self._prefix}.{name}", client_timeout=PATIENCE_S)

    def infer(self, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs, by name."""
        tensors = [_tensor(input_name, array) for input_name, array in inputs.items()]
        result = self._client.infer(f"{self._prefix}.{name}", tensors, client_timeout=PATIENCE_S)
        outputs = [(output.name, result.as_numpy(output.name)) for output in result.get_response().outputs]
        return {output: _strings(array) for output, array in outputs}

    def remove(self, name: str, *, loaded: bool) -> None:
        """Unloads the model and takes its files away."""
        try:
            if loaded:
                self._client.unload_model(f"{self._prefix}.{name}", client_timeout=PATIENCE_S)
        finally:
            shutil.rmtree(self._repository / name, ignore_errors=True)


def main() -> int:
    """Gives the exit code: 0 all served or refused with a good reason, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True, metavar="HOST:PORT")
    parser.add_argument("--prefix", required=True, metavar="EXPERT", help="an expert with `control: explicit`")
    parser.add_argument("--repository", required=True, type=Path, metavar="DIR", help="where it reads its models")
    parser.add_argument("--only", default="", metavar="PART", help="only models with this in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write what became of each")
    options = parser.parse_args()

    started = time.monotonic()
    chosen = [case for case in onnx_cases.cases() if options.only in case.name]
    results = _all(Server(options.address, options.prefix, options.repository), chosen)
    counts = Counter(result.outcome for result in results)
    _print(results, counts, time.monotonic() - started)
    if options.json:
        versions = {package: metadata.version(package) for package in ("onnx", "onnxruntime", "tritonclient")}
        content = {"versions": versions, "counts": {outcome: counts[outcome] for outcome in OUTCOMES}}
        content["reasons"] = dict(_reasons(results))
        content["models"] = [asdict(result) for result in results]
        options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if counts[WRONG] or counts[ONLY_REFUSED_HERE] or not counts[RIGHT] else 0


def judge(server: Server, case: Case) -> Result:
    """Takes one model through the server, and says what became of it."""
    model = case.model()
    server.put(case.name, model)
    loaded = False
    try:
        try:
            server.load(case.name)
        except triton.InferenceServerException as error:
            return _refused(case, model, error)
        loaded = True
        foreign = onnx_cases.not_carried(model)
        if foreign:
            return Result(case.name, case.kind, WRONG, f"was loaded, and the protocol has no word for a {foreign}")
        return _compared(server, case, model)
    finally:
        server.remove(case.name, loaded=loaded)


def _compared(server: Server, case: Case, model: onnx.ModelProto) -> Result:
    outcome, why = RIGHT, ""
    for inputs, shipped in case.data_sets(model):
        try:
            got = server.infer(case.name, inputs)
        except triton.InferenceServerException as error:
            return _refused(case, model, error, inputs)
        if list(got) != list(shipped):
            return Result(case.name, case.kind, WRONG, f"the outputs are {list(got)}; expected {list(shipped)}")
        differs = onnx_cases.deviation(got, shipped, case.rtol, case.atol)
        if differs:
            outcome, why = _explained(model, inputs, got, differs), differs
        if outcome == WRONG:
            break
    return Result(case.name, case.kind, outcome, why)


def _explained(model: onnx.ModelProto, inputs: dict, got: dict, differs: str) -> str:
    """Why an answer is not the shipped one: because ONNX Runtime's is not, or because the server's is wrong."""
    try:
        first, second = OnnxRuntime(model).run(inputs), OnnxRuntime(model).run(inputs)
    except Exception:
        # It cannot be blamed for an answer that it does not give.
        return WRONG
    if onnx_cases.same(got, first):
        return AS_RUNTIME
    shapes = [{name: (array.dtype, array.shape) for name, array in answer.items()} for answer in (first, got)]
    return RANDOM if not onnx_cases.same(first, second) and shapes[0] == shapes[1] else WRONG


def _refused(case: Case, model: onnx.ModelProto, error: Exception, inputs: dict | None = None) -> Result:
    """A refusal is right where the protocol cannot carry the model, or ONNX Runtime alone does not run it either."""
    said = " ".join(str(error).split())
    foreign = onnx_cases.not_carried(model)
    if foreign:
        return Result(case.name, case.kind, REFUSED, f"the protocol has no word for {foreign}", said)
    try:
        for shipped, _ in [(inputs, {})] if inputs is not None else case.data_sets(model):
            OnnxRuntime(model).run(shipped)
    except Exception as alone:
        return Result(case.name, case.kind, REFUSED, f"ONNX Runtime: {_general(str(alone))}", said)
    return Result(case.name, case.kind, ONLY_REFUSED_HERE, _general(said), said)


# What is a model's own in ONNX Runtime's errors, and what to say instead.
OWN = (
    (r"^\[ONNXRuntimeError\] : \d+ : ", ""),
    (r" In Node.*", ""),
    (r"/\S+:\d+ .*?\(.*?\)\S* ", ""),
    (r"\[with .*?\] ", ""),
    (r"Node ?\(.*?\)|[Nn]ame:'.*?'|\"[^\"]*\"|'[^']*'|`[^`]*`|\([^()]*\)", "…"),
    (r"implementation for \S+", "implementation for an operator"),
    (r"Fatal error: \S+ is not", "an operator is not"),
    (r"running \w+ node", "running a node"),
)


def _general(message: str) -> str:
    """The first line of an error, without what is this model's own."""
    line = message.strip().splitlines()[0] if message.strip() else "no message"
    for pattern, instead in OWN:
        line = re.sub(pattern, instead, line)
    return line[:140]


def _tensor(name: str, array: np.ndarray) -> triton.InferInput:
    built = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    built.set_data_from_numpy(array)
    return built


def _strings(array: np.ndarray) -> np.ndarray:
    """Strings as text, which is what ONNX Runtime and the shipped outputs have."""
    if array.dtype != np.object_:
        return array
    text = np.empty(array.shape, dtype=np.object_)
    text.reshape(-1)[:] = [item.decode() for item in array.reshape(-1)]
    return text


def _all(server: Server, cases: Sequence[Case]) -> list[Result]:
    progress, counts, lock = Progress(), Counter(), threading.Lock()

    def one(case: Case) -> Result:
        try:
            result = judge(server, case)
        except Exception as error:
            result = Result(case.name, case.kind, WRONG, f"{type(error).__name__}: {' '.join(str(error).split())}")
        with lock:
            counts[result.outcome] += 1
            told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])
            progress(f"{counts.total()} of {len(cases)}: {told}; {case.name}")
        return result

    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(one, cases))
    progress.clear()
    return results


def _print(results: Sequence[Result], counts: Counter, took: float) -> None:
    kinds = Counter((result.kind, result.outcome) for result in results)
    width = max(len(kind) for kind in onnx_cases.KINDS)
    shown = [outcome for outcome in OUTCOMES if counts[outcome] or outcome in (RIGHT, REFUSED, WRONG)]
    print(" " * width + "".join(f"   {outcome}" for outcome in shown) + "   models")
    for kind in (*onnx_cases.KINDS, ""):
        cells = [kinds[kind, outcome] if kind else counts[outcome] for outcome in shown]
        if sum(cells):
            numbers = "".join(f"   {cell:{len(outcome)}}" for cell, outcome in zip(cells, shown, strict=True))
            print(f"{kind or 'all':{width}}{numbers}   {sum(cells):6}")
    print("\nrefused because")
    for why, count in _reasons(results):
        print(f"{count:6}  {why}")
    for outcome in (AS_RUNTIME, RANDOM, ONLY_REFUSED_HERE, WRONG):
        found = [result for result in results if result.outcome == outcome]
        if found:
            print(f"\n{outcome}")
            print("\n".join(f"        {result.name}: {result.why}" for result in found))
    print(f"\n{len(results)} models in {took:.0f} s")


def _reasons(results: Sequence[Result]) -> list[tuple[str, int]]:
    return Counter(result.why for result in results if result.outcome == REFUSED).most_common()


if __name__ == "__main__":
    sys.exit(main())
