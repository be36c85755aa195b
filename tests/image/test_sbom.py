"""The bills of materials: valid, complete for what scanners look for, and the same for the same image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import crates
from archives import Archive
from layout import MODELS, PROGRAMS


@pytest.fixture(params=tuple(PROGRAMS))
def bill(request: pytest.FixtureRequest, out: Path) -> dict[str, Any]:
    return json.loads((out / f"{request.param}.cdx.json").read_text(encoding="utf-8"))


def test_the_schema_of_cyclonedx_holds(bill: dict[str, Any]) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None


def test_the_bill_in_the_image_is_the_one_beside_it(image: Archive) -> None:
    inside = image.read("usr/share/doc/consilium/sbom.cdx.json")
    assert inside == image.path.with_suffix(".cdx.json").read_bytes()


def test_everything_that_an_image_is_made_of_is_on_it(bill: dict[str, Any]) -> None:
    components = {component["name"]: component for component in bill["components"]}
    assert components["tokio"]["purl"].startswith("pkg:cargo/tokio@1.")
    assert components["onnxruntime"]["purl"].startswith("pkg:pypi/onnxruntime@")
    assert components["libc6"]["purl"].startswith("pkg:deb/debian/libc6@2.36-9")
    for model in MODELS:
        assert components[model]["type"] == "machine-learning-model"
        assert components[model]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    without = [component["name"] for component in bill["components"] if not component.get("licenses")]
    assert without == []


def test_what_only_builds_or_tests_is_not_on_it(bill: dict[str, Any]) -> None:
    names = {component["name"] for component in bill["components"]}
    assert not names & {"proptest", "tonic-build", "protox", "syn", "serde_derive", "libtest-mimic", "consilium-tests"}


def test_only_what_a_program_is_linked_from_is_on_its_bill(out: Path) -> None:
    names = {
        name: {component["name"] for component in json.loads((out / f"{name}.cdx.json").read_text())["components"]}
        for name in PROGRAMS
    }
    assert "consilium-gate" in names["router"]
    assert "consilium-gate" not in names["expert"]
    assert "clap" in names["cli"]
    assert "indicatif" not in names["expert"] | names["router"]


def test_every_reference_leads_to_a_component(bill: dict[str, Any]) -> None:
    references = {component["bom-ref"] for component in (*bill["components"], bill["metadata"]["component"])}
    assert len(references) == len(bill["components"]) + 1
    named = {needed for one in bill["dependencies"] for needed in (one["ref"], *one.get("dependsOn", ()))}
    assert named <= references
    image = next(one for one in bill["dependencies"] if one["ref"] == bill["metadata"]["component"]["bom-ref"])
    reached, open_references = set(), [image["ref"]]
    needs = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    while open_references:
        reference = open_references.pop()
        if reference not in reached:
            reached.add(reference)
            open_references += needs.get(reference, [])
    assert reached == references


def test_licence_texts_are_told_once_with_all_who_have_them(tmp_path: Path) -> None:
    def crate(name: str, text: str | None, sha256: str | None = "00") -> crates.Crate:
        folder = tmp_path / name
        folder.mkdir()
        if text:
            (folder / "LICENSE-MIT").write_text(text, encoding="utf-8")
        return crates.Crate(name, name, "1", "MIT", sha256, "", folder, ())

    told = crates.notices(
        [crate("b", "be kind"), crate("a", "be kind\n"), crate("silent", None), crate("ours", "be ours", None)]
    )
    assert told.count("be kind") == 1
    assert "a 1, b 1" in told
    assert "silent 1" in told
    assert "be ours" not in told
