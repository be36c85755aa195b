"""Objects out of what Helm rendered, and what tests want to know of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

Json = dict[str, Any]

# What has pods, by the way to their template.
POD_TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "Pod": (),
}


class _Loader(yaml.CSafeLoader):
    """Of two equal keys YAML takes the second in silence; to Kubernetes it is an error."""


def _mapping(loader: yaml.CSafeLoader, node: yaml.MappingNode) -> Json:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"{sorted(twice)} twice at {node.start_mark}")
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


class Objects:
    """The objects of a render, found by kind and name."""

    def __init__(self, rendered: Mapping[str, str]) -> None:
        self.all: list[Json] = []
        for path, text in rendered.items():
            if path.endswith("NOTES.txt"):
                continue
            try:
                self.all += [it for it in yaml.load_all(text, Loader=_Loader) if it]
            except yaml.YAMLError as error:
                raise AssertionError(f"{path} is no YAML: {error}\n{text}") from error
        self.notes = next((text for path, text in rendered.items() if path.endswith("NOTES.txt")), "")

    def by_key(self) -> dict[tuple[str, str], Json]:
        """Each object by kind and name."""
        keys = [key(it) for it in self.all]
        twice = sorted({it for it in keys if keys.count(it) > 1})
        assert not twice, f"more than one {twice}"
        return dict(zip(keys, self.all, strict=True))

    def of(self, kind: str) -> list[Json]:
        """Those of a kind."""
        return [it for it in self.all if it["kind"] == kind]

    def get(self, kind: str, name: str) -> Json:
        """The one of that kind and name."""
        found = [it for it in self.of(kind) if it["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} of {kind} {name}; there are {sorted(map(key, self.all))}"
        return found[0]

    def has(self, kind: str, name: str) -> bool:
        """Whether there is one."""
        return any(key(it) == (kind, name) for it in self.all)

    def pods(self) -> Iterator[tuple[str, Json]]:
        """Every pod, or template of pods, as `Kind/name` with `metadata` and `spec`."""
        for it in self.all:
            if it["kind"] in POD_TEMPLATES:
                yield "/".join(key(it)), pod(it)


def key(it: Json) -> tuple[str, str]:
    """Kind and name."""
    return it["kind"], it["metadata"]["name"]


def pod(it: Json) -> Json:
    """The template of the pods of an object, or the pod that it is."""
    for step in POD_TEMPLATES[it["kind"]]:
        it = it[step]
    return it


def containers(template: Json) -> list[Json]:
    """All of a pod's containers, those that run first included."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def container(template: Json, name: str) -> Json:
    """The one of that name."""
    return next(it for it in containers(template) if it["name"] == name)


def env(of: Json) -> dict[str, Any]:
    """A container's variables by name: the text, or where it comes from."""
    return {it["name"]: it.get("value", it.get("valueFrom")) for it in of.get("env", [])}


def file(it: Json, name: str) -> Any:
    """A file of YAML in a ConfigMap."""
    return yaml.load(it["data"][name], Loader=_Loader)


def seconds(duration: str) -> int:
    """Of a duration such as `1m 30s`, rounded up."""
    units = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
    found = re.findall(r"([0-9]+) ?(ms|s|m|h)", duration)
    return -(-sum(int(number) * units[unit] for number, unit in found) // 1_000)


def selects(labels: Json, of: Json) -> bool:
    """Whether `matchLabels` fit an object."""
    have = of["metadata"].get("labels", {})
    return all(have.get(name) == value for name, value in labels.items())
