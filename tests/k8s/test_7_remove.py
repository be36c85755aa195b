"""The mesh is removed, and nothing is left of it."""

from __future__ import annotations

from suite.processes import eventually
from suite.release import Release
from suite.table import Table


def test_nothing_is_left(mesh: Release, table: Table) -> None:
    assert mesh.namespace.everything(), "there was something to remove"
    with table.step("`helm uninstall --wait`") as row:
        mesh.uninstall()
        kinds = len(
            mesh.namespace.cluster.kubectl("api-resources", "--verbs=list", "--namespaced", "--output=name").split()
        )
        # Slices and pods go with their owners, which the cluster's garbage collector sees to in its own time.
        eventually("nothing is left", lambda: not mesh.namespace.everything(), within=120)
        row.saw(f"nothing left of {kinds} kinds of objects")
    table.note("NetworkPolicy", "not tested here: the bridge that joins the pods does not enforce any")
