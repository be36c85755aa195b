"""semantic-router 1.1.1, by aurelio, beside our gate: accuracy and latency of its IndexedRouter on the same sentence encoder.

`scripts/setup semantic-router` installs it, and the bench `gate` runs this where it is installed. The encoder is a class of
its kind (`DenseEncoder`) that runs one of our graphs with ONNX Runtime on one thread, which is faster than its own
HuggingFaceEncoder: the latency is kind to it.

    taskset -c 0 .tools/semantic-router/bin/python tests/benches/aurelio.py MODEL_DIR DATA_DIR [--per-class N]

DATA_DIR/{train,val,test}.jsonl: {"text", "expert"|null}. `--per-class N`: the first N utterances of each route.
Prints one line of JSON; shares 0..1, latency in ms, of every query of the test. The threshold is the one with the best
end-to-end share on val.
"""
import argparse
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnxruntime
from semantic_router import Route
from semantic_router.encoders import DenseEncoder
from semantic_router.routers import IndexedRouter
from tokenizers import Tokenizer

# Queries asked once more before the first that counts: they pay for memory that the others find.
WARM_UP = 20


class MiniLm(DenseEncoder):
    """all-MiniLM-L6-v2 in ONNX Runtime; each text alone, as a query comes."""

    name: str = "minilm-onnx"
    type: str = "local"
    tokenizer: object = None
    session: object = None

    def __call__(self, docs):
        rows = []
        for text in docs:
            ids = np.array([self.tokenizer.encode(str(text)).ids], dtype=np.int64)
            rows.append(self.session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0].tolist())
        return rows


def encoder(directory):
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.no_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(directory / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return MiniLm(tokenizer=tokenizer, session=session)


def rows(path):
    return [(row["text"], row.get("expert")) for row in map(json.loads, path.read_text().splitlines())]


def asked(router, queries):
    """Best route, its raw score and what that took in ms, one query at a time."""
    for text, _ in queries[:WARM_UP]:
        router(text)
    names, confidences, took = [], [], []
    for text, _ in queries:
        since = time.perf_counter()
        pick = router(text)
        took.append((time.perf_counter() - since) * 1000)
        names.append(pick.name)
        confidences.append(pick.confidence or 0.0)
    return names, np.array(confidences), took


def end_to_end(queries, names, confidences, bar):
    return float(np.mean([(name if c >= bar else None) == want for (_, want), name, c in zip(queries, names, confidences)]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--per-class", type=int)
    options = parser.parse_args()
    train, val, test = (rows(options.data / f"{split}.jsonl") for split in ("train", "val", "test"))
    routes: dict[str, list[str]] = {}
    for text, expert in train:
        if expert is not None and len(routes.setdefault(expert, [])) < (options.per_class or len(train)):
            routes[expert].append(text)
    router = IndexedRouter(
        encoder=encoder(options.model), routes=[Route(name=name, utterances=texts) for name, texts in routes.items()]
    )

    names, confidences, _ = asked(router, val)
    bars = [0.0]
    if any(want is None for _, want in val):
        bars += sorted(set(np.round(confidences, 3)))
    bar = max(bars, key=lambda bar: end_to_end(val, names, confidences, bar))

    names, confidences, took = asked(router, test)
    told = {
        "version": version("semantic-router"),
        "top1": float(np.mean([n == w for (_, w), n in zip(test, names) if w is not None])),
        "end_to_end": end_to_end(test, names, confidences, bar),
        "threshold": float(bar),
        "latency_ms": {f"p{q}": float(np.percentile(took, q)) for q in (50, 95, 99)},
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
