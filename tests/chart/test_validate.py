"""Contradictions: values that the schema takes and that do not go together are refused, with what was expected."""

from __future__ import annotations

from typing import Any

import pytest

from helms import Helm, RefusedError, SchemaError

SLO = {"latency": "1s", "objective": 0.9}
EXPERT = {"settings": {"version": "1", "summary": "Knows.", "task": {"kind": "classify", "model": "a"}, "slo": SLO}}
TLS = {"enabled": True}
SELF_SIGNED = {"enabled": True, "selfSigned": {"enabled": True}}
OWN = {"example": "none", "mesh": {"name": "own", "gate": {"encoder": "a"}}, "experts": {"one": EXPERT}}
FETCHED = {"url": "https://example.org/a", "sha256": "0" * 64}


def scaling(**said: Any) -> dict[str, Any]:
    """Values of an expert that scales."""
    return {"experts": {"general": {"autoscaling": {"enabled": True, **said}}}}


# What is said, the key that the message begins a line with, and what stands in that line.
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"example": "none", "experts": {"one": EXPERT}}, "mesh.name", "missing"),
    ({"example": "none", "mesh": {"name": "own"}, "experts": {"one": EXPERT}}, "mesh.gate.encoder", "missing"),
    ({"example": "none", "mesh": {"name": "own", "gate": {"encoder": "a"}}}, "experts", "none that is enabled"),
    ({**OWN, "experts": {"one": {"enabled": False, **EXPERT}}}, "experts", "none that is enabled"),
    ({**OWN, "experts": {"one": {}}}, "experts.one.settings", "missing"),
    ({**OWN, "experts": {"one": None}}, "experts", "none that is enabled"),
    ({**OWN, "router": {"feedback": {"journalClaim": "journals"}}}, "router.feedback.journalClaim", "metrics"),
    ({"experts": {"router": EXPERT}}, "experts.router", "another name"),
    ({"experts": {"router-headless": EXPERT}}, "experts.router-headless", "another name"),
    ({"experts": {"etcd": EXPERT}}, "experts.etcd", "another name"),
    ({"experts": {"experts": EXPERT}}, "experts.experts", "another name"),
    ({"experts": {"test": EXPERT}}, "experts.test", "another name"),
    ({"experts": {"clinic": EXPERT}}, "experts.clinic", "name of the mesh"),
    ({"experts": {"general": {"files": {"expert.yaml": "a"}}}}, 'experts.general.files["expert.yaml"]', "settings"),
    ({"experts": {"general": {"files": {"instance.yaml": "a"}}}}, 'experts.general.files["instance.yaml"]', "settings"),
    ({"experts": {"general": {"files": {"more.txt": "a" * 410_000}}}}, "experts.general.files", "400 KiB"),
    ({"meshFiles": {"more.jsonl": "a" * 410_000}}, "meshFiles", "400 KiB"),
    ({"meshFiles": {"mesh.yaml": "a"}}, 'meshFiles["mesh.yaml"]', "mesh instead"),
    (
        {"experts": {name: {"files": {"more.txt": "a" * 210_000}} for name in ("general", "drug-interactions")}},
        "experts.",
        "all files together",
    ),
    ({"experts": {"general": {"settle": "16s"}}}, "experts.general.grace", "5s more than settle"),
    ({"expertDefaults": {"grace": "6500ms"}}, "experts.general.grace", "settle is 2s"),
    ({"mesh": {"settle": "20s"}}, "mesh.grace", "1s more than settle"),
    ({"mesh": {"grace": "2900ms"}}, "mesh.grace", "settle is 2s"),
    ({"mesh": {"gate": {"fallback": "genral"}}}, "mesh.gate.fallback", "care-coordination, clinical-documentation"),
    ({"experts": {"general": {"enabled": False}}}, "mesh.gate.fallback", '"general"'),
    ({"experts": {"general": {"name": "other"}}}, "mesh.gate.fallback", "general"),
    ({"fullnameOverride": "a" * 30}, "experts.clinical-documentation", "53 characters"),
    ({**OWN, "fullnameOverride": "a" * 60}, "fullnameOverride", "characters"),
    ({"etcd": {"enabled": False}}, "externalEtcd.endpoints", "where etcd is"),
    ({"externalEtcd": {"endpoints": ["http://etcd:2379"]}}, "externalEtcd.endpoints", "there are two"),
    (
        {"etcd": {"enabled": False}, "externalEtcd": {"endpoints": ["http://a:1", "https://b:1"]}},
        "externalEtcd.endpoints[1]",
        "http://host:port",
    ),
    (
        {
            "etcd": {"enabled": False},
            "externalEtcd": {"endpoints": ["http://a:1"], "tls": {"existingSecret": "certificate"}},
        },
        "externalEtcd.endpoints[0]",
        "https://host:port",
    ),
    ({"etcd": {"replicas": 3}}, "etcd.persistence.enabled", "3 members"),
    ({"tls": TLS}, "tls", "no way to certificates"),
    ({"tls": {**SELF_SIGNED, "certManager": {"enabled": True}}}, "tls", "several ways"),
    ({"tls": {**SELF_SIGNED, "existingSecrets": {"router": "a"}}}, "tls", "several ways"),
    ({"tls": {**SELF_SIGNED, "enabled": False}}, "tls.selfSigned", "tls.enabled is false"),
    ({"tls": {"certManager": {"enabled": True}}}, "tls.certManager", "tls.enabled is false"),
    ({"tls": {"existingSecrets": {"expert": "a"}}}, "tls.existingSecrets", "tls.enabled is false"),
    ({"tls": {"clientCertificates": True}}, "tls.clientCertificates", "tls.enabled is false"),
    ({"tls": {**TLS, "certManager": {"enabled": True}}}, "tls.certManager.issuerRef.name", "Issuer"),
    ({"tls": {**TLS, "existingSecrets": {"router": "a", "etcd": "b"}}}, "tls.existingSecrets.expert", "tls.crt"),
    ({"tls": {**TLS, "existingSecrets": {"router": "a", "expert": "b"}}}, "tls.existingSecrets.etcd", "tls.crt"),
    ({"models": {"source": "claim"}}, "models.claim.name", "PersistentVolumeClaim"),
    ({"models": {"source": "fetch"}}, "models.fetch.models", "download"),
    (
        {"models": {"source": "fetch", "fetch": {"models": {"minilm-l6": FETCHED}}}},
        "models.fetch.models.clinic-diagnostic",
        "experts.diagnostic-reasoning",
    ),
    (
        {"models": {"source": "fetch", "fetch": {"models": {"clinic-diagnostic": FETCHED}}}},
        "models.fetch.models.minilm-l6",
        "needs it",
    ),
    (scaling(minReplicas=9, maxReplicas=3), "experts.general.autoscaling.minReplicas", "at most maxReplicas"),
    (scaling(kind="keda"), "experts.general.autoscaling.keda.serverAddress", "http://prometheus"),
    (
        scaling(targetCPUUtilizationPercentage=0),
        "experts.general.autoscaling.targetCPUUtilizationPercentage",
        "or metrics",
    ),
    (
        {"router": {"autoscaling": {"enabled": True, "minReplicas": 20}}},
        "router.autoscaling.minReplicas",
        "at most maxReplicas",
    ),
]


