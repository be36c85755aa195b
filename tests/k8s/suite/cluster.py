"""A cluster to test in, seen through kubectl and helm."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.processes import TOOLS, CommandError, eventually, run

Thing = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """A cluster, and the way to it."""

    kubeconfig: Path
    kubectl_program: str
    # What stands before a command that is to reach pods and Services by their addresses; empty where nothing can.
    enter: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        """Whether it is our own node, whose addresses can be reached and whose processes are this machine's."""
        return bool(self.enter)

    def kubectl(self, *arguments: str, stdin: str | None = None, within: float = 120) -> str:
        """Runs kubectl."""
        return run(self.command(*arguments), stdin=stdin, within=within)

    def command(self, *arguments: str) -> list[str]:
        """The command line of a kubectl."""
        return [*self.enter, self.kubectl_program, "--kubeconfig", str(self.kubeconfig), *arguments]

    def helm(self, *arguments: str, within: float = 600) -> str:
        """Runs helm. Its own files are the tests', so that nobody's plugins or repositories have a say."""
        home = TOOLS.parent / "target" / "helm"
        env = os.environ | {f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        command = [*self.enter, str(TOOLS / "bin" / "helm"), "--kubeconfig", str(self.kubeconfig), *arguments]
        return run(command, within=within, env=env)

    def items(self, *arguments: str) -> list[Thing]:
        """The objects that `kubectl get` finds."""
        found = json.loads(self.kubectl("get", "--output", "json", *arguments))
        return found.get("items", [found]) if found["kind"].endswith("List") else [found]


@dataclass(frozen=True)
class Namespace:
    """A namespace of the tests' own."""

    cluster: Cluster
    name: str

    def kubectl(self, *arguments: str, stdin: str | None = None, within: float = 120) -> str:
        """Runs kubectl here."""
        return self.cluster.kubectl("--namespace", self.name, *arguments, stdin=stdin, within=within)

    def items(self, *arguments: str) -> list[Thing]:
        """The objects that `kubectl get` finds here."""
        return self.cluster.items("--namespace", self.name, *arguments)

    def one(self, kind: str, name: str) -> Thing:
        """An object that is there."""
        return self.items(kind, name)[0]

    def apply(self, *things: Thing) -> None:
        """Makes objects, or makes them so."""
        wanted = {"apiVersion": "v1", "kind": "List", "items": list(things)}
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(wanted))

    def everything(self) -> list[str]:
        """The name of every object of every kind, but for what each namespace has and what only tells of others."""
        kinds = self.cluster.kubectl("api-resources", "--verbs=list", "--namespaced", "--output=name").split()
        told = {"events", "events.events.k8s.io", "pods.metrics.k8s.io"}
        found = self.kubectl(
            "get", ",".join(kind for kind in kinds if kind not in told), "--output", "name", "--ignore-not-found"
        )
        always = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
        return sorted(set(found.split()) - always)

    @contextmanager
    def reach(self, what: str, port: int) -> Iterator[str]:
        """An address, host:port, at which `svc/NAME` or `pod/NAME` answers: its own where that leads there."""
        kind, name = what.split("/")
        if self.cluster.own:
            thing = self.one(kind, name)
            host = thing["spec"]["clusterIP"] if kind == "svc" else thing["status"]["podIP"]
            yield f"{host}:{port}"
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            local = free.getsockname()[1]
        command = self.cluster.command("--namespace", self.name, "port-forward", what, f"{local}:{port}")
        forward = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            eventually("a forwarded port takes connections", lambda: _answers(local), within=20)
            yield f"127.0.0.1:{local}"
        finally:
            forward.terminate()
            forward.wait(10)

    def keep_what_is_known(self, folder: Path) -> None:
        """Writes objects, events and logs into a folder, for whoever looks for the reason of a failure."""
        folder.mkdir(parents=True, exist_ok=True)
        questions = {
            "objects.txt": ("get", "all,endpointslices,configmaps,pdb", "--output", "wide"),
            "events.txt": ("get", "events", "--sort-by=.lastTimestamp"),
            "pods.txt": ("describe", "pods"),
        }
        for pod in self.items("pods"):
            name = pod["metadata"]["name"]
            questions[f"{name}.log"] = ("logs", name, "--all-containers", "--timestamps")
            if any(one["restartCount"] for one in pod["status"].get("containerStatuses", [])):
                questions[f"{name}.previous.log"] = ("logs", name, "--all-containers", "--timestamps", "--previous")
        for file, arguments in questions.items():
            try:
                (folder / file).write_text(self.kubectl(*arguments))
            except CommandError as failed:
                (folder / file).write_text(str(failed))


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex(("127.0.0.1", port)) == 0


def ready(pod: Thing) -> bool:
    """Whether a pod is ready and stays."""
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]
