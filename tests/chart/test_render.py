"""Renders: the same by each Helm, and objects that Kubernetes takes."""

from __future__ import annotations

import re

import pytest

import strict
from conftest import Render, ci_values
from golden import same_each_time
from helms import Helm
from objects import Json, Objects, key


def test_each_helm_renders_the_same_objects(helm: Helm, case: str, rendered: Objects) -> None:
    of_this = Objects(helm.render(ci_values(case))).by_key()
    of_helm_4 = rendered.by_key()
    assert sorted(of_this) == sorted(of_helm_4)
    for name, it in of_this.items():
        assert same_each_time(it) == same_each_time(of_helm_4[name]), name


@pytest.mark.parametrize("version", strict.VERSIONS)
def test_every_object_is_one_of_kubernetes(version: str, rendered: Objects) -> None:
    found = {"/".join(key(it)): strict.mistakes(it, version) for it in rendered.all}
    assert {name: mistakes for name, mistakes in found.items() if mistakes} == {}
    assert found


@pytest.mark.parametrize("version", strict.VERSIONS)
def test_a_field_that_does_not_exist_is_seen(version: str) -> None:
    good = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}]}}
    assert strict.mistakes(good, version) == []
    bad = {**good, "spec": {"prots": []}}
    assert "prots" in strict.mistakes(bad, version)[0]
    assert strict.mistakes({**good, "apiVersion": "example.org/v1"}, version)
    rules = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {}, "spec": {"group": []}}
    assert strict.mistakes(rules, version)


def test_objects_have_different_names_that_are_short_enough(rendered: Objects) -> None:
    for kind, name in rendered.by_key():
        assert len(name) <= 63, (kind, name)
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name), (kind, name)


def test_every_protocol_is_written(rendered: Objects) -> None:
    """Server-side apply knows a port by its number and protocol, also where the latter is left out."""
    for it in rendered.of("Service"):
        assert all(port["protocol"] == "TCP" for port in it["spec"]["ports"]), key(it)
    for it in rendered.of("NetworkPolicy"):
        ports = [port for rule in it["spec"].get("ingress", []) for port in rule.get("ports", [])]
        assert all(port["protocol"] == "TCP" for port in ports), key(it)
    for name, pod in rendered.pods():
        ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
        assert all(port["protocol"] == "TCP" for port in ports), name


def test_notes_say_what_to_do_next(case: str, rendered: Objects) -> None:
    del case
    assert "helm test" in rendered.notes
    assert "<no value>" not in rendered.notes
    assert "%!" not in rendered.notes


DIGEST = "sha256:" + "b" * 64
SELF_SIGNED = {"enabled": True, "selfSigned": {"enabled": True}}


# A note, with values that it does not belong to. It belongs to the defaults.
@pytest.mark.parametrize(
    ("note", "values"),
    [
        ("images have no registry", {"image": {"registry": "registry.example"}}),
        ("images have no registry", {"router": {"image": {"registry": "registry.example"}}}),
        ("images have no registry", {"router": {"image": {"digest": DIGEST}}}),
        ("without TLS everybody", {"tls": SELF_SIGNED}),
        ("enforces NetworkPolicies", {"tls": SELF_SIGNED}),
        ("enforces NetworkPolicies", {"networkPolicy": {"enabled": False}}),
        ("enforces NetworkPolicies", {"etcd": {"enabled": False}, "externalEtcd": {"endpoints": ["http://a:1"]}}),
        ("etcd keeps nothing", {"etcd": {"persistence": {"enabled": True}}}),
        ("router.feedback.existingSecret", {"router": {"feedback": {"existingSecret": "theirs"}}}),
        ("router.feedback.existingSecret", {"router": {"replicas": 1}}),
        ("router.feedback.existingSecret", {"mesh": {"feedback": {"metrics": None}}}),
    ],
    ids=str,
)
def test_notes_warn_of_what_is_so_and_of_nothing_else(render: Render, note: str, values: Json) -> None:
    assert note in render().notes
    assert note not in render(values).notes


def test_nothing_is_left_unsaid(rendered: Objects) -> None:
    """What a template prints of a value that is not there, or of a number that it took for a text."""
    for it in rendered.all:
        assert not re.search(r"<no value>|<nil>|%!|map\[|\de\+\d", str(_without_files(it))), key(it)


def _without_files(it: dict) -> dict:
    return {**it, "data": {}} if it["kind"] == "ConfigMap" and "dashboard" in it["metadata"]["name"] else it
