"""The DNS of the cluster: a process at the node's address, what it may read, and the Service that pods ask."""

from __future__ import annotations

import secrets
import socket
import struct
from typing import Any

from cluster.layout import DNS_SERVICE, DOMAIN, NODE_ADDRESS

# The name that every cluster has.
KUBERNETES_NAME = f"kubernetes.default.svc.{DOMAIN}"


def objects() -> list[tuple[str, dict[str, Any]]]:
    """What makes the DNS process a part of the cluster: what it may read, and a Service in front of it."""
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    rbac, name = "rbac.authorization.k8s.io", "system:coredns"
    # By address and port, because there is no pod that a selector could find.
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    service = {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
    endpoints = {"name": "kube-dns", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"}}
    return [
        (
            f"/apis/{rbac}/v1/clusterroles/{name}",
            {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        ),
        (
            f"/apis/{rbac}/v1/clusterrolebindings/{name}",
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
                "subjects": [{"apiGroup": rbac, "kind": "User", "name": name}],
            },
        ),
        (
            "/api/v1/namespaces/kube-system/services/kube-dns",
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": service,
                "spec": {"clusterIP": DNS_SERVICE, "ports": ports},
            },
        ),
        (
            "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns",
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": endpoints,
                "addressType": "IPv4",
                "ports": ports,
                "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
            },
        ),
    ]


def resolves(name: str) -> bool:
    """Whether the cluster's DNS knows an address of this name, asked by the address of its Service."""
    identity = secrets.randbelow(1 << 16)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = struct.pack(">6H", identity, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">B2H", 0, 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        try:
            client.sendto(question, (DNS_SERVICE, 53))
            answer = client.recv(512)
        except OSError:
            return False
    replied, flags, _, found = struct.unpack(">4H", answer[:8])
    return replied == identity and flags & 0x000F == 0 and found > 0
