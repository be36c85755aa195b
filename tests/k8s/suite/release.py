"""A release of the chart: what can be done to it, and what it says of itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.cluster import Namespace, Thing, ready
from suite.processes import REPOSITORY, TOOLS, CommandError, eventually, run

VALUES = REPOSITORY / "tests" / "k8s" / "values"
PORT = 7600


@dataclass(frozen=True)
class Certificates:
    """Files for a client: the authority of the routers and, where one has to be shown, a certificate of its own."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


@dataclass
class Release:
    """A mesh that helm installs."""

    namespace: Namespace
    name: str
    # A folder or a package.
    chart: Path
    # Of every `helm install` and `upgrade`, besides what the step itself says.
    always: list[str] = field(default_factory=list)

    @property
    def fullname(self) -> str:
        """How the names of its objects begin."""
        return self.name if "consilium" in self.name else f"{self.name}-consilium"

    def install(self, *values: str, wait: bool = True) -> str:
        """`helm install` with these files of `values/`."""
        return self._helm("install", *self._given(values, wait=wait))

    def upgrade(self, *values: str, extra: Iterable[str] = (), wait: bool = True) -> str:
        """`helm upgrade` to the chart's own values and these files, whatever was before."""
        # Without a word about values helm would take those of the last revision.
        return self._helm("upgrade", "--reset-values", *self._given(values, wait=wait), *extra)

    def rollback(self, revision: int) -> str:
        """`helm rollback --wait`."""
        command = (
            "rollback",
            self.name,
            str(revision),
            "--namespace",
            self.namespace.name,
            "--wait",
            "--timeout",
            "5m",
        )
        return self.namespace.cluster.helm(*command)

    def revision(self) -> int:
        """Of what is installed now."""
        history = self.namespace.cluster.helm("history", self.name, "--namespace", self.namespace.name, "--output=json")
        return max(one["revision"] for one in json.loads(history))

    def test(self) -> str:
        """`helm test`, with what the tests said."""
        command = ("test", self.name, "--namespace", self.namespace.name, "--logs", "--timeout", "5m")
        return self.namespace.cluster.helm(*command)

    def uninstall(self) -> None:
        """`helm uninstall --wait`."""
        command = ("uninstall", self.name, "--namespace", self.namespace.name, "--wait", "--timeout", "5m")
        self.namespace.cluster.helm(*command)

    def _helm(self, verb: str, *arguments: str) -> str:
        return self.namespace.cluster.helm(
            verb, self.name, str(self.chart), "--namespace", self.namespace.name, *arguments
        )

    def _given(self, values: Iterable[str], *, wait: bool) -> list[str]:
        files = [part for name in values for part in ("--values", str(VALUES / f"{name}.yaml"))]
        return [*self.always, *files, *(("--wait", "--timeout", "5m") if wait else ())]

    # What it consists of.

    def pods(self, component: str | None = None, expert: str | None = None) -> list[Thing]:
        """Its pods, or those of a component (`router`, `expert`, `etcd`), or of an expert."""
        labels = [f"app.kubernetes.io/instance={self.name}", "app.kubernetes.io/component!=test"]
        labels += [f"app.kubernetes.io/component={component}"] if component else []
        labels += [f"consilium.dev/expert={expert}"] if expert else []
        return self.namespace.items("pods", "--selector", ",".join(labels))

    def ids(self, component: str | None = None, expert: str | None = None) -> dict[str, int]:
        """How often each pod that stays was restarted, by its uid: equal before and after, nobody was touched."""
        return {
            pod["metadata"]["uid"]: sum(one["restartCount"] for one in pod["status"].get("containerStatuses", []))
            for pod in self.pods(component, expert)
            if "deletionTimestamp" not in pod["metadata"]
        }

    def experts(self) -> list[str]:
        """The experts of which there are pods."""
        return sorted({pod["metadata"]["labels"]["consilium.dev/expert"] for pod in self.pods("expert")})

    def deployments(self) -> list[str]:
        """Their names."""
        found = self.namespace.items("deployments", "--selector", f"app.kubernetes.io/instance={self.name}")
        return sorted(one["metadata"]["name"] for one in found)

    def rolled_out(self, *deployments: str) -> None:
        """Waits until these, or all, are what they should be, and the pods from before are gone."""
        for name in deployments or self.deployments():
            self.namespace.kubectl("rollout", "status", f"deployment/{name}", "--timeout=5m", within=330)
        eventually(
            "no pod is on its way out",
            lambda: not [pod for pod in self.pods() if "deletionTimestamp" in pod["metadata"]],
            within=120,
        )

    def replicas(self, component: str, expert: str | None = None) -> int:
        """How many pods are ready and stay."""
        return len([pod for pod in self.pods(component, expert) if ready(pod)])

    # What it says.

    def ask(self, *arguments: str, at: str | None = None, certificates: Certificates | None = None) -> Any:
        """What `ask.py`, an application with our Python client, says of a question, or of `--experts`.

        Args:
            arguments: Of ask.py.
            at: `svc/NAME` or `pod/NAME` instead of the routers' Service.
            certificates: Of TLS.
        """
        secured = []
        if certificates is not None:
            # The address is a number, the certificate has names.
            secured = [
                "--ca",
                str(certificates.ca),
                "--server-name",
                f"{self.fullname}-router.{self.namespace.name}.svc",
            ]
            if certificates.certificate is not None:
                secured += ["--certificate", str(certificates.certificate), "--key", str(certificates.key)]
        program = [*self.namespace.cluster.enter, str(TOOLS / "clients/python/bin/python"), "tests/k8s/ask.py"]
        env = os.environ | {"PYTHONPATH": str(REPOSITORY / "clients" / "python" / "src")}
        with self.namespace.reach(at or f"svc/{self.fullname}-router", PORT) as address:
            return json.loads(run([*program, "--router", address, *secured, *arguments], env=env))

    def answered_by(self, question: str, expert: str, *, within: float) -> Any:
        """The first answer of this expert to this question."""

        def look() -> Any:
            said = self.ask(question)
            return said if said["expert"] == expert else None

        return eventually(f"{expert} answers", look, within=within)

    def serving(self, router: str) -> dict[str, set[str]]:
        """The instances that serve, by expert, as this router's pod sees them."""
        return {name: set(ids) for name, ids in self.ask("--experts", at=f"pod/{router}").items()}

    def registered(self) -> set[str]:
        """The pods that etcd has a registration of."""
        etcd = f"{self.fullname}-etcd-0"
        listed = ("etcdctl", "get", "--prefix", "--keys-only", "consilium/clinic/experts/")
        keys = self.namespace.kubectl("exec", etcd, "--", *listed).split()
        return {key.rsplit("/", 1)[-1] for key in keys}

    def everybody_is_known(self, *, within: float = 60) -> None:
        """Waits until etcd, and every router, list just the experts' pods that are there."""

        def look() -> bool:
            there = {pod["metadata"]["name"] for pod in self.pods("expert") if ready(pod)}
            if self.registered() != there:
                return False
            routers = [pod["metadata"]["name"] for pod in self.pods("router") if ready(pod)]
            return all(set().union(*self.serving(router).values()) == there for router in routers)

        eventually("etcd and all routers list just the pods that are there", look, within=within)

    def log(self, pod: str) -> str:
        """What a pod has said, in this life or, if that is over, in the one before."""
        try:
            return self.namespace.kubectl("logs", pod)
        except CommandError:
            return self.namespace.kubectl("logs", pod, "--previous")
