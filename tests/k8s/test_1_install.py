"""The mesh is installed, in a namespace that enforces `restricted`, and everything of it is well."""

from __future__ import annotations

import json

import pytest

from suite.cluster import ready
from suite.processes import CommandError
from suite.release import Release
from suite.table import Table

# Warnings that say nothing is wrong, by reason, with a piece of their message.
HARMLESS = {
    # The kubelet asks while the models are still loading; there is no other way for it to know when they are.
    ("Unhealthy", "Startup probe failed"),
    # A router lives before it is ready: it waits for etcd to know the mesh, and is not started again for that.
    ("Unhealthy", 'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")'),
}


def test_every_pod_is_ready_and_was_started_once(mesh: Release, table: Table) -> None:
    pods = mesh.pods()
    restarts = [one["restartCount"] for pod in pods for one in pod["status"]["containerStatuses"]]
    assert all(ready(pod) for pod in pods)
    assert restarts == [0] * len(pods)
    assert {len(mesh.pods(expert=name)) for name in mesh.experts()} == {2}
    table.note("restarts of the pods", f"0 of {len(pods)} pods")


def test_there_are_no_warnings(mesh: Release, table: Table) -> None:
    warnings = [
        (one["reason"], one["message"]) for one in mesh.namespace.items("events", "--field-selector=type=Warning")
    ]
    serious = [
        (reason, message)
        for reason, message in warnings
        if not any(reason == known and piece in message for known, piece in HARMLESS)
    ]
    assert not serious
    table.note("events that are warnings", f"0, besides {len(warnings)} of probes that came before a program was ready")


def test_the_namespace_refuses_what_is_not_restricted(mesh: Release, table: Table) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "careless"}}
    pod["spec"] = {"containers": [{"name": "careless", "image": "careless"}]}
    with pytest.raises(CommandError, match='violates PodSecurity "restricted'):
        mesh.namespace.kubectl("create", "--dry-run=server", "--filename", "-", stdin=json.dumps(pod))
    table.note("Pod Security `restricted`", "enforced: a careless pod is refused, all of the mesh are there")


def test_helm_test(mesh: Release, table: Table) -> None:
    with table.step("`helm test`"):
        said = mesh.test()
    assert "Phase:" in said
    assert "Failed" not in said


def test_everybody_has_registered(mesh: Release) -> None:
    mesh.everybody_is_known()
