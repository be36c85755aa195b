"""The load that runs while a mesh is changed: pods that ask through our Go client and count what came back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from suite.cluster import Namespace, Thing
from suite.processes import REPOSITORY, eventually
from suite.release import PORT, Release

QUESTIONS = REPOSITORY / "meshes" / "clinic" / "demo.jsonl"
IMAGE = "docker.io/consilium-tests/load:0"
PROGRAM = "/usr/bin/load"
# Of each of the two pods. Beside routers, ten experts and a control plane that is a load for two cores,
# but it is not what is measured: what is looked for is a question without an answer.
RATE = 10
# As long as the clinic lets a question take. Two cores are slow while thirteen pods start on them, which is not what is
# looked for either; how long the slowest answer took stands in the table.
TIMEOUT = "10s"
# So long it goes on before and after what happens: who lost a router may notice only with the next questions.
BEFORE, AFTER = 20, 50


@dataclass(frozen=True)
class Counted:
    """What one pod of the load counted."""

    way: str
    summary: dict[str, Any]

    @property
    def right(self) -> bool:
        """Whether each question was answered, and by whom it should be."""
        counts = self.summary
        return counts["asked"] > 0 and counts["answered"] + counts["refused"] == counts["asked"] and counts["held"] == 0

    @property
    def failed(self) -> int:
        """Questions that were not answered as they should be."""
        return self.summary["asked"] - self.summary["answered"] - self.summary["refused"] + self.summary["held"]


class Load:
    """Two pods: one through the Service, where kube-proxy chooses a router for its connection, one to all in turn."""

    def __init__(self, release: Release, image: str = IMAGE) -> None:
        self._release = release
        self._image = image
        self.counted: list[Counted] = []

    @property
    def _namespace(self) -> Namespace:
        return self._release.namespace

    def _ways(self) -> dict[str, str]:
        router = f"{self._release.fullname}-router"
        return {"service": f"dns:///{router}:{PORT}", "headless": f"dns:///{router}-headless:{PORT}"}

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Asks meanwhile. `counted` is there afterwards, also when what happened meanwhile failed."""
        questions = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "load"}}
        questions["data"] = {"questions.jsonl": QUESTIONS.read_text()}
        self._namespace.apply(questions, *(self._pod(way, target) for way, target in self._ways().items()))
        try:
            for way in self._ways():
                self._asks_on(way, BEFORE)
            yield self
            for way in self._ways():
                self._asks_on(way, AFTER)
        finally:
            self.counted = [self._ended(way) for way in self._ways()]
            names = [f"load-{way}" for way in self._ways()]
            self._namespace.kubectl(
                "delete", "--ignore-not-found", "configmap/load", *(f"pod/{name}" for name in names)
            )

    def asked(self, way: str) -> int:
        """How many questions this pod has asked until now."""
        lines = self._namespace.kubectl("logs", f"load-{way}", "--tail=1").splitlines()
        return json.loads(lines[0]).get("asked", 0) if lines else 0

    def _asks_on(self, way: str, further: int) -> None:
        """Waits for so many further questions."""
        begun = eventually(f"load-{way} asks", lambda: self.asked(way), within=60)
        eventually(f"load-{way} asks on", lambda: self.asked(way) >= begun + further, within=60)

    def _ended(self, way: str) -> Counted:
        self._namespace.kubectl("exec", f"load-{way}", "--", PROGRAM, "stop")
        over = ("Succeeded", "Failed")
        eventually(
            f"load-{way} ends", lambda: self._namespace.one("pod", f"load-{way}")["status"]["phase"] in over, within=60
        )
        last = self._namespace.kubectl("logs", f"load-{way}", "--tail=1")
        return Counted(way, json.loads(last)["summary"])

    def _pod(self, way: str, target: str) -> Thing:
        arguments = [
            "-target",
            target,
            "-rate",
            str(RATE),
            "-timeout",
            TIMEOUT,
            "-questions",
            "/questions/questions.jsonl",
        ]
        container = {
            "name": "load",
            "image": self._image,
            "imagePullPolicy": "IfNotPresent",
            "command": [PROGRAM],
            "args": arguments,
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [{"name": "questions", "mountPath": "/questions", "readOnly": True}],
        }
        spec = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "questions", "configMap": {"name": "load"}}],
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"load-{way}"}, "spec": spec}
