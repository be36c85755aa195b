"""Pods are lost while the mesh is asked: told to go, deleted without a word, killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from conftest import UnderLoad
from suite.processes import eventually
from suite.release import Release, ready

EXPERT = "drug-interactions"


@pytest.mark.parametrize(("component", "expert"), [("expert", EXPERT), ("router", None), ("etcd", None)])
def test_a_pod_is_deleted(mesh: Release, under_load: UnderLoad, component: str, expert: str | None) -> None:
    with under_load(f"`kubectl delete pod` of {_called(component, expert)}") as row:
        gone = _some(mesh, component, expert)
        begun = time.monotonic()
        mesh.namespace.kubectl("delete", "pod", gone)
        row.saw(f"gone after {time.monotonic() - begun:.1f} s")
        _all_back(mesh, component, expert)
        row.saw(f"replaced and ready after {time.monotonic() - begun:.1f} s")
        mesh.everybody_is_known()
        row.saw(f"everybody listed in etcd and by all routers after {time.monotonic() - begun:.1f} s")


@pytest.mark.parametrize(("component", "expert"), [("expert", EXPERT), ("router", None)])
def test_a_pod_is_deleted_without_grace(
    mesh: Release, under_load: UnderLoad, component: str, expert: str | None
) -> None:
    with under_load(f"`kubectl delete pod --grace-period=0 --force` of {_called(component, expert)}") as row:
        begun = time.monotonic()
        mesh.namespace.kubectl("delete", "pod", _some(mesh, component, expert), "--grace-period=0", "--force")
        _all_back(mesh, component, expert)
        row.saw(f"replaced and ready after {time.monotonic() - begun:.1f} s")
        mesh.everybody_is_known()


@pytest.mark.parametrize(("component", "expert"), [("expert", EXPERT), ("router", None)])
def test_a_process_is_killed(mesh: Release, under_load: UnderLoad, component: str, expert: str | None) -> None:
    if not mesh.namespace.cluster.own:
        pytest.skip("the processes of this cluster are not on this machine")
    with under_load(f"`kill -9` of the process of {_called(component, expert)}") as row:
        pod = mesh.namespace.one("pod", _some(mesh, component, expert))
        begun = time.monotonic()
        os.kill(_process(pod["metadata"]["uid"], f"consilium-{component}"), signal.SIGKILL)
        uid = pod["metadata"]["uid"]
        eventually("its container was started again", lambda: mesh.ids(component, expert)[uid] == 1, within=60)
        _all_back(mesh, component, expert)
        row.saw(f"restarted and ready after {time.monotonic() - begun:.1f} s")
        mesh.everybody_is_known()


def test_nobody_is_replaced_by_instances_that_no_router_knows(mesh: Release, under_load: UnderLoad) -> None:
    deployment, etcd = f"deployment/{mesh.fullname}-{EXPERT}", f"statefulset/{mesh.fullname}-etcd"
    with under_load(f"rollout of {EXPERT} while etcd is away") as row:
        old = mesh.ids("expert", EXPERT)
        mesh.namespace.kubectl("scale", etcd, "--replicas=0")
        eventually("etcd is gone", lambda: not mesh.pods("etcd"), within=60)
        mesh.namespace.kubectl("rollout", "restart", deployment)
        newcomer = eventually("a new pod has loaded its models", lambda: _newcomer(mesh, old.keys()), within=120)
        assert old.keys() <= mesh.ids("expert", EXPERT).keys(), "an old pod was taken away"
        row.saw(f"{newcomer} answers and waits; the old pods stay")
        mesh.namespace.kubectl("scale", etcd, "--replicas=1")
        mesh.rolled_out()
        mesh.everybody_is_known()
        row.saw("replaced when etcd is back")
    assert not old.keys() & mesh.ids("expert", EXPERT).keys()


def _newcomer(mesh: Release, old: Collection[str]) -> str | None:
    """A pod that is not of the old ones and says that it answers, and is not ready all the same."""
    for pod in mesh.pods("expert", EXPERT):
        name = pod["metadata"]["name"]
        if pod["metadata"]["uid"] not in old and "in service" in mesh.namespace.kubectl("logs", name):
            assert not ready(pod), f"{name} is ready, and etcd has not heard of it"
            return name
    return None


def _called(component: str, expert: str | None) -> str:
    return {"expert": f"an expert ({expert})", "router": "a router", "etcd": "etcd"}[component]


def _some(mesh: Release, component: str, expert: str | None) -> str:
    return mesh.pods(component, expert)[0]["metadata"]["name"]


def _all_back(mesh: Release, component: str, expert: str | None) -> None:
    wanted = 1 if component == "etcd" else 2
    eventually(
        f"there are {wanted} again",
        lambda: mesh.replicas(component, expert) == wanted and len(mesh.pods(component, expert)) == wanted,
        within=120,
    )


def _process(uid: str, program: str) -> int:
    """The process of this program in the pod with this uid, as the machine counts."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = process.joinpath("cmdline").read_text().split("\0")[0]
            if command.endswith(program) and uid in process.joinpath("cgroup").read_text().replace("_", "-"):
                return int(process.name)
        except OSError:  # It has ended.
            continue
    raise AssertionError(f"{program} of pod {uid} is no process of this machine")
