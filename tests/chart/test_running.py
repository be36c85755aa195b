"""What runs: an upgrade that would break the etcd of a release is refused, and what was made once is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster import cluster
from helms import HELM_3, Program, RefusedError
from objects import Objects

pytestmark = pytest.mark.skipif(not HELM_3.exists(), reason="only a Helm that is a program asks a cluster")

KEPT = {"persistence": {"enabled": True}}
TLS = {"enabled": True, "selfSigned": {"enabled": True}}


def upgraded(before: dict[str, Any], after: dict[str, Any], folder: Path) -> tuple[Objects, Objects]:
    """What runs with the values of before, and what a cluster that has it would be given with those of after."""
    helm = Program("helm 3", HELM_3)
    running = Objects(helm.render(before))
    with cluster(running.all, "clinic", folder) as config:
        return running, Objects(helm.render(after, options=("--dry-run=server", "--kubeconfig", str(config))))


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"etcd": KEPT}, {"etcd": {**KEPT, "replicas": 3}}, "etcd.replicas: 3", "runs with 1"),
    ({"etcd": {**KEPT, "replicas": 3}}, {"etcd": KEPT}, "etcd.replicas: 1", "runs with 3"),
    ({}, {"etcd": KEPT}, "etcd.persistence.enabled: true", "runs with false"),
    ({"etcd": KEPT}, {}, "etcd.persistence.enabled: false", "runs with true"),
    ({"etcd": KEPT}, {"etcd": KEPT, "tls": TLS}, "tls.enabled: true", "with false"),
    ({"etcd": KEPT, "tls": TLS}, {"etcd": KEPT}, "tls.enabled: false", "with true"),
]


@pytest.mark.parametrize(("before", "after", "key", "said"), REFUSED, ids=lambda it: it if isinstance(it, str) else "")
def test_what_would_break_etcd_is_refused(
    before: dict[str, Any], after: dict[str, Any], key: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError) as refused:
        upgraded(before, after, tmp_path)
    (line,) = [line for line in str(refused.value).splitlines() if line.startswith("- ")]
    assert line.startswith(f"- {key}, "), line
    assert said in line
    assert "as before" in line
    assert "UPGRADING.md" in line


TAKEN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"etcd": {**KEPT, "replicas": 3}, "tls": TLS}, {"etcd": {**KEPT, "replicas": 3}, "tls": TLS}),
    # One member without data begins anew whatever it is told.
    ({}, {"tls": TLS}),
    ({"tls": TLS}, {}),
    ({"etcd": {**KEPT, "replicas": 3}}, {"etcd": {"enabled": False}, "externalEtcd": {"endpoints": ["http://a:1"]}}),
]


@pytest.mark.parametrize(("before", "after"), TAKEN, ids=str)
def test_other_upgrades_are_taken(before: dict[str, Any], after: dict[str, Any], tmp_path: Path) -> None:
    assert upgraded(before, after, tmp_path)[1].all


def test_keys_and_certificates_stay_as_they_are(tmp_path: Path) -> None:
    before, after = upgraded({"tls": TLS}, {"tls": TLS, "router": {"replicas": 5}}, tmp_path)
    secrets = before.of("Secret")
    assert len(secrets) == 5
    for it in secrets:
        assert after.get("Secret", it["metadata"]["name"])["data"] == it["data"], it["metadata"]["name"]
