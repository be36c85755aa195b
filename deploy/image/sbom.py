"""The bill of materials of an image, in CycloneDX: crates, Debian's packages, ONNX Runtime, models; with licences.

The same image has the same bill: no time, and a serial number that is made of what is in it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from crates import Crate
from layout import MODELS, Program, version
from rootfs import Package

_LICENCES = LicenseFactory()


@dataclass(frozen=True)
class Parts:
    """What an image is made of. `crates` has the program's own as the first; `models` is the folder of built models."""

    crates: Sequence[Crate]
    packages: Sequence[Package]
    onnxruntime: Component
    models: Path


def bill(program: Program, parts: Parts) -> str:
    """The document, as JSON."""
    crates = {crate.id: _crate(crate) for crate in parts.crates}
    others = [*map(_package, parts.packages), parts.onnxruntime, *(_model(parts.models / name) for name in MODELS)]
    image = _component(
        ComponentType.CONTAINER, f"consilium-{program.name}", version(), "Apache-2.0", description=program.description
    )
    bom = Bom(components=[*crates.values(), *others], metadata=BomMetaData(component=image))
    bom.register_dependency(image, [crates[parts.crates[0].id], *others])
    for crate in parts.crates:
        bom.register_dependency(crates[crate.id], [crates[needed] for needed in crate.needs])
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"], document["serialNumber"]
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def onnxruntime(release: str, sha256: str) -> Component:
    """The library of that release's wheel; the hash is the library's."""
    return _component(
        ComponentType.LIBRARY,
        "onnxruntime",
        release,
        "MIT",
        purl=PackageURL("pypi", name="onnxruntime", version=release),
        hashes=_sha256(sha256),
    )


def _crate(crate: Crate) -> Component:
    # Before SPDX had expressions, crates wrote a slash for OR.
    return _component(
        ComponentType.LIBRARY,
        crate.name,
        crate.version,
        " ".join(crate.licence.replace("/", " OR ").split()),
        purl=PackageURL("cargo", name=crate.name, version=crate.version),
        description=crate.description,
        hashes=_sha256(crate.sha256),
    )


def _package(package: Package) -> Component:
    qualifiers = {"arch": package.architecture, "distro": "debian-12"}
    return _component(
        ComponentType.LIBRARY,
        package.name,
        package.version,
        package.licence,
        purl=PackageURL("deb", "debian", package.name, package.version, qualifiers),
    )


def _model(folder: Path) -> Component:
    told = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    model = next(file for file in told["files"] if file["path"] == told["model"])
    return _component(
        ComponentType.MACHINE_LEARNING_MODEL,
        told["name"],
        told["version"],
        told["licence"],
        description=told["source"],
        hashes=_sha256(model["sha256"]),
    )


def _component(kind: ComponentType, name: str, release: str, licence: str, **more: object) -> Component:
    reference = f"{kind.value}:{name}@{release}"
    licences = [_LICENCES.make_from_string(licence)]
    return Component(type=kind, name=name, version=release, bom_ref=reference, licenses=licences, **more)  # type: ignore[arg-type]


def _sha256(digest: str | None) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=digest)] if digest else []
