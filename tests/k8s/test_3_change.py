"""The mesh is changed while it is asked: experts come, are changed, scaled and restarted. No question may notice."""

from __future__ import annotations

import time

from conftest import UnderLoad
from suite.processes import eventually
from suite.release import Release

BILLING = "What is the difference between a deductible and a copayment?"


def test_an_expert_is_added(mesh: Release, under_load: UnderLoad) -> None:
    before = mesh.ids()
    with under_load("`helm upgrade` that adds an expert") as row:
        begun = time.monotonic()
        mesh.upgrade("added")
        upgraded = time.monotonic()
        mesh.answered_by(BILLING, "billing", within=30)
        row.seconds = upgraded - begun
        row.saw(f"answers {time.monotonic() - upgraded:.1f} s after the upgrade was done")
    assert before.items() <= mesh.ids().items(), "pods that had nothing to do with it were replaced"
    assert mesh.replicas("expert", "billing") == 2


def test_an_expert_learns(mesh: Release, under_load: UnderLoad) -> None:
    mesh.upgrade("added")
    before = mesh.ids()
    knows(mesh, ["bi-001"], within=30)
    with under_load("`helm upgrade` that changes what one expert knows") as row:
        begun = time.monotonic()
        mesh.upgrade("added", "learnt")
        row.seconds = time.monotonic() - begun
        # The kubelet looks for new content about once a minute.
        knows(mesh, ["bi-101"], within=180)
        row.saw(f"all instances know it {time.monotonic() - begun:.0f} s after the command; no pod replaced")
    assert mesh.ids() == before


def test_one_expert_is_changed(mesh: Release, under_load: UnderLoad) -> None:
    mesh.upgrade("added")
    knows(mesh, ["bi-001"], within=180)
    before, old = mesh.ids(), mesh.ids("expert", "billing")
    revision = mesh.revision()

    with under_load("`helm upgrade` that changes one expert's settings") as row:
        begun = time.monotonic()
        mesh.upgrade("added", "changed")
        row.seconds = time.monotonic() - begun
        mesh.rolled_out()
        assert len(mesh.answered_by(BILLING, "billing", within=30)["passages"]) == 2
    after = mesh.ids()
    assert not old.keys() & after.keys(), "the expert that was changed was not replaced"
    others = before.items() - old.items()
    assert others <= after.items(), "pods that had nothing to do with it were replaced"
    row.saw(f"{len(old)} pods of that expert replaced, {len(others)} others not touched")

    with under_load("`helm rollback` to before") as row:
        begun = time.monotonic()
        mesh.rollback(revision)
        row.seconds = time.monotonic() - begun
        mesh.rolled_out()
        assert mesh.answered_by(BILLING, "billing", within=30)["passages"] == ["bi-001"]
        row.saw("the old version answers again")
    assert others <= mesh.ids().items()


def test_every_deployment_is_restarted(mesh: Release, under_load: UnderLoad) -> None:
    before = mesh.ids("router") | mesh.ids("expert")
    deployments = mesh.deployments()
    with under_load("`kubectl rollout restart` of every Deployment at once") as row:
        mesh.namespace.kubectl("rollout", "restart", *(f"deployment/{name}" for name in deployments))
        mesh.rolled_out()
        row.saw(f"{len(deployments)} Deployments, {len(before)} pods replaced")
    assert not before.keys() & (mesh.ids("router") | mesh.ids("expert")).keys()
    mesh.everybody_is_known()


def test_the_routers_are_restarted_alone(mesh: Release, under_load: UnderLoad) -> None:
    before = mesh.ids("router")
    with under_load("`kubectl rollout restart` of the routers") as row:
        mesh.namespace.kubectl("rollout", "restart", f"deployment/{mesh.fullname}-router")
        mesh.rolled_out()
        row.saw(f"{len(before)} pods replaced")
    assert not before.keys() & mesh.ids("router").keys()


def test_an_expert_is_scaled(mesh: Release, under_load: UnderLoad) -> None:
    expert = "drug-interactions"
    with under_load(f"scaling {expert}: 2 → 4 → 1") as row:
        for replicas in (4, 1):
            mesh.upgrade(extra=["--set", f"experts.{expert}.replicas={replicas}"])
            mesh.rolled_out(f"{mesh.fullname}-{expert}")
            assert mesh.replicas("expert", expert) == replicas
            eventually(
                "all of them, and no others, are listed", lambda n=replicas: _listed(mesh, expert) == {n}, within=30
            )
            row.saw(f"{replicas} listed by all routers")
    mesh.upgrade()


def _listed(mesh: Release, expert: str) -> set[int]:
    return {len(mesh.serving(pod["metadata"]["name"])[expert]) for pod in mesh.pods("router")}


def knows(mesh: Release, passages: list[str], *, within: float) -> None:
    """Waits until every instance of the added expert seems to know these: ten answers in a row come from just them."""

    def look() -> bool:
        return all(mesh.answered_by(BILLING, "billing", within=30)["passages"] == passages for _ in range(10))

    eventually(f"{passages} are known", look, within=within)
