"""Programs: router and expert take the files, variables and arguments that a pod has."""

from __future__ import annotations

import base64
import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Render, ci_values
from helms import ROOT, Library
from objects import Json, Objects, container, env, file, key, pod

PROGRAMS = {"router": ROOT / "target/debug/consilium-router", "expert": ROOT / "target/debug/consilium-expert"}
MODELS = ROOT / "models/build"

# What Kubernetes would put in, by what it is asked for.
FIELDS = {
    "status.podIP": "10.1.2.3",
    "metadata.name": "pod-0",
    # Some clouds count their zones; a setting that is a text has to stay one.
    "metadata.labels['topology.kubernetes.io/zone']": "1",
}


def settings(objects: Objects, deployment: str, folder: Path) -> Json:
    """What the program of a Deployment says it would run with. Its volumes are put below `folder`."""
    template = pod(objects.get("Deployment", deployment))
    (main,) = [it for it in template["spec"]["containers"] if it["name"] in PROGRAMS]
    put_volumes(objects, template, main, folder)

    variables: dict[str, str] = {}

    def here(text: str) -> str:
        """With what a pod puts in for variables, and its places below the folder."""
        mounts = [it["mountPath"] for it in main["volumeMounts"] if text.startswith(it["mountPath"])]
        # What is no variable of before stays as it is written, and the program says so.
        text = re.sub(r"\$\((\w+)\)", lambda it: variables.get(it[1], it[0]), text)
        return f"{folder}{text}" if mounts else text

    for name, it in env(main).items():
        variables[name] = FIELDS[it["fieldRef"]["fieldPath"]] if isinstance(it, dict) else here(it)
    # In a pod they are in the image or in a volume, here where they were built.
    variables["CONSILIUM_MODELS"] = str(MODELS)
    command = [str(PROGRAMS[main["name"]]), *map(here, main["args"]), "--print-config"]
    said = subprocess.run(command, capture_output=True, check=False, encoding="utf-8", env=variables)
    assert said.returncode == 0, said.stderr
    return yaml.safe_load(said.stdout)


def put_volumes(objects: Objects, template: Json, main: Json, folder: Path) -> None:
    """A container's volumes, as the kubelet would make them."""
    volumes = {it["name"]: it for it in template["spec"]["volumes"]}
    for mount in main["volumeMounts"]:
        at = Path(f"{folder}{mount['mountPath']}")
        at.mkdir(parents=True, exist_ok=True)
        for source in volumes[mount["name"]].get("projected", {}).get("sources", []):
            for name, content, mode in files(objects, source):
                (at / name).parent.mkdir(parents=True, exist_ok=True)
                (at / name).write_bytes(content)
                # A router refuses a key that others can read.
                (at / name).chmod(mode)


def files(objects: Objects, source: Json) -> Iterator[tuple[str, bytes, int]]:
    """What a ConfigMap or a Secret gives a volume: path, content and mode."""
    if "configMap" in source:
        for name, text in objects.get("ConfigMap", source["configMap"]["name"])["data"].items():
            yield name, text.encode(), 0o444
        return
    name = source["secret"]["name"]
    # A Secret that others make has the same keys as ours.
    whose = objects if objects.has("Secret", name) else secrets()
    ours = name if whose is objects else "consilium-feedback" if name == "feedback" else "consilium-router-tls"
    data = whose.get("Secret", ours)["data"]
    for it in source["secret"]["items"]:
        yield it["path"], base64.b64decode(data[it["key"]]), it["mode"]


@functools.cache
def secrets() -> Objects:
    """Objects with Secrets of every kind."""
    return Objects(Library().render(ci_values("tls-self-signed")))


