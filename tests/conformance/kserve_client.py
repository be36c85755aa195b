#!/usr/bin/env python3
"""Shows that KServe's own Python client for gRPC works against an expert or a router.

    .tools/oip/kserve/bin/python tests/conformance/kserve_client.py --address HOST:PORT --prefix EXPERT [--text MODEL] \
        [--ask TEXT …] [--json FILE]

EXPERT serves a copy of models/build/fixtures/repository; MODEL takes texts. One of them may be left out. Ends with 1
where a row is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest, InferResponse
from kserve.utils.numpy_codec import to_np_dtype

import report
from datatypes import CASES
from report import Checks, ConformanceError, expect, expect_equal

QUERIES = ("a mild cough since yesterday", "sudden chest pain and sweating")
# KServe has no BF16.
DATATYPES = [datatype for datatype in CASES if to_np_dtype(datatype) is not None]

CHECKS, TEXT_CHECKS = Checks(), Checks()


class Subject:
    """An expert or a router, and KServe's client for it."""

    def __init__(self, address: str, prefix: str) -> None:
        self.prefix = prefix
        self._runner = asyncio.Runner()
        self._client = self._do(self._connect, address)

    def live(self) -> bool:
        """Whether the server lives."""
        return self._do(self._client.is_server_live)

    def ready(self) -> bool:
        """Whether it takes requests."""
        return self._do(self._client.is_server_ready)

    def model_ready(self, model: str) -> bool:
        """Whether it has the model."""
        return self._do(self._client.is_model_ready, model)

    def infer(self, model: str, *inputs: InferInput, **more: Any) -> InferResponse:
        """One request; `more` is what `InferRequest` takes."""
        return self._do(self._client.infer, InferRequest(model, list(inputs), **more))

    def close(self) -> None:
        """Ends the connection."""
        self._do(self._client.close)
        self._runner.close()

    def _do(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return self._runner.run(call(*arguments))

    @staticmethod
    async def _connect(address: str) -> InferenceGRPCClient:
        return InferenceGRPCClient(address)


def main() -> int:
    """Gives the exit code: 0 all right, 1 something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True, metavar="HOST:PORT")
    parser.add_argument("--prefix", metavar="EXPERT", help="the expert that serves the fixtures")
    parser.add_argument("--text", metavar="MODEL", help="a model that takes texts")
    parser.add_argument("--ask", action="append", metavar="TEXT", help="what to ask it; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    options = parser.parse_args()
    if not options.prefix and not options.text:
        parser.error("neither --prefix nor --text: there is nothing to look at")

    # The client logs every error that it also raises, and some are what a check is after.
    logging.disable(logging.CRITICAL)
    started = time.monotonic()
    subject = Subject(options.address, options.prefix or "")
    rows = report.run(CHECKS, subject) if options.prefix else []
    if options.text:
        rows += report.run(TEXT_CHECKS, subject, options.text, options.ask or QUERIES)
    subject.close()
    client = metadata.version("kserve")
    return report.finish(f"kserve {client}, {options.address}", rows, started, options.json, client=client)


@CHECKS.add("ServerLive", "is live")
def _live(subject: Subject) -> None:
    expect(subject.live(), "it is not")


@CHECKS.add("ServerReady", "is ready")
def _ready(subject: Subject) -> None:
    expect(subject.ready(), "it is not")


@CHECKS.add("ModelReady", "a model of the repository is, an unknown one is not")
def _model_ready(subject: Subject) -> None:
    expect(subject.model_ready(f"{subject.prefix}.add-sub"), "add-sub is not")
    expect(not subject.model_ready(f"{subject.prefix}.no-such-model"), "an unknown model is")


@CHECKS.add("ModelInfer", "two inputs, two outputs, the id")
def _add_sub(subject: Subject) -> None:
    a = np.arange(32, dtype=np.float32).reshape(2, 16)
    b = np.ones((2, 16), dtype=np.float32)
    inputs = [InferInput("a", [2, 16], "FP32", data=a), InferInput("b", [2, 16], "FP32", data=b)]
    response = subject.infer(f"{subject.prefix}.add-sub", *inputs, request_id="seven")
    expect_equal("the model", response.model_name, f"{subject.prefix}.add-sub")
    expect_equal("the id", response.id, "seven")
    outputs = {output.name: output.as_numpy() for output in response.outputs}
    expect_equal("the outputs", list(outputs), ["sum", "difference"])
    more = 100 if response.model_version == "2" else 0
    expect(np.array_equal(outputs["sum"], a + b + more), f"the sum is {outputs['sum'].tolist()}")
    expect(np.array_equal(outputs["difference"], a - b), f"the difference is {outputs['difference'].tolist()}")


@CHECKS.add("ModelInfer", "refused: an unknown model, NOT_FOUND, and another shape, INVALID_ARGUMENT")
def _refused(subject: Subject) -> None:
    tensor = InferInput("x", [1, 1], "FP32", data=np.zeros((1, 1), dtype=np.float32))
    for model, code in (("no-such-model", "NOT_FOUND"), ("scalar", "INVALID_ARGUMENT")):
        try:
            subject.infer(f"{subject.prefix}.{model}", tensor)
        except grpc.RpcError as error:
            expect_equal(f"the status for {model}", error.code().name, code)
        else:
            raise ConformanceError(f"{model} answers OK; expected {code}")


def _echo(subject: Subject, datatype: str, *, raw: bool) -> None:
    sent = np.array(CASES[datatype][0], dtype=to_np_dtype(datatype))
    data = sent if raw else sent.reshape(-1).tolist()
    response = subject.infer(
        f"{subject.prefix}.identity-{datatype.lower()}", InferInput("x", list(sent.shape), datatype, data=data)
    )
    expect_equal("the number of outputs", len(response.outputs), 1)
    output = response.outputs[0]
    expect_equal("name, datatype and shape", (output.name, output.datatype, output.shape), ("y", datatype, [2, 3]))
    got = output.as_numpy()
    same = got.tolist() == sent.tolist() if sent.dtype == np.object_ else got.tobytes() == sent.tobytes()
    expect(same, f"y is {got.tolist()}; expected {sent.tolist()}")


for _datatype in DATATYPES:
    for _raw in (True, False) if CASES[_datatype][1] else (True,):

        def _check(subject: Subject, datatype: str = _datatype, raw: bool = _raw) -> None:
            _echo(subject, datatype, raw=raw)

        CHECKS.add("ModelInfer", "the same comes back", mode="raw" if _raw else "typed", datatype=_datatype)(_check)


@TEXT_CHECKS.add("ModelInfer", "texts in, answers out")
def _texts(subject: Subject, model: str, queries: list[str]) -> None:
    expect(subject.model_ready(model), f"{model} is not ready")
    for data in (list(queries), np.array([query.encode() for query in queries], dtype=np.object_)):
        response = subject.infer(model, InferInput("text", [len(queries)], "BYTES", data=data))
        outputs = {output.name: output.as_numpy() for output in response.outputs}
        expect_equal("the outputs", list(outputs), ["answer", "expert", "confidence", "request_id"])
        for answer in outputs["answer"]:
            expect(isinstance(json.loads(answer), dict), f"the answer is {answer[:80]!r}; expected a JSON object")
        expect(all(outputs["expert"]), "an expert has no name")
        expect_equal("the number of request ids", len(set(outputs["request_id"])), len(queries))


if __name__ == "__main__":
    sys.exit(main())
