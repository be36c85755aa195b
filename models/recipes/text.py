"""Runs a built text model the way the engine does: its own padding and truncation, one row an output a text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from recipes import manifest

BATCH = 32


class TextModel:
    """A model directory with a manifest of kind `text`."""

    def __init__(self, directory: Path) -> None:
        described = json.loads((directory / manifest.FILE).read_text(encoding="utf-8"))
        self.labels: dict[str, list[str]] = described.get("labels", {})
        self.tokenizer = Tokenizer.from_file(str(directory / manifest.TOKENIZER))
        self.tokenizer.enable_truncation(described["tokenizer"]["max_tokens"])
        self.tokenizer.no_padding()
        self.pad_id: int = described["tokenizer"]["pad_id"]
        self._outputs = [output["name"] for output in described["outputs"]]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        model = str(directory / manifest.MODEL)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, texts: Sequence[str], batch: int = BATCH) -> dict[str, np.ndarray]:
        """Every output as rows [texts, n], in the order of `texts`."""
        return self.run_ids(self.encode(texts), batch)

    def run_ids(self, encoded: Sequence[Sequence[int]], batch: int = BATCH) -> dict[str, np.ndarray]:
        """The same for texts that are token ids already, special tokens included."""
        rows = {name: [np.empty(0)] * len(encoded) for name in self._outputs}
        for chosen, ids, mask in self._batches(encoded, batch):
            answers = self._session.run(self._outputs, {"input_ids": ids, "attention_mask": mask})
            for name, values in zip(self._outputs, answers, strict=True):
                for index, row in zip(chosen, values, strict=True):
                    rows[name][index] = row
        return {name: np.stack(values) for name, values in rows.items()}

    def batches(self, texts: Sequence[str], batch: int = BATCH) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        """Which of `texts` run together, their token ids and their mask; texts of like length are together."""
        return self._batches(self.encode(texts), batch)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with special tokens, cut to what the model takes."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]

    def _batches(
        self, encoded: Sequence[Sequence[int]], batch: int
    ) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            yield chosen, *self.pad([encoded[index] for index in chosen])

    def pad(self, encoded: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and mask, INT64 [texts, longest]."""
        longest = max(len(ids) for ids in encoded)
        ids = np.full((len(encoded), longest), self.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return ids, mask