def test_a_router_takes_what_its_pod_has(case: str, rendered: Objects, tmp_path: Path) -> None:
    del case
    found = settings(rendered, "consilium-router", tmp_path)
    said = file(rendered.get("ConfigMap", "consilium-router"), "mesh.yaml")
    assert found["name"] == said["name"]
    assert found["listen"].endswith(":7600")
    assert found["admin"].endswith(":7601")
    assert found["registry"]["etcd"]["endpoints"] == said["registry"]["etcd"]["endpoints"]
    assert found["registry"]["table"] == "/var/lib/consilium/registry.table"
    assert found["models"] == str(MODELS)
    assert ("tls" in said) == bool(found.get("tls"))


def test_every_expert_takes_what_its_pod_has(case: str, rendered: Objects, tmp_path: Path) -> None:
    del case
    mesh = file(rendered.get("ConfigMap", "consilium-router"), "mesh.yaml")
    experts = [it for it in rendered.of("Deployment") if it["metadata"]["name"] != "consilium-router"]
    assert experts
    for it in experts:
        found = settings(rendered, it["metadata"]["name"], tmp_path / it["metadata"]["name"])
        said = file(rendered.get("ConfigMap", it["metadata"]["name"]), "instance.yaml")
        assert found["mesh"] == mesh["name"], key(it)
        assert found["registry"]["etcd"]["endpoints"] == mesh["registry"]["etcd"]["endpoints"]
        assert found["track"] == said["track"]
        if "--zone" not in pod(it)["spec"]["containers"][0]["args"]:
            assert (found["instance"], found["zone"]) == ("pod-0", "1"), key(it)
        assert found["announce"].startswith("10.1.2.3"), key(it)
        assert ("tls" in said) == bool(found.get("tls"))


@pytest.mark.parametrize(
    "values",
    [
        {"mesh": {"fallbak": "general"}},
        {"mesh": {"gate": {"topk": 1}}},
        {"router": {"extraArgs": ["--no-such-flag"]}},
        {"router": {"extraEnv": [{"name": "CONSILIUM_NO_SUCH_KEY", "value": "1"}]}},
    ],
    ids=str,
)
def test_a_router_says_what_it_does_not_know(render: Render, values: dict[str, Any], tmp_path: Path) -> None:
    """Otherwise the tests above would pass whatever a pod has."""
    with pytest.raises(AssertionError, match=r"fallbak|topk|no-such-flag|no_such_key|NO_SUCH_KEY"):
        settings(render(values), "consilium-router", tmp_path)


def test_an_expert_says_what_it_does_not_know(render: Render, tmp_path: Path) -> None:
    for number, values in enumerate([{"settings": {"summry": "a"}}, {"extraArgs": ["--no-such-flag"]}]):
        with pytest.raises(AssertionError, match=r"summry|no-such-flag"):
            settings(render({"experts": {"general": values}}), "consilium-general", tmp_path / str(number))


def test_the_journal_of_each_router_has_its_own_file(render: Render, tmp_path: Path) -> None:
    values = {"router": {"feedback": {"journalClaim": "journals"}}}
    objects = render(values)
    found = settings(objects, "consilium-router", tmp_path)
    assert found["feedback"]["journal"].endswith("/var/lib/consilium-journal/pod-0.jsonl")
    template = pod(objects.get("Deployment", "consilium-router"))
    mounts = {it["mountPath"]: it["name"] for it in container(template, "router")["volumeMounts"]}
    volumes = {it["name"]: it for it in template["spec"]["volumes"]}
    assert volumes[mounts["/var/lib/consilium-journal"]]["persistentVolumeClaim"]["claimName"] == "journals"


def test_traces_are_those_of_values(render: Render, tmp_path: Path) -> None:
    objects = render(ci_values("monitoring"))
    found = settings(objects, "consilium-router", tmp_path / "router")["traces"]
    assert found == {"endpoint": "http://otel-collector.monitoring:4317", "ratio": 0.1, "callers": "linked"}
    found = settings(objects, "consilium-general", tmp_path / "general")
    assert found["traces"]["endpoint"] == "http://otel-collector.monitoring:4317"
