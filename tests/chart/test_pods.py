"""Pods: restricted, probed, bounded, and gone in good order, whatever the values are."""

from __future__ import annotations

import re
from typing import Any

import pytest

from conftest import Render, ci_values
from objects import Json, Objects, container, containers, env, file, key, pod, seconds

OURS = {"router", "expert", "etcd"}

# Of `extraContainers` and the like: whoever adds one says what it may do.
THEIRS = {"beside", "before"}


def ours(rendered: Objects) -> list[tuple[str, Json]]:
    """The containers of the chart, each with its pod's and its own name."""
    found = [
        (f"{name}/{it['name']}", it)
        for name, template in rendered.pods()
        for it in containers(template)
        if it["name"] not in THEIRS
    ]
    assert found
    return found


def test_no_pod_has_a_token_or_links_to_services(rendered: Objects) -> None:
    for name, template in rendered.pods():
        assert template["spec"]["automountServiceAccountToken"] is False, name
        assert template["spec"]["enableServiceLinks"] is False, name
    for it in rendered.of("ServiceAccount"):
        assert it["automountServiceAccountToken"] is False, key(it)


def test_every_pod_keeps_to_the_restricted_standard(rendered: Objects) -> None:
    for name, template in rendered.pods():
        spec = template["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        # OpenShift says which.
        assert spec["securityContext"].get("runAsUser", 1) > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        allowed = {"name", "configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"}
        for volume in spec.get("volumes", []):
            assert volume.keys() <= allowed, (name, volume)
    for name, it in ours(rendered):
        context = it["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert not context.get("privileged"), name


def test_every_container_asks_for_room_and_has_a_bound(rendered: Objects) -> None:
    for name, it in ours(rendered):
        assert {"cpu", "memory"} <= it["resources"]["requests"].keys(), name
        assert "memory" in it["resources"]["limits"], name


def test_every_container_that_serves_is_probed(rendered: Objects) -> None:
    for name, it in ours(rendered):
        if it["name"] not in OURS:
            continue
        ports = {port["name"]: port["containerPort"] for port in it["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert probe in it, (name, probe)
            (how,) = {"grpc", "httpGet"} & it[probe].keys()
            if how == "grpc":
                # Only the admin port is without TLS, and only numbers are taken.
                assert it[probe]["grpc"] == {"port": ports["admin"], "service": ""}, (name, probe)
            else:
                assert it[probe]["httpGet"]["port"] in {"admin", "metrics"} & ports.keys(), (name, probe)
        # What a pod is stopped and started for must not depend on others.
        for probe in ("startupProbe", "livenessProbe"):
            assert it[probe]["httpGet"]["path"] == "/livez", (name, probe)


def test_ports_and_variables_are_there_once(rendered: Objects) -> None:
    for name, template in rendered.pods():
        for it in containers(template):
            variables = [each["name"] for each in it.get("env", [])]
            assert len(set(variables)) == len(variables), (name, variables)
        all_ports = [port for it in containers(template) for port in it.get("ports", [])]
        assert len({port["containerPort"] for port in all_ports}) == len(all_ports), name
        assert len({port["name"] for port in all_ports}) == len(all_ports), name
        names = [it["name"] for it in containers(template)]
        assert len(set(names)) == len(names), (name, names)


def test_every_mount_has_its_volume_and_every_volume_its_use(rendered: Objects) -> None:
    claims = {
        it["metadata"]["name"]: {claim["metadata"]["name"] for claim in it["spec"].get("volumeClaimTemplates", [])}
        for it in rendered.of("StatefulSet")
    }
    for name, template in rendered.pods():
        volumes = {it["name"] for it in template["spec"].get("volumes", [])} | claims.get(name.partition("/")[2], set())
        mounts = [mount for it in containers(template) for mount in it.get("volumeMounts", [])]
        assert {it["name"] for it in mounts} == volumes, name
        for it in containers(template):
            paths = [mount["mountPath"] for mount in it.get("volumeMounts", [])]
            assert len(set(paths)) == len(paths), (name, paths)
            assert all(path.startswith("/") for path in paths), (name, paths)


def test_what_a_pod_reads_is_made_by_the_chart_or_named_in_values(case: str, rendered: Objects) -> None:
    """A ConfigMap or Secret that nobody makes keeps a pod from starting."""
    theirs = {
        "tls-existing": {"router-certificate", "expert-certificate", "etcd-certificate"},
        "tls-cert-manager": {"consilium-router-tls", "consilium-expert-tls", "consilium-etcd-tls"},
        "external-etcd": {"etcd-client"},
        "models-fetch": {"proxy"},
        "everything-extra": {"feedback", "router-environment", "expert-environment"},
    }.get(case, set())
    asked: set[str] = set()

    def walk(it: Any) -> None:
        if isinstance(it, dict):
            for kind in ("configMap", "secret", "configMapRef", "secretRef", "configMapKeyRef", "secretKeyRef"):
                if isinstance(it.get(kind), dict) and not it[kind].get("optional"):
                    asked.add(it[kind].get("name") or it[kind]["secretName"])
            for part in it.values():
                walk(part)
        elif isinstance(it, list):
            for part in it:
                walk(part)

    for _, template in rendered.pods():
        walk(template["spec"])
    made = {it["metadata"]["name"] for kind in ("ConfigMap", "Secret") for it in rendered.of(kind)}
    assert asked - made == theirs


@pytest.mark.parametrize(
    ("values", "grace"),
    [
        ({}, 5 + 20 + 10),
        ({"router": {"preStopSeconds": 0}}, 20 + 10),
        ({"mesh": {"grace": "1m 30s"}}, 5 + 90 + 10),
        ({"mesh": {"grace": "3500ms"}}, 5 + 4 + 10),
    ],
)
def test_a_router_has_the_time_that_it_needs_to_go(render: Render, values: dict[str, Any], grace: int) -> None:
    template = pod(render(values).get("Deployment", "consilium-router"))
    assert template["spec"]["terminationGracePeriodSeconds"] == grace


@pytest.mark.parametrize(
    ("values", "grace"),
    [
        ({}, 20 + 10),
        ({"grace": "45s"}, 45 + 10),
        ({"grace": "1h", "preStopSeconds": 7}, 7 + 3600 + 10),
    ],
)
def test_an_expert_has_the_time_that_it_needs_to_go(render: Render, values: dict[str, Any], grace: int) -> None:
    for said in ({"expertDefaults": values}, {"experts": {"general": values}}):
        objects = render(said)
        template = pod(objects.get("Deployment", "consilium-general"))
        assert template["spec"]["terminationGracePeriodSeconds"] == grace
        instance = file(objects.get("ConfigMap", "consilium-general"), "instance.yaml")
        assert instance["grace"] == values.get("grace", "20s")


def test_the_time_to_go_is_never_less_than_what_is_slept_and_drained(rendered: Objects) -> None:
    for it in rendered.of("Deployment"):
        spec = pod(it)["spec"]
        (main,) = [each for each in spec["containers"] if each["name"] in OURS]
        slept = main.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        config = rendered.get("ConfigMap", it["metadata"]["name"])
        name = "mesh.yaml" if main["name"] == "router" else "instance.yaml"
        drained = seconds(file(config, name).get("grace", "20s"))
        assert spec["terminationGracePeriodSeconds"] == slept + drained + 10, key(it)


def test_a_pod_that_need_not_wait_has_no_hook(render: Render) -> None:
    """`sleep: {seconds: 0}` is refused by the Kubernetes versions that the chart begins with."""
    objects = render({"router": {"preStopSeconds": 0}, "experts": {"general": {"preStopSeconds": 4}}})
    assert "lifecycle" not in container(pod(objects.get("Deployment", "consilium-router")), "router")
    assert "lifecycle" not in container(pod(objects.get("Deployment", "consilium-care-coordination")), "expert")
    slept = container(pod(objects.get("Deployment", "consilium-general")), "expert")["lifecycle"]
    assert slept == {"preStop": {"sleep": {"seconds": 4}}}


DIGEST = "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("image", "common", "expected"),
    [
        ({}, "", r"consilium/router:0\.1\.0"),
        ({"tag": "1.2.3"}, "", r"consilium/router:1\.2\.3"),
        ({"tag": "1.2.3", "digest": DIGEST}, "", rf"consilium/router(:1\.2\.3)?@{DIGEST}"),
        ({"digest": DIGEST}, "", rf"consilium/router(:0\.1\.0)?@{DIGEST}"),
        ({}, "registry.example:5000/mirror", r"registry\.example:5000/mirror/consilium/router:0\.1\.0"),
        ({"registry": "own.example"}, "registry.example", r"own\.example/consilium/router:0\.1\.0"),
        ({"repository": "else/where"}, "", r"else/where:0\.1\.0"),
    ],
)
def test_an_image_is_what_values_say(render: Render, image: dict[str, str], common: str, expected: str) -> None:
    objects = render({"router": {"image": image}, "image": {"registry": common}})
    found = container(pod(objects.get("Deployment", "consilium-router")), "router")["image"]
    assert re.fullmatch(expected, found), found


@pytest.mark.parametrize(
    ("image", "common", "expected"),
    [
        ({}, "", "quay.io/coreos/etcd:v3.6.14"),
        ({}, "registry.example/mirror", "registry.example/mirror/coreos/etcd:v3.6.14"),
        ({"registry": "own.example"}, "registry.example", "own.example/coreos/etcd:v3.6.14"),
    ],
)
def test_etcd_comes_from_the_registry_of_the_others(
    render: Render, image: dict[str, str], common: str, expected: str
) -> None:
    objects = render({"etcd": {"image": image}, "image": {"registry": common}})
    assert container(pod(objects.get("StatefulSet", "consilium-etcd")), "etcd")["image"] == expected


def test_members_of_etcd_are_on_different_nodes(render: Render) -> None:
    def spread(values: Json) -> dict[str, str]:
        spec = pod(render(values).get("StatefulSet", "consilium-etcd"))["spec"]
        return {it["topologyKey"]: it["whenUnsatisfiable"] for it in spec["topologySpreadConstraints"]}

    zone, node = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
    assert spread(ci_values("three-etcds")) == {zone: "ScheduleAnyway", node: "DoNotSchedule"}
    assert spread({}) == {zone: "ScheduleAnyway", node: "ScheduleAnyway"}


def test_openshift_chooses_the_user(render: Render) -> None:
    for name, template in render(ci_values("openshift")).pods():
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & template["spec"]["securityContext"].keys(), name


def test_what_differs_from_pod_to_pod_is_in_the_environment(render: Render) -> None:
    expert = container(pod(render().get("Deployment", "consilium-general")), "expert")
    variables = env(expert)
    assert variables["CONSILIUM_ANNOUNCE"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert variables["CONSILIUM_INSTANCE"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    zone = "metadata.labels['topology.kubernetes.io/zone']"
    assert variables["POD_ZONE"] == {"fieldRef": {"fieldPath": zone}}
    assert variables["CONSILIUM_ZONE"] == '"$(POD_ZONE)"', "a zone that is called 1 is a text all the same"
    names = list(variables)
    assert names.index("POD_ZONE") < names.index("CONSILIUM_ZONE"), "what a variable is made of stands before it"


def test_one_more_variable_replaces_ours_of_the_same_name(render: Render) -> None:
    said = [{"name": "CONSILIUM_LOG", "value": "trace"}, {"name": "MORE", "value": "1"}]
    objects = render({"router": {"extraEnv": said}, "experts": {"general": {"extraEnv": said}}})
    for name, main in (("consilium-router", "router"), ("consilium-general", "expert")):
        variables = env(container(pod(objects.get("Deployment", name)), main))
        assert variables["CONSILIUM_LOG"] == "trace"
        assert variables["MORE"] == "1"


def test_a_merge_reaches_into_a_container_by_its_name(render: Render) -> None:
    merge = {
        "metadata": {"annotations": {"more": "1"}},
        "spec": {
            "hostname": "one",
            "containers": [{"name": "expert", "stdin": True}, {"name": "two", "image": "two:1"}],
        },
    }
    before = pod(render().get("Deployment", "consilium-general"))
    objects = render({"experts": {"general": {"podTemplate": {"merge": merge}}}})
    after = pod(objects.get("Deployment", "consilium-general"))
    assert after["spec"]["hostname"] == "one"
    assert after["metadata"]["annotations"]["more"] == "1"
    assert container(after, "expert") == {**container(before, "expert"), "stdin": True}
    assert container(after, "two") == {"name": "two", "image": "two:1"}
    assert pod(objects.get("Deployment", "consilium-care-coordination")) == pod(
        render().get("Deployment", "consilium-care-coordination")
    )


@pytest.mark.parametrize(("source", "path"), [("image", "/usr/share/consilium/models"), ("claim", "/models")])
def test_models_are_where_the_pod_has_them(render: Render, source: str, path: str) -> None:
    objects = render({"models": {"source": source, "claim": {"name": "models" if source == "claim" else ""}}})
    for it in objects.of("Deployment"):
        (main,) = [each for each in pod(it)["spec"]["containers"] if each["name"] in OURS]
        assert env(main)["CONSILIUM_MODELS"] == path
        mounted = {mount["name"]: mount for mount in main["volumeMounts"]}
        assert ("models" in mounted) == (source == "claim")
        if source == "claim":
            assert mounted["models"]["readOnly"] is True


def test_a_pod_fetches_the_models_that_it_needs(render: Render) -> None:
    values = ci_values("models-fetch")
    objects = render(values)
    models = values["models"]["fetch"]["models"]
    needs = {
        "router": ["minilm-l6"],
        "general": ["minilm-l6"],
        "diagnostic-reasoning": ["clinic-diagnostic"],
    }
    for name, needed in needs.items():
        template = pod(objects.get("Deployment", f"consilium-{name}"))
        (fetch,) = template["spec"]["initContainers"]
        of = {model: f"{model}={models[model]['url']}@sha256:{models[model]['sha256']}" for model in models}
        assert fetch["args"] == ["models", "fetch", "--into", "/models", *(of[model] for model in needed)], name
        assert "readOnly" not in fetch["volumeMounts"][0]
