"""Experts: a map over defaults. One more, one less or a change of one touches nobody else."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from conftest import Render, ci_values
from golden import same_each_time
from helms import ROOT
from objects import Json, Objects, container, file, key, pod

NEW: Json = {
    "settings": {
        "version": "1",
        "summary": "Knows about eyes.",
        "examples": "examples.txt",
        "task": {"kind": "classify", "model": "clinic-diagnostic"},
        "slo": {"latency": "100ms", "objective": 0.9},
    },
    "files": {"examples.txt": "Why do my eyes hurt?\n"},
}

CLINIC = ["care-coordination", "clinical-documentation", "diagnostic-reasoning", "drug-interactions", "general"]

WATCHED = {"metrics": {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}}


def same(objects: Objects) -> dict[tuple[str, str], Any]:
    """The objects without what is new in each render; checksums are kept."""
    found = {}
    for name, it in objects.by_key().items():
        found[name] = same_each_time(it)
        if it["kind"] in ("Deployment", "StatefulSet"):
            found[name]["spec"]["template"] = copy.deepcopy(pod(it))
    return found


def of_expert(objects: Objects, name: str) -> set[tuple[str, str]]:
    """The objects that carry the expert's label."""
    return {key(it) for it in objects.all if it["metadata"]["labels"].get("consilium.dev/expert") == name}


def test_an_expert_is_its_defaults_and_what_differs(render: Render) -> None:
    objects = render(
        {
            "expertDefaults": {"replicas": 4, "resources": {"limits": {"memory": "3Gi"}}, "logLevel": "warn"},
            "experts": {"general": {"replicas": 1, "resources": {"limits": {"cpu": "4"}}}},
        }
    )
    general = objects.get("Deployment", "consilium-general")
    assert general["spec"]["replicas"] == 1
    assert container(pod(general), "expert")["resources"] == {
        "requests": {"cpu": "100m", "memory": "384Mi"},
        "limits": {"cpu": "4", "memory": "3Gi"},
    }
    other = objects.get("Deployment", "consilium-care-coordination")
    assert other["spec"]["replicas"] == 4
    assert container(pod(other), "expert")["resources"]["limits"] == {"cpu": "2", "memory": "3Gi"}


def test_settings_are_merged_over_the_example(render: Render) -> None:
    objects = render({"experts": {"general": {"settings": {"slo": {"latency": "300ms"}, "task": {"top": 1}}}}})
    settings = file(objects.get("ConfigMap", "consilium-general"), "expert.yaml")
    assert settings["slo"] == {"latency": "300ms", "objective": 0.99}
    assert settings["task"] == {"kind": "retrieve", "model": "minilm-l6", "knowledge": "knowledge.jsonl", "top": 1}
    assert settings["name"] == "general"


def test_zero_and_false_and_empty_are_said_too(render: Render) -> None:
    """What a template takes for nothing is something, where it is said."""
    objects = render(
        {"experts": {"general": {"replicas": 0, "pdb": {"enabled": False}, "settings": {"idempotent": False}}}}
    )
    assert objects.get("Deployment", "consilium-general")["spec"]["replicas"] == 0
    assert not objects.has("PodDisruptionBudget", "consilium-general")
    assert file(objects.get("ConfigMap", "consilium-general"), "expert.yaml")["idempotent"] is False


def test_null_takes_a_default_away(render: Render) -> None:
    """Of `expertDefaults`: Helm drops a null that takes away nothing of values.yaml."""
    objects = render({"expertDefaults": {"resources": {"limits": {"cpu": None}}}})
    limits = container(pod(objects.get("Deployment", "consilium-general")), "expert")["resources"]["limits"]
    assert limits == {"memory": "1Gi"}


@pytest.mark.parametrize("name", CLINIC)
def test_nothing_is_left_of_an_expert_that_is_not_enabled(render: Render, name: str) -> None:
    fallback = "general" if name != "general" else "care-coordination"
    values = {**WATCHED, "mesh": {"gate": {"fallback": fallback}}}
    before, after = render(values), render({**values, "experts": {name: {"enabled": False}}})
    assert len(of_expert(before, name)) >= 7
    assert of_expert(after, name) == set()
    gone = same(before).keys() - same(after).keys()
    assert gone == of_expert(before, name)
    kept = same(after)
    assert kept == {name: it for name, it in same(before).items() if name in kept}


