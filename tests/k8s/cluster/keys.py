"""Who is who in the cluster: one authority, a certificate for each program, and the kubeconfigs that carry them."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

from cluster.layout import API_PORT, DOMAIN, KEYS, KUBECONFIG, KUBERNETES_SERVICE, NODE, NODE_ADDRESS

AUTHORITY = KEYS / "ca.crt"
SERVICE_ACCOUNTS = KEYS / "service-accounts.key"
SERVICE_ACCOUNTS_PUBLIC = KEYS / "service-accounts.pub"

# The names and groups that the roles of a fresh API server know.
CLIENTS = {
    "admin": ("consilium-admin", "system:masters"),
    "apiserver-to-kubelet": ("kube-apiserver-kubelet-client", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "node": (f"system:node:{NODE}", "system:nodes"),
    "dns": ("system:coredns", ""),
}
DAYS = "30"


def make() -> None:
    """Writes all of it, for one life of the node: the next `up` makes new ones."""
    KEYS.mkdir(parents=True, mode=0o700)
    _key(KEYS / "ca.key")
    own = ["-key", KEYS / "ca.key", "-subj", "/CN=consilium-k8s", "-out", AUTHORITY]
    _openssl("req", "-x509", "-new", *own, "-days", DAYS)
    service = f"kubernetes.default.svc.{DOMAIN}".split(".")
    names = [".".join(service[:parts]) for parts in (1, 2, 3, len(service))]
    _certificate("apiserver", "/CN=kube-apiserver", serves=[*names, KUBERNETES_SERVICE, NODE_ADDRESS, "127.0.0.1"])
    _certificate("kubelet", f"/CN=system:node:{NODE}/O=system:nodes", serves=[NODE, NODE_ADDRESS])
    for client, (name, group) in CLIENTS.items():
        _certificate(client, f"/CN={name}" + (f"/O={group}" if group else ""))
    _key(SERVICE_ACCOUNTS)
    _openssl("pkey", "-in", SERVICE_ACCOUNTS, "-pubout", "-out", SERVICE_ACCOUNTS_PUBLIC)
    for client in CLIENTS:
        kubeconfig(client).write_text(_kubeconfig(client))
        kubeconfig(client).chmod(0o600)


def kubeconfig(client: str) -> Path:
    """The file by which this client finds the API server and proves who it is."""
    return KUBECONFIG if client == "admin" else KEYS / f"{client}.kubeconfig"


def _key(path: Path) -> None:
    # Elliptic: seven RSA keys of 2048 bits would take a second.
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)


def _certificate(name: str, subject: str, *, serves: list[str] | None = None) -> None:
    _key(KEYS / f"{name}.key")
    usage = "serverAuth" if serves else "clientAuth"
    extensions = ["-addext", f"extendedKeyUsage={usage}", "-addext", "basicConstraints=critical,CA:FALSE"]
    if serves:
        alternatives = [("IP:" if one.replace(".", "").isdigit() else "DNS:") + one for one in serves]
        extensions += ["-addext", f"subjectAltName={','.join(alternatives)}"]
    signed = ["-CA", AUTHORITY, "-CAkey", KEYS / "ca.key", "-days", DAYS]
    own = ["-key", KEYS / f"{name}.key", "-subj", subject, "-out", KEYS / f"{name}.crt"]
    _openssl("req", "-x509", "-new", *own, *signed, *extensions)


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")


def _kubeconfig(client: str) -> str:
    def data(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    server = {"server": f"https://{NODE_ADDRESS}:{API_PORT}", "certificate-authority-data": data(AUTHORITY)}
    own = {"client-certificate-data": data(KEYS / f"{client}.crt"), "client-key-data": data(KEYS / f"{client}.key")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "consilium", "cluster": server}],
        "users": [{"name": client, "user": own}],
        "contexts": [{"name": "consilium", "context": {"cluster": "consilium", "user": client}}],
        "current-context": "consilium",
    }
    return json.dumps(config, indent=2) + "\n"
