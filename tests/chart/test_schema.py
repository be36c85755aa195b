"""Schema: what cannot be meant is refused, and the message names it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from conftest import ci_values
from helms import CHART, Helm, SchemaError

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

HEX = "0" * 64

# What is said, as `--set` would say it, and what the message has to name.
WRONG: list[tuple[str, Any, str]] = [
    # Typos, at every level.
    ("exmaple", "none", "exmaple"),
    ("expert", {"general": {}}, "'expert'"),
    ("image.regsitry", "here", "regsitry"),
    ("router.replica", 3, "replica"),
    ("router.image.digset", "", "digset"),
    ("router.service.ports", 443, "ports"),
    ("router.autoscaling.minReplica", 1, "minReplica"),
    ("router.pdb.minAvailable", 1, "minAvailable"),
    ("router.feedback.secret", "a", "secret"),
    ("router.podTemplate.marge", {}, "marge"),
    ("router.strategy.rolingUpdate", {}, "rolingUpdate"),
    ("router.resources.limit", {}, "limit"),
    ("router.serviceAccount.annotation", {}, "annotation"),
    ("expertDefaults.replicaCount", 2, "replicaCount"),
    ("expertDefaults.autoscaling.keda.target", 2, "target"),
    ("experts.general.replics", 2, "replics"),
    ("experts.general.autoscaling.max", 2, "max"),
    ("experts.general.image.name", "a", "name"),
    ("models.fetch.model", {}, "model"),
    ("models.claim.claimName", "a", "claimName"),
    ("etcd.persistence.enable", True, "enable"),
    ("externalEtcd.endpoint", [], "endpoint"),
    ("tls.certmanager.enabled", True, "certmanager"),
    ("tls.certManager.issuerRef.nam", "a", "nam"),
    ("tls.existingSecrets.experts", "a", "experts"),
    ("traces.ration", 1, "ration"),
    ("metrics.serviceMonitor.enabled", True, "serviceMonitor"),
    ("metrics.prometheusRule.runbook", "a", "runbook"),
    ("networkPolicy.expertsFrom", [], "expertsFrom"),
    ("test.question", "", "question"),
    # What belongs to the chart.
    ("mesh.listen", "0.0.0.0:1", "listen"),
    ("mesh.admin", "0.0.0.0:1", "admin"),
    ("mesh.models", "here", "models"),
    ("mesh.experts", [], "experts"),
    ("mesh.registry", {}, "registry"),
    ("mesh.tls", {}, "tls"),
    ("mesh.traces", {}, "traces"),
    ("mesh.feedback.key_file", "here", "key_file"),
    ("mesh.feedback.journal", "here", "journal"),
    ("experts.general.settings.name", "general", "/settings/name"),
    # Names.
    ("mesh.name", "The Clinic", "/mesh/name"),
    ("experts.Drugs", {}, "Drugs"),
    ("experts.a-name-that-is-longer-than-forty-characters", {}, "a-name-that-is-longer-than-forty-characters"),
    ("experts.ends-with-", {}, "ends-with-"),
    ("fullnameOverride", "Has.Dots", "fullnameOverride"),
    ("experts.general.files", {"../expert.yaml": "a"}, "../expert.yaml"),
    # Values.
    ("example", "clinc", "example"),
    ("router.replicas", "two", "replicas"),
    ("router.replicas", -1, "replicas"),
    ("router.replicas", 1.5, "replicas"),
    ("router.logLevel", "verbose", "logLevel"),
    ("router.image.pullPolicy", "Sometimes", "pullPolicy"),
    ("router.image.tag", 1.2, "tag"),
    ("router.image.tag", "a tag", "tag"),
    ("router.image.digest", "sha256:12", "digest"),
    ("router.image.digest", HEX, "digest"),
    ("router.image.repository", "consilium/router:0.1.0", "repository"),
    ("router.image.registry", "registry.example/", "registry"),
    ("router.service.type", "Headless", "type"),
    ("router.service.port", 70000, "port"),
    ("router.service.loadBalancerSourceRanges", ["everybody"], "loadBalancerSourceRanges"),
    ("router.preStopSeconds", -1, "preStopSeconds"),
    ("router.pdb.maxUnavailable", "1", "maxUnavailable"),
    ("router.pdb.maxUnavailable", "120%", "maxUnavailable"),
    ("router.extraArgs", "--set a=b", "extraArgs"),
    ("router.extraEnv", [{"name": "A", "value": 1}], "extraEnv"),
    ("router.extraEnv", [{"value": "1"}], "extraEnv"),
    ("router.podAnnotations", {"a": True}, "podAnnotations"),
    ("router.nodeSelector", {"a": 1}, "nodeSelector"),
    ("router.tolerations", {}, "tolerations"),
    ("experts", [{"name": "general"}], "experts"),
    ("experts.general", "on", "general"),
    ("experts.general.enabled", "false", "enabled"),
    ("experts.general.replicas", -1, "replicas"),
    ("experts.general.track", "green", "track"),
    ("experts.general.settle", "2", "settle"),
    ("experts.general.settle", 2, "settle"),
    ("experts.general.grace", "20 seconds", "grace"),
    ("experts.general.settings.slo.objective", 99, "objective"),
    ("experts.general.settings.slo.objective", 1, "objective"),
    ("experts.general.settings.slo.objective", 0, "objective"),
    ("experts.general.settings.slo.objective", "99%", "objective"),
    ("experts.general.settings.slo.latency", 150, "latency"),
    ("experts.general.settings.slo.latency", "fast", "latency"),
    ("experts.general.files", {"examples.txt": ["a"]}, "examples.txt"),
    ("experts.general.autoscaling.kind", "vpa", "kind"),
    ("experts.general.autoscaling.minReplicas", 0, "minReplicas"),
    ("router.autoscaling.minReplicas", 0, "minReplicas"),
    ("experts.general.autoscaling.keda.serverAddress", "prometheus:9090", "serverAddress"),
    ("models.source", "s3", "source"),
    ("models.path", "models", "path"),
    ("models.fetch.models", {"a": {"url": "https://example.org/a"}}, "sha256"),
    ("models.fetch.models", {"a": {"url": "s3://a", "sha256": HEX}}, "url"),
    ("models.fetch.models", {"a": {"url": "https://example.org/a", "sha256": HEX[1:]}}, "sha256"),
    ("models.fetch.models", {"../a": {"url": "https://example.org/a", "sha256": HEX}}, "../a"),
    ("models.fetch.sizeLimit", "4 GB", "sizeLimit"),
    ("etcd.replicas", 2, "replicas"),
    ("etcd.persistence.size", "big", "size"),
    ("etcd.persistence.whenDeleted", "Keep", "whenDeleted"),
    ("etcd.persistence.accessModes", ["ReadWriteMany"], "accessModes"),
    ("externalEtcd.endpoints", ["etcd:2379"], "endpoints"),
    ("externalEtcd.endpoints", ["http://etcd:2379/"], "endpoints"),
    ("tls.enabled", "yes", "enabled"),
    ("tls.certManager.duration", "90 days", "duration"),
    ("tls.routerNames", ["https://example.org"], "routerNames"),
    ("tls.selfSigned.days", 0, "days"),
    ("listenHost", "::", "listenHost"),
    ("listenHost", "0.0.0.0:7600", "listenHost"),
    ("traces.endpoint", "collector:4317", "endpoint"),
    ("traces.ratio", 10, "ratio"),
    ("traces.callers", "trusted", "callers"),
    ("metrics.podMonitor.interval", 15, "interval"),
    ("metrics.prometheusRule.dashboardUrl", "https://grafana.example/", "dashboardUrl"),
    ("metrics.prometheusRule.leastBad", 0, "leastBad"),
    ("metrics.dashboards.labels", {"grafana_dashboard": 1}, "grafana_dashboard"),
    ("extraObjects", [1], "extraObjects"),
    ("test.questions", [{"text": "a"}], "questions"),
    # Sections that are taken away.
    ("etcd", None, "etcd"),
    ("router", None, "router"),
]


def nested(path: str, value: Any) -> dict[str, Any]:
    """Values that say one thing."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def _id(of: tuple[str, Any, str]) -> str:
    return f"{of[0]}={json.dumps(of[1])[:40]}"