@pytest.mark.parametrize("values", [{}, WATCHED, ci_values("autoscaling-hpa"), ci_values("external-etcd")], ids=str)
def test_one_more_expert_changes_no_other_object(render: Render, values: Json) -> None:
    experts = {**values.get("experts", {}), "eyes": NEW}
    before, after = same(render(values)), same(render({**values, "experts": experts}))
    assert {name: it for name, it in after.items() if name in before} == before
    added = after.keys() - before.keys()
    assert added == of_expert(render({**values, "experts": experts}), "eyes")
    assert {"Deployment", "Service", "ConfigMap", "ServiceAccount", "PodDisruptionBudget"} <= {
        kind for kind, _ in added
    }


def test_one_more_expert_changes_no_other_pod_where_certificates_are_made(render: Render) -> None:
    values = ci_values("tls-cert-manager")
    before, after = same(render(values)), same(render({**values, "experts": {"eyes": NEW}}))
    for name, it in before.items():
        if name[0] in ("Deployment", "StatefulSet"):
            assert after[name] == it


def checksums(objects: Objects) -> dict[str, str]:
    """Of the pods that have one."""
    found = {it["metadata"]["name"]: pod(it)["metadata"].get("annotations", {}) for it in objects.of("Deployment")}
    return {name: annotations["checksum/config"] for name, annotations in found.items()}


CHANGES: list[tuple[Json, set[str]]] = [
    ({"mesh": {"gate": {"top_k": 2}}}, {"router"}),
    ({"meshFiles": {"background.txt": "Which tyres does my car need?\n"}}, {"router"}),
    ({"experts": {"general": {"files": {"examples.txt": "How are you?\n"}}}}, {"general"}),
    # Knowledge is read again by those that run.
    ({"experts": {"general": {"files": {"knowledge.jsonl": "{}\n"}}}}, set()),
    ({"experts": {"general": {"settings": {"version": "2"}}}}, {"general"}),
    ({"experts": {"general": {"grace": "30s"}}}, {"general"}),
    ({"experts": {"general": {"replicas": 7}}}, set()),
    ({"experts": {"general": {"logLevel": "debug"}}}, set()),
    ({"router": {"replicas": 7, "logLevel": "debug"}}, set()),
    ({"commonLabels": {"team": "clinic"}}, set()),
    ({"test": {"questions": "{}\n"}}, set()),
    (
        {"etcd": {"replicas": 3, "persistence": {"enabled": True}}},
        {"router", *CLINIC},
    ),
    (
        {"traces": {"endpoint": "http://collector:4317"}},
        {"router", *CLINIC},
    ),
]


@pytest.mark.parametrize(("change", "touched"), CHANGES, ids=lambda it: str(it)[:60])
def test_a_checksum_changes_where_the_configuration_does(render: Render, change: Json, touched: set[str]) -> None:
    before, after = checksums(render()), checksums(render(change))
    assert len(before) == 6
    assert {name.removeprefix("consilium-") for name in before if before[name] != after[name]} == touched


def test_a_candidate_is_an_entry_of_its_own_under_the_name_of_what_runs(render: Render) -> None:
    candidate = {**NEW, "name": "general", "track": "canary"}
    before, objects = render(WATCHED), render({**WATCHED, "experts": {"general-next": candidate}})
    files = objects.get("ConfigMap", "consilium-general-next")
    assert (file(files, "expert.yaml")["name"], file(files, "instance.yaml")["track"]) == ("general", "canary")
    added = same(objects).keys() - same(before).keys()
    # The promise is of the expert, not of each entry.
    assert "PrometheusRule" not in {kind for kind, _ in added}
    assert added == of_expert(objects, "general-next")
    assert {name: it for name, it in same(objects).items() if name not in added} == same(before)


