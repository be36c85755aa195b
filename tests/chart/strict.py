"""Whether Kubernetes would take an object: its own schemas, in which a field that does not exist is an error.

Kinds that others add to Kubernetes have no schema in it. Of those, what this chart writes is listed here.
"""

from __future__ import annotations

import functools
import json
import re
from importlib import resources
from typing import Any

import jsonschema
import referencing

Json = dict[str, Any]

# The oldest one that the chart says it takes, the one that tests/k8s runs, and the newest that there are schemas of.
VERSIONS = ("1.30", "1.35", "1.37")


def mistakes(it: Json, version: str) -> list[str]:
    """What is wrong with an object, each with the path to it."""
    group = it["apiVersion"].split("/")[0]
    if (it["apiVersion"], it["kind"]) in FOREIGN:
        validator = _foreign(it["apiVersion"], it["kind"])
    elif "." in group and not group.endswith(".k8s.io"):
        return [f"nobody knows {it['kind']} of {it['apiVersion']}"]
    else:
        validator = _native(it["apiVersion"], it["kind"], version)
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(it)]


@functools.lru_cache
def _native(api_version: str, kind: str, version: str) -> jsonschema.protocols.Validator:
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = _read(version, f"{kind.lower()}-{group}.json")
    registry = _definitions(version) @ (referencing.Resource.from_contents(schema) @ referencing.Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


@functools.lru_cache
def _definitions(version: str) -> referencing.Resource:
    return referencing.Resource.from_contents(_read(version, "_definitions.json"))


def _read(version: str, name: str) -> Json:
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    return json.loads((folder / name).read_text(encoding="utf-8"))


def _foreign(api_version: str, kind: str) -> jsonschema.protocols.Validator:
    spec = FOREIGN[api_version, kind]
    return jsonschema.Draft202012Validator(
        _map(apiVersion={"const": api_version}, kind={"const": kind}, metadata={"type": "object"}, spec=spec)
    )


def _map(optional: tuple[str, ...] = (), /, **properties: Json) -> Json:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _list(items: Json, least: int = 0) -> Json:
    return {"type": "array", "items": items, "minItems": least}


_TEXT: Json = {"type": "string", "minLength": 1}
_TEXTS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
_NUMBER: Json = {"type": "integer"}
_SELECTOR = _map(matchLabels={**_TEXTS, "minProperties": 1})
_PROMETHEUS_DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d|w|y))+$"}
_GO_DURATION = {"type": "string", "pattern": "^([0-9]+(h|m|s))+$"}
_RELABELING = _map(action={"enum": ["replace"]}, sourceLabels=_list(_TEXT, 1), targetLabel=_TEXT)
_ENDPOINT = _map(port=_TEXT, path=_TEXT, interval=_PROMETHEUS_DURATION, relabelings=_list(_RELABELING))
_RECORD = _map(record=_TEXT, expr=_TEXT, labels=_TEXTS)
_ALERT = _map(
    ("for",), **{"alert": _TEXT, "expr": _TEXT, "for": _PROMETHEUS_DURATION, "labels": _TEXTS, "annotations": _TEXTS}
)
_GROUP = _map(("interval",), name=_TEXT, interval=_PROMETHEUS_DURATION, rules=_list({"oneOf": [_RECORD, _ALERT]}, 1))
_TRIGGER = _map(("metricType", "name"), type=_TEXT, name=_TEXT, metricType=_TEXT, metadata=_TEXTS)

FOREIGN: dict[tuple[str, str], Json] = {
    ("monitoring.coreos.com/v1", "PodMonitor"): _map(
        jobLabel=_TEXT, selector=_SELECTOR, podMetricsEndpoints=_list(_ENDPOINT, 1)
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _map(groups=_list(_GROUP, 1)),
    ("keda.sh/v1alpha1", "ScaledObject"): _map(
        ("fallback", "advanced"),
        scaleTargetRef=_map(("apiVersion", "kind"), apiVersion=_TEXT, kind=_TEXT, name=_TEXT),
        minReplicaCount=_NUMBER,
        maxReplicaCount=_NUMBER,
        pollingInterval=_NUMBER,
        cooldownPeriod=_NUMBER,
        fallback={"type": "object"},
        advanced={"type": "object"},
        triggers=_list(_TRIGGER, 1),
    ),
    ("cert-manager.io/v1", "Certificate"): _map(
        ("commonName", "ipAddresses", "secretTemplate", "isCA"),
        secretName=_TEXT,
        secretTemplate={"type": "object"},
        commonName={"type": "string", "minLength": 1, "maxLength": 64},
        isCA={"type": "boolean"},
        dnsNames=_list(_TEXT, 1),
        ipAddresses=_list(_TEXT),
        duration=_GO_DURATION,
        renewBefore=_GO_DURATION,
        usages=_list({"enum": ["server auth", "client auth", "digital signature", "key encipherment"]}, 1),
        privateKey=_map(
            ("encoding", "size"),
            algorithm={"enum": ["ECDSA", "RSA", "Ed25519"]},
            encoding={"enum": ["PKCS1", "PKCS8"]},
            size=_NUMBER,
            rotationPolicy={"enum": ["Always", "Never"]},
        ),
        issuerRef=_map(name=_TEXT, kind=_TEXT, group=_TEXT),
    ),
}