@pytest.mark.parametrize("wrong", WRONG, ids=_id)
def test_what_is_wrong_is_named(helm: Helm, wrong: tuple[str, Any, str]) -> None:
    path, value, named = wrong
    with pytest.raises(SchemaError) as refused:
        helm.render(nested(path, value))
    complaint = str(refused.value).partition("consilium:")[2]
    assert named in complaint, complaint
    # Beside the key, the section that it is in: there are a dozen of the name `enabled`.
    section = f"/{path.split('.')[0]}"
    assert section in complaint or "." not in path or "invalid propertyName" in complaint, complaint


def test_the_table_is_long_enough_and_has_nothing_twice() -> None:
    assert len({_id(each) for each in WRONG}) == len(WRONG) >= 100


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_defaults_pass_and_are_all_in_it(case: str) -> None:
    validator = jsonschema.Draft7Validator(SCHEMA)
    assert [error.message for error in validator.iter_errors(VALUES)] == []
    said = {**VALUES, **ci_values(case)}
    assert [error.message for error in validator.iter_errors({**said, "global": {}})] == []


# What other schemas know: Kubernetes', or those of our programs.
FREE = {
    "affinity",
    "requests",
    "limits",
    "merge",
    "behavior",
    "settings",
    "mesh",
    "global",
    "podSecurityContext",
    "securityContext",
}


def test_every_map_is_closed_or_free_on_purpose() -> None:
    """And each default stands in it, so that a key of values.yaml and of the schema cannot part."""
    open_maps: list[str] = []

    def walk(schema: Any, name: str) -> None:
        if isinstance(schema, dict):
            if "object" in schema.get("type", []) and schema.get("additionalProperties") is None:
                open_maps.append(name)
            for key, part in schema.items():
                walk(part, key if key not in ("items", "properties") else name)
        elif isinstance(schema, list):
            for part in schema:
                walk(part, name)

    walk(SCHEMA, "")
    lists_of_objects = {"objects", "extraObjects", "valueFrom", "claims"}
    in_settings = {"slo", "feedback"}
    assert set(open_maps) <= FREE | lists_of_objects | in_settings, open_maps


def test_what_the_schema_knows_has_a_default() -> None:
    """Otherwise it is a key that values.yaml, and the table of the README, keep to themselves."""

    def missing(schema: dict[str, Any], values: Any, path: str) -> list[str]:
        if "$ref" in schema:
            schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
        if not isinstance(values, dict) or path.rpartition(".")[2] in {*FREE, "resources", "strategy"}:
            return []
        properties = schema.get("properties", {})
        absent = [f"{path}.{name}" for name in properties if name not in values]
        for name, part in properties.items():
            absent += missing(part, values.get(name), f"{path}.{name}")
        return absent

    assert missing(SCHEMA, {**VALUES, "global": {}}, "") == []
