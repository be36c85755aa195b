"""The mesh is asked through its Service: by our Python client, and by a program that knows nothing of us."""

from __future__ import annotations

import json

from suite.processes import TOOLS, run
from suite.release import PORT, Release
from suite.table import Table

QUESTION = "Can my patient take ibuprofen with warfarin?"


def test_the_python_client_is_answered(mesh: Release, table: Table) -> None:
    with table.step("a question from the Python client, through the Service") as row:
        said = mesh.ask(QUESTION)
        row.saw(f"{said['expert']}, passage {said['passages'][0]}")
    assert said["outcome"] == "OUTCOME_DISPATCHED"
    assert said["expert"] == "drug-interactions"
    assert said["passages"][0] == "di-001"


def test_the_python_client_is_answered_in_pieces(mesh: Release, table: Table) -> None:
    with table.step("the same as a stream") as row:
        said = mesh.ask("--stream", QUESTION)
        row.saw(", ".join(said["events"]))
    assert said["expert"] == "drug-interactions"
    assert said["events"][0] == "decision"
    assert said["events"][-1] == "done"


def test_what_nobody_knows_is_refused(mesh: Release) -> None:
    said = mesh.ask("What is the best recipe for sourdough bread?")
    assert said == {"outcome": "OUTCOME_REFUSED", "expert": None, "passages": []}


def test_a_stock_client_lists_the_experts(mesh: Release, table: Table) -> None:
    grpcurl = [*mesh.namespace.cluster.enter, str(TOOLS / "bin" / "grpcurl"), "-plaintext"]
    contract = ["-import-path", "proto", "-proto", "consilium/v1/catalog.proto"]
    with (
        table.step("`grpcurl`, through the Service: the experts") as row,
        mesh.namespace.reach(f"svc/{mesh.fullname}-router", PORT) as address,
    ):
        said = json.loads(run([*grpcurl, *contract, address, "consilium.v1.CatalogService/ListExperts"]))
        experts = {one["name"]: len(one["instances"]) for one in said["catalog"]["experts"]}
        row.saw(", ".join(f"{name} × {count}" for name, count in experts.items()))
    assert experts == dict.fromkeys(mesh.experts(), 2)


def test_its_health_is_known_to_any_client(mesh: Release) -> None:
    assert mesh.ask("--health") == 1


def test_every_router_knows_everybody(mesh: Release) -> None:
    there = {pod["metadata"]["name"] for pod in mesh.pods("expert")}
    for router in mesh.pods("router"):
        assert set().union(*mesh.serving(router["metadata"]["name"]).values()) == there
