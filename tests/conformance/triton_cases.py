"""The cases of `cases.yaml` through Triton's own client: what the Open Inference Protocol can say of a query.

Reads the cases as the clients' drivers do, asks the mesh's own model, and prints a line of JSON for each case.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton

MODEL = "clinic"
"""The mesh's name is the model's."""


def _ask(client: triton.InferenceServerClient, case: dict[str, Any]) -> dict[str, Any]:
    request = case["request"]
    query = request["query"]
    texts = triton.InferInput("text", [1], "BYTES")
    texts.set_data_from_numpy(np.array([query["text"]], dtype=np.object_))
    # A parameter is one value, so an attribute with several cannot be said.
    parameters = {f"attributes.{name}": given["values"][0] for name, given in query.get("attributes", {}).items()}
    result = client.infer(
        MODEL,
        [texts],
        request_id=request.get("context", {}).get("requestId", ""),
        parameters=parameters,
        client_timeout=case["deadline_s"],
    )
    return {
        "answer": json.loads(result.as_numpy("answer")[0]),
        "expert": result.as_numpy("expert")[0].decode(),
        "request_id": result.as_numpy("request_id")[0].decode(),
    }


def main() -> int:
    """Asks every case, in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--cases", required=True, type=Path)
    arguments = parser.parse_args()
    with triton.InferenceServerClient(arguments.target) as client:
        for case in json.loads(arguments.cases.read_text(encoding="utf-8")):
            line: dict[str, Any] = {"case": case["name"]}
            try:
                line["outputs"] = _ask(client, case)
            except triton.InferenceServerException as error:
                code = (error.status() or "").removeprefix("StatusCode.")
                line["error"] = {"code": code, "message": error.message()}
            print(json.dumps(line, ensure_ascii=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
