"""A cluster that has a few objects and can only be read: what Helm's `lookup` asks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from objects import Json

# What it says of the kinds that it knows, by the path that Kubernetes has it under.
KINDS = {
    "/api/v1": [("secrets", "Secret"), ("services", "Service")],
    "/apis/apps/v1": [("statefulsets", "StatefulSet")],
}

DISCOVERY: dict[str, Json] = {
    "/version": {"major": "1", "minor": "35", "gitVersion": "v1.35.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [
            {
                "name": "apps",
                "versions": [{"groupVersion": "apps/v1", "version": "v1"}],
                "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"},
            }
        ],
    },
}


@contextmanager
def cluster(objects: Sequence[Json], namespace: str, folder: Path) -> Iterator[Path]:
    """While it is there: the kubeconfig that leads to it."""
    answers = dict(DISCOVERY)
    for path, kinds in KINDS.items():
        resources = [{"name": name, "kind": kind, "namespaced": True, "verbs": ["get"]} for name, kind in kinds]
        version = path.removeprefix("/apis/").removeprefix("/api/")
        answers[path] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        for name, kind in kinds:
            for it in objects:
                if it["kind"] == kind:
                    answers[f"{path}/namespaces/{namespace}/{name}/{it['metadata']['name']}"] = it

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(found or gone).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, name="cluster", daemon=True).start()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": namespace}}],
            "users": [{"name": "it", "user": {}}],
            "current-context": "it",
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        try:
            yield path
        finally:
            server.shutdown()