@pytest.mark.parametrize("kind", ["hpa", "keda"])
def test_whoever_scales_says_how_many(render: Render, kind: str) -> None:
    keda = {"serverAddress": "http://prometheus:9090"}
    scaled = {"enabled": True, "kind": kind, "minReplicas": 3, "maxReplicas": 5, "keda": keda}
    objects = render({"experts": {"general": {"replicas": 9, "autoscaling": scaled}}})
    assert "replicas" not in objects.get("Deployment", "consilium-general")["spec"]
    assert objects.get("Deployment", "consilium-care-coordination")["spec"]["replicas"] == 2
    is_hpa = kind == "hpa"
    assert objects.has("HorizontalPodAutoscaler", "consilium-general") == is_hpa
    assert objects.has("ScaledObject", "consilium-general") != is_hpa
    it = objects.get("HorizontalPodAutoscaler" if is_hpa else "ScaledObject", "consilium-general")
    bounds = [
        it["spec"]["minReplicas" if is_hpa else "minReplicaCount"],
        it["spec"]["maxReplicas" if is_hpa else "maxReplicaCount"],
    ]
    assert bounds == [3, 5]
    assert it["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "consilium-general"}
    assert len(objects.of("HorizontalPodAutoscaler") + objects.of("ScaledObject")) == 1


def test_a_file_is_what_values_say_to_its_end(render: Render) -> None:
    text = "&<one>\n\n two \n"
    files = {"zz.txt": text, "a.txt": text.rstrip()}
    objects = render({"experts": {"general": {"files": files}}})
    data = objects.get("ConfigMap", "consilium-general")["data"]
    assert {name: data[name] for name in files} == files


def test_files_of_the_mesh_lie_beside_it_and_each_is_replaced_or_joined_by_its_name(render: Render) -> None:
    before = render().get("ConfigMap", "consilium-router")["data"]
    said = {"background.txt": "&<one>\n\n two \n", "dialects.jsonl": "{}"}
    after = render({"meshFiles": said}).get("ConfigMap", "consilium-router")["data"]
    assert before.keys() >= {"mesh.yaml", "background.txt", "audience.jsonl"}
    assert after == {**before, **said}
    own = ci_values("own-mesh")
    alone = render(own).get("ConfigMap", "consilium-router")["data"]
    assert alone.keys() == {"mesh.yaml"}
    assert render({**own, "meshFiles": said}).get("ConfigMap", "consilium-router")["data"] == {**alone, **said}


def test_keda_asks_for_a_metric_that_routers_have(render: Render) -> None:
    objects = render(ci_values("autoscaling-keda"), namespace="ward")
    it = objects.get("ScaledObject", "consilium-diagnostic-reasoning")
    asked = it["spec"]["triggers"][0]["metadata"]
    metric = asked["query"].partition("(")[2].partition("{")[0]
    assert f"| `{metric}` |" in (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert 'expert="diagnostic-reasoning"' in asked["query"]
    assert 'namespace="ward"' in asked["query"]
    assert asked["threshold"] == "4"
    assert [trigger["type"] for trigger in it["spec"]["triggers"]] == ["prometheus", "cron"]


def test_keda_counts_for_each_entry_of_an_expert_its_own_instances(render: Render) -> None:
    objects = render(ci_values("autoscaling-keda"))

    def query(name: str) -> str:
        return objects.get("ScaledObject", name)["spec"]["triggers"][0]["metadata"]["query"]

    assert "expert_instance" not in query("consilium-general")
    live, canary = "consilium-diagnostic-reasoning", "consilium-diagnostic-reasoning-canary"
    for name in (live, canary):
        assert 'expert="diagnostic-reasoning"' in query(name)
        (pattern,) = re.findall(r'expert_instance=~"([^"]+)"', query(name))
        pods = [f"{each}-7d9f8c6b5-x2x4z" for each in (live, canary)]
        assert [it for it in pods if re.fullmatch(pattern, it)] == [f"{name}-7d9f8c6b5-x2x4z"]


def test_a_hundred_and_fifty_experts_render_in_one_go(render: Render) -> None:
    experts = {f"expert-{number:03}": NEW for number in range(150)}
    objects = render({**WATCHED, "experts": experts})
    assert len(objects.of("Deployment")) == 150 + 5 + 1
    assert len(objects.by_key()) == len(objects.all)
    assert len(objects.of("PodMonitor")) == 150 + 5 + 2


def test_names_of_experts_do_not_run_into_others(render: Render) -> None:
    """Names that begin or end like those of the chart's own objects."""
    names = [
        "a",
        "router-tls",
        "expert-tls",
        "etcd-0",
        "headless",
        "feedback",
        "dashboard-mesh",
        "ca",
        "mesh",
        "x" * 40,
    ]
    objects = render({**WATCHED, "experts": dict.fromkeys(names, NEW)})
    assert {f"consilium-{name}" for name in names} <= {it["metadata"]["name"] for it in objects.of("Deployment")}
    assert len(objects.by_key()) == len(objects.all)
