"""Releases: labels, selectors and names that upgrades can live with, in any namespace, and nothing that stays."""

from __future__ import annotations

import json

import pytest
import yaml

from conftest import Render, ci_values
from helms import CHART
from objects import Json, Objects, container, file, key, pod, selects

CHART_YAML = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))

# What changes with the chart or the images, and is therefore nothing to find pods by.
CHANGES = {"helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "app.kubernetes.io/part-of"}


def selectors(objects: Objects) -> list[tuple[tuple[str, str], Json]]:
    """Every selector of pods, with the object that has it."""
    found = []
    for it in objects.all:
        spec = it.get("spec", {})
        if it["kind"] == "Service":
            found.append((key(it), spec["selector"]))
        elif it["kind"] == "NetworkPolicy":
            found.append((key(it), spec["podSelector"]["matchLabels"]))
        elif "selector" in spec:
            found.append((key(it), spec["selector"]["matchLabels"]))
    return found


def test_no_selector_has_what_changes(rendered: Objects) -> None:
    found = selectors(rendered)
    assert len(found) > 10
    for name, labels in found:
        assert not CHANGES & labels.keys(), name
        assert labels["app.kubernetes.io/instance"] == "consilium", name


def test_no_pod_is_replaced_because_the_chart_changed(rendered: Objects) -> None:
    for name, template in rendered.pods():
        if name.startswith("Pod/"):
            continue
        assert "helm.sh/chart" not in template["metadata"]["labels"], name


def test_every_selector_finds_the_pods_that_it_is_for(rendered: Objects) -> None:
    templates = dict(rendered.pods())
    for (kind, name), labels in selectors(rendered):
        found = {where for where, template in templates.items() if selects(labels, template)}
        if kind in ("Deployment", "StatefulSet"):
            assert found == {f"{kind}/{name}"}
        elif (kind, name) == ("NetworkPolicy", "consilium-experts"):
            assert found == {f"Deployment/{it['metadata']['name']}" for it in rendered.of("Deployment")} - {
                "Deployment/consilium-router"
            }
        else:
            own = name.removesuffix("-headless")
            assert found == {f"{'StatefulSet' if own.endswith('etcd') else 'Deployment'}/{own}"}, (kind, name)


def test_selectors_are_those_of_the_pods_whatever_labels_are_added(render: Render) -> None:
    """Values add labels; they do not take ours away, because pods would be lost."""
    steal = {
        "app.kubernetes.io/name": "stolen",
        "app.kubernetes.io/component": "stolen",
        "consilium.dev/expert": "stolen",
    }
    objects = render({"commonLabels": steal, "expertDefaults": {"podLabels": steal}, "router": {"podLabels": steal}})
    templates = dict(objects.pods())
    for (kind, name), labels in selectors(objects):
        if kind in ("Deployment", "StatefulSet"):
            assert selects(labels, templates[f"{kind}/{name}"]), name
            assert "stolen" not in labels.values()


def test_every_object_is_labelled(rendered: Objects) -> None:
    mesh = file(rendered.get("ConfigMap", "consilium-router"), "mesh.yaml")["name"]
    for it in rendered.all:
        labels = it["metadata"].get("labels", {})
        if not labels:
            # Extra objects are as they were given.
            assert it["metadata"]["name"] in ("consilium-notes", "consilium-more")
            continue
        assert labels["app.kubernetes.io/name"] == "consilium"
        assert labels["app.kubernetes.io/part-of"] == mesh, key(it)
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["helm.sh/chart"] == f"consilium-{CHART_YAML['version']}"
        assert all(len(value) <= 63 for value in labels.values()), key(it)


def test_common_labels_and_annotations_are_everywhere(render: Render) -> None:
    objects = render({"commonLabels": {"team": "clinic"}, "commonAnnotations": {"example.org/owner": "clinic"}})
    for it in objects.all:
        assert it["metadata"]["labels"]["team"] == "clinic", key(it)
        assert it["metadata"]["annotations"]["example.org/owner"] == "clinic", key(it)


@pytest.mark.parametrize(
    "case", ["monitoring", "tls-self-signed", "tls-cert-manager", "three-etcds", "autoscaling-keda"]
)
def test_another_namespace_and_release_change_every_name(render: Render, case: str) -> None:
    here = render(ci_values(case), name="consilium", namespace="clinic")
    there = render(ci_values(case), name="other", namespace="ward")
    assert len(here.all) == len(there.all)
    names = {key(it)[1] for it in there.all}
    assert all(name == "other-consilium" or name.startswith("other-consilium-") for name in names), names
    # In the dashboards the word is the mesh's, and everywhere the example's name.
    for it in there.all:
        assert it["metadata"].get("namespace", "ward") == "ward", key(it)
        if it["kind"] == "Secret":
            continue
        text = json.dumps(it)
        for of_here in (".clinic.svc", '"consilium-router', "//consilium-", 'namespace=\\\\\\"clinic'):
            assert of_here not in text, (key(it), of_here)


@pytest.mark.parametrize(
    ("release", "values", "expected"),
    [
        ("consilium", {}, "consilium-router"),
        ("my-consilium", {}, "my-consilium-router"),
        ("clinic", {}, "clinic-consilium-router"),
        ("clinic", {"nameOverride": "mesh"}, "clinic-mesh-router"),
        ("clinic", {"fullnameOverride": "x"}, "x-router"),
    ],
)
def test_names_begin_with_the_release(render: Render, release: str, values: Json, expected: str) -> None:
    assert render(values, name=release).has("Deployment", expected)


def test_nothing_stays_when_the_release_goes(rendered: Objects) -> None:
    for it in rendered.all:
        annotations = it["metadata"].get("annotations", {})
        assert "helm.sh/resource-policy" not in annotations, key(it)
        hook = annotations.get("helm.sh/hook")
        # What a hook makes is no part of the release: it has to go by itself.
        if hook:
            assert hook == "test", key(it)
            assert "hook-succeeded" in annotations["helm.sh/hook-delete-policy"], key(it)
            assert it["kind"] == "Pod", key(it)
    for it in rendered.of("StatefulSet"):
        if it["spec"].get("volumeClaimTemplates"):
            # Data is somebody's who has to say so.
            assert it["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    assert not [it for it in rendered.all if it["kind"] in ("CustomResourceDefinition", "Namespace")]
    assert not [it for it in rendered.all if it["kind"].startswith("Cluster") or "Webhook" in it["kind"]]


def test_the_test_asks_the_questions_of_the_values(render: Render) -> None:
    own = '{"text": "How are you?", "expert": "general"}\n'
    objects = render({"test": {"questions": own}})
    assert objects.get("ConfigMap", "consilium-test")["data"]["questions.jsonl"] == own
    it = container(pod(objects.get("Pod", "consilium-test")), "ask")
    assert it["args"][0] == "verify"
    assert "http://consilium-router:7600" in it["args"]
    assert it["args"][-1] == "/etc/consilium/questions.jsonl"


def test_without_questions_there_is_no_test(render: Render) -> None:
    values = {name: value for name, value in ci_values("own-mesh").items() if name != "test"}
    assert not [it for it in render(values).all if it["metadata"]["name"].endswith("-test")]


def test_extra_objects_are_filled_in(render: Render) -> None:
    objects = render(ci_values("everything-extra"), name="ours", namespace="ward")
    assert objects.get("ConfigMap", "ours-consilium-notes")["data"] == {"release": "ours"}
    assert objects.get("ConfigMap", "ours-more")["data"] == {"namespace": "ward"}


def test_the_service_is_what_values_say(render: Render) -> None:
    it = render(ci_values("everything-extra")).get("Service", "consilium-router")
    assert it["spec"]["type"] == "LoadBalancer"
    assert it["spec"]["loadBalancerClass"] == "example.org/internal"
    assert it["spec"]["loadBalancerSourceRanges"] == ["10.0.0.0/8"]
    (port,) = it["spec"]["ports"]
    expected = {
        "name": "grpc",
        "port": 443,
        "targetPort": "grpc",
        "protocol": "TCP",
        "appProtocol": "kubernetes.io/h2c",
    }
    assert port == {**expected, "nodePort": 30760}
    assert it["metadata"]["annotations"]["example.org/balancer"] == "internal"
    plain = render().get("Service", "consilium-router")["spec"]
    assert plain["type"] == "ClusterIP"
    assert plain["ports"] == [{"name": "grpc", "port": 7600, "targetPort": "grpc", "protocol": "TCP"}]


def test_experts_are_found_when_ready_and_etcd_before(rendered: Objects) -> None:
    for it in rendered.of("Service"):
        if it["metadata"]["name"] == "consilium-router":
            continue
        assert it["spec"]["clusterIP"] == "None", key(it)
        of_etcd = it["metadata"]["name"] == "consilium-etcd"
        assert it["spec"].get("publishNotReadyAddresses", False) == of_etcd, key(it)


@pytest.mark.parametrize("replicas", [1, 3, 5])
def test_members_of_etcd_and_those_who_ask_them_agree(render: Render, replicas: int) -> None:
    objects = render({"etcd": {"replicas": replicas, "persistence": {"enabled": replicas > 1}}}, namespace="ward")
    it = objects.get("StatefulSet", "consilium-etcd")
    assert it["spec"]["replicas"] == replicas
    assert it["spec"]["serviceName"] == "consilium-etcd"
    hosts = [f"consilium-etcd-{member}.consilium-etcd.ward.svc" for member in range(replicas)]
    args = container(pod(it), "etcd")["args"]
    cluster = ",".join(f"consilium-etcd-{member}=http://{host}:2380" for member, host in enumerate(hosts))
    assert f"--initial-cluster={cluster}" in args
    endpoints = [f"http://{host}:2379" for host in hosts]
    for name, at in (("consilium-router", "mesh.yaml"), ("consilium-general", "instance.yaml")):
        assert file(objects.get("ConfigMap", name), at)["registry"]["etcd"]["endpoints"] == endpoints
    assert bool(it["spec"].get("volumeClaimTemplates")) == (replicas > 1)


@pytest.mark.parametrize("when", ["Retain", "Delete"])
def test_claims_go_when_values_say_so(render: Render, when: str) -> None:
    objects = render({"etcd": {"persistence": {"enabled": True, "whenDeleted": when}}})
    policy = objects.get("StatefulSet", "consilium-etcd")["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy == {"whenDeleted": when, "whenScaled": "Retain"}


def test_the_test_runs_where_routers_may(render: Render) -> None:
    values = ci_values("everything-extra")
    spec = pod(render(values).get("Pod", "consilium-test"))["spec"]
    for name in ("nodeSelector", "tolerations", "priorityClassName"):
        assert spec[name] == values["router"][name], name
    assert spec["activeDeadlineSeconds"] > 60


def peers(it: Json, port: int) -> list[Json] | None:
    """Who a policy lets connect to a port; None is everybody."""
    (rule,) = [rule for rule in it["spec"]["ingress"] if {"port": port, "protocol": "TCP"} in rule["ports"]]
    return rule.get("from")


def test_policies_let_in_who_belongs_there(render: Render) -> None:
    objects = render()
    templates = dict(objects.pods())
    by_name = {it["metadata"]["name"]: it for it in objects.of("NetworkPolicy")}
    assert by_name.keys() == {"consilium-router", "consilium-experts", "consilium-etcd"}

    def who(name: str, port: int) -> set[str]:
        allowed = peers(by_name[name], port)
        assert allowed is not None
        labels = [peer["podSelector"]["matchLabels"] for peer in allowed]
        return {where for where, template in templates.items() if any(selects(each, template) for each in labels)}

    experts = {
        "Deployment/consilium-care-coordination",
        "Deployment/consilium-clinical-documentation",
        "Deployment/consilium-diagnostic-reasoning",
        "Deployment/consilium-drug-interactions",
        "Deployment/consilium-general",
    }
    router = {"Deployment/consilium-router"}
    assert who("consilium-experts", 7700) == router
    assert who("consilium-etcd", 2379) == router | experts
    assert who("consilium-etcd", 2380) == {"StatefulSet/consilium-etcd"}
    assert peers(by_name["consilium-router"], 7600) is None
    for name, port in (("consilium-router", 7601), ("consilium-experts", 7701), ("consilium-etcd", 2381)):
        assert peers(by_name[name], port) is None
    assert all(it["spec"]["policyTypes"] == ["Ingress"] for it in by_name.values())


def test_policies_let_in_whom_values_name(render: Render) -> None:
    values = ci_values("everything-extra")
    objects = render(values)
    said = values["networkPolicy"]
    router, experts = (
        objects.get("NetworkPolicy", "consilium-router"),
        objects.get("NetworkPolicy", "consilium-experts"),
    )
    to_router = peers(router, 7600)
    assert said["routerFrom"][0] in to_router
    # `helm test` asks, too.
    test = pod(objects.get("Pod", "consilium-test"))
    assert any(selects(peer.get("podSelector", {}).get("matchLabels", {"no": "pod"}), test) for peer in to_router)
    assert said["expertFrom"][0] in peers(experts, 7700)
    assert len(peers(experts, 7700)) == 2
    for it, port in ((router, 7601), (experts, 7701), (objects.get("NetworkPolicy", "consilium-etcd"), 2381)):
        assert peers(it, port) == said["adminFrom"]
    assert not render({"networkPolicy": {"enabled": False}}).of("NetworkPolicy")


def test_ports_of_policies_are_those_of_pods(rendered: Objects) -> None:
    for it in rendered.of("NetworkPolicy"):
        allowed = {port["port"] for rule in it["spec"]["ingress"] for port in rule["ports"]}
        pods = [
            template for _, template in rendered.pods() if selects(it["spec"]["podSelector"]["matchLabels"], template)
        ]
        mains = [
            each
            for template in pods
            for each in template["spec"]["containers"]
            if each["name"] in ("router", "expert", "etcd")
        ]
        assert pods
        assert all(allowed == {port["containerPort"] for port in main["ports"]} for main in mains), key(it)


def test_dashboards_are_those_of_the_repository(render: Render) -> None:
    objects = render(ci_values("monitoring"))
    maps = [it for it in objects.of("ConfigMap") if it["metadata"]["labels"].get("grafana_dashboard") == "1"]
    found = {name: json.loads(text) for it in maps for name, text in it["data"].items()}
    folder = CHART.parent.parent / "deploy/grafana/dashboards"
    expected = {
        f"consilium-{path.name}": json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")
    }
    assert found == expected
    assert len(expected) == 3
    assert all(it["metadata"]["annotations"]["grafana_folder"] == "Clinic" for it in maps)
    assert not [it for it in render({"metrics": {"dashboards": {"enabled": False}}}).all if "dashboard" in key(it)[1]]


def test_every_pod_that_has_metrics_is_watched(render: Render) -> None:
    rendered = render(ci_values("monitoring"))
    monitors = rendered.of("PodMonitor")
    for name, template in rendered.pods():
        watching = [it for it in monitors if selects(it["spec"]["selector"]["matchLabels"], template)]
        serving = name.startswith(("Deployment/", "StatefulSet/"))
        assert len(watching) == serving, name
        for it in watching:
            ports = {port["name"] for each in template["spec"]["containers"] for port in each.get("ports", [])}
            (endpoint,) = it["spec"]["podMetricsEndpoints"]
            assert endpoint["port"] in ports
            assert endpoint["interval"] == "30s"
            assert it["spec"]["jobLabel"] in template["metadata"]["labels"]
            assert it["metadata"]["labels"]["release"] == "monitoring"