@pytest.mark.parametrize(("values", "key", "said"), REFUSED, ids=lambda it: it if isinstance(it, str) else "")
def test_what_contradicts_is_refused(helm: Helm, values: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(RefusedError) as refused:
        helm.render(values)
    assert not isinstance(refused.value, SchemaError), refused.value
    lines = [line for line in str(refused.value).splitlines() if line.startswith(f"- {key}")]
    assert any(said in line and "expected: " in line for line in lines), str(refused.value)


def test_all_mistakes_come_together(helm: Helm) -> None:
    with pytest.raises(RefusedError) as refused:
        helm.render({"etcd": {"enabled": False}, "models": {"source": "claim"}, "tls": TLS})
    lines = [line for line in str(refused.value).splitlines() if line.startswith("- ")]
    assert [line[2:].partition(":")[0] for line in lines] == ["externalEtcd.endpoints", "tls", "models.claim.name"]


def test_rules_need_a_promise(helm: Helm) -> None:
    without = {"settings": {**EXPERT["settings"], "slo": {"latency": "1s"}}}
    with pytest.raises(RefusedError, match=r"experts\.one\.settings\.slo: expected \{latency, objective\}"):
        helm.render({**OWN, "experts": {"one": without}, "metrics": {"prometheusRule": {"enabled": True}}})


NEARLY: list[dict[str, Any]] = [
    OWN,
    scaling(minReplicas=1, kind="keda", keda={"serverAddress": "http://prometheus:9090"}),
    scaling(minReplicas=3, maxReplicas=3),
    {"fullnameOverride": "a" * 29},
    {"etcd": {"replicas": 3, "persistence": {"enabled": True}}},
    {"etcd": {"enabled": False}, "externalEtcd": {"endpoints": ["http://a:1"]}},
    {
        "etcd": {"enabled": False},
        "externalEtcd": {"endpoints": ["http://a:1"]},
        "tls": {**TLS, "existingSecrets": {"router": "a", "expert": "b"}},
    },
    {"experts": {"general": {"files": {"more.txt": "a" * 180_000}}}},
    {"expertDefaults": {"settle": "15s"}},
    {"mesh": {"settle": "19s"}},
    {"experts": {"general": {"enabled": False}, "house": {**EXPERT, "name": "general"}}},
]


@pytest.mark.parametrize("values", NEARLY, ids=lambda it: "+".join(it))
def test_what_only_looks_like_it_is_taken(helm: Helm, values: dict[str, Any]) -> None:
    assert helm.render(values)
