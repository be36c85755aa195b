"""The router of semantic-router 1.1.1 beside ours: accuracy and latency of its IndexedRouter with the same MiniLM weights.

`scripts/setup semantic-router` installs it. The encoder is a class of its kind (`DenseEncoder`) that runs our FP32 graph with
ONNX Runtime on one thread, which is faster than its own HuggingFaceEncoder: the latency is kind to it.

    taskset -c 0 .tools/semantic-router/bin/python tests/benches/semantic_router.py MODEL_DIR DATA_DIR SET
        [--per-class N] [--queries N] [--latency-only]

DATA_DIR/SET/{train,val,test}.jsonl: {"text", "expert"|null}. `--per-class N`: the first N utterances of each route.
Prints one line of JSON; shares 0..1, latency in ms. The threshold is the one with the best end-to-end share on val.
"""
import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnxruntime
from semantic_router import Route
from semantic_router.encoders import DenseEncoder
from semantic_router.routers import IndexedRouter
from tokenizers import Tokenizer


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


def scores(router, queries):
    """Best route and its raw score, one query at a time."""
    picks = [router(text) for text, _ in queries]
    return [pick.name for pick in picks], np.array([pick.confidence or 0.0 for pick in picks])


def end_to_end(queries, names, confidences, bar):
    return float(np.mean([(name if c >= bar else None) == want for (_, want), name, c in zip(queries, names, confidences)]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("set")
    parser.add_argument("--per-class", type=int)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--latency-only", action="store_true")
    options = parser.parse_args()
    train, val, test = (rows(options.data / options.set / f"{split}.jsonl") for split in ("train", "val", "test"))
    routes: dict[str, list[str]] = {}
    for text, expert in train:
        if expert is not None and len(routes.setdefault(expert, [])) < (options.per_class or len(train)):
            routes[expert].append(text)
    started = time.perf_counter()
    router = IndexedRouter(
        encoder=encoder(options.model), routes=[Route(name=name, utterances=texts) for name, texts in routes.items()]
    )
    told = {"set": options.set, "routes": len(routes), "utterances": sum(map(len, routes.values()))}
    told["build_s"] = round(time.perf_counter() - started, 1)

    # Every nth, so that all classes are among them; the first ones warm up.
    chosen = test[:: max(1, len(test) // options.queries)][: options.queries]
    for text, _ in chosen[:20]:
        router(text)
    took = []
    for text, _ in chosen:
        before = time.perf_counter()
        router(text)
        took.append((time.perf_counter() - before) * 1000)
    told["latency_ms"] = {f"p{q}": round(float(np.percentile(took, q)), 2) for q in (50, 95, 99)}

    if not options.latency_only:
        names, confidences = scores(router, val)
        bars = [0.0]
        if any(want is None for _, want in val):
            bars += sorted(set(np.round(confidences, 3)))
        bar = max(bars, key=lambda bar: end_to_end(val, names, confidences, bar))
        names, confidences = scores(router, test)
        told["top1"] = round(float(np.mean([n == w for (_, w), n in zip(test, names) if w is not None])), 4)
        told["end_to_end"] = round(end_to_end(test, names, confidences, bar), 4)
        told["threshold"] = float(bar)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
