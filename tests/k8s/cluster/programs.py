"""What the node consists of: each program with its arguments, its configuration and how it says that it is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cluster import keys
from cluster.layout import (
    API_PORT,
    CNI_PROGRAMS,
    CONFIG,
    CONTAINERD_SOCKET,
    COREDNS,
    DNS_SERVICE,
    DOMAIN,
    ETCD,
    KEYS,
    KUBERNETES,
    NAME,
    NODE,
    NODE_ADDRESS,
    PAUSE,
    POD_NETWORK,
    REGION,
    SERVICE_NETWORK,
    STATE,
    ZONE,
)


@dataclass(frozen=True)
class Program:
    """One process of the node. `ready` is a URL that answers 200 as soon as others can rely on it, or a Unix socket."""

    name: str
    arguments: list[str]
    ready: str


def write_configuration() -> None:
    """Writes the files that the programs below are started with."""
    CONFIG.mkdir(parents=True)
    (CONFIG / "containerd.toml").write_text(_containerd())
    (CONFIG / "net.d").mkdir()
    (CONFIG / "net.d" / "10-pods.conflist").write_text(json.dumps(_pod_network(), indent=2))
    (CONFIG / "kubelet.json").write_text(json.dumps(_kubelet(), indent=2))
    (CONFIG / "proxy.json").write_text(json.dumps(_proxy(), indent=2))
    (CONFIG / "Corefile").write_text(_corefile())


def containerd() -> Program:
    """What runs containers."""
    return Program("containerd", ["containerd", "--config", f"{CONFIG}/containerd.toml"], f"unix:{CONTAINERD_SOCKET}")


def etcd() -> Program:
    """Where the API server keeps everything."""
    # A cluster that lives for one test run has nothing to lose in a power cut.
    arguments = [str(ETCD), "--name=node", f"--data-dir={STATE}/etcd", "--unsafe-no-fsync", "--log-level=warn"]
    return Program("etcd", arguments, "http://127.0.0.1:2379/readyz")


def apiserver() -> Program:
    """What everybody talks to."""
    arguments = [
        f"{KUBERNETES}/kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={NODE_ADDRESS}",
        f"--secure-port={API_PORT}",
        f"--tls-cert-file={KEYS}/apiserver.crt",
        f"--tls-private-key-file={KEYS}/apiserver.key",
        f"--client-ca-file={keys.AUTHORITY}",
        f"--kubelet-certificate-authority={keys.AUTHORITY}",
        f"--kubelet-client-certificate={KEYS}/apiserver-to-kubelet.crt",
        f"--kubelet-client-key={KEYS}/apiserver-to-kubelet.key",
        # Nothing here resolves the node's name.
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        f"--service-account-signing-key-file={keys.SERVICE_ACCOUNTS}",
        f"--service-account-key-file={keys.SERVICE_ACCOUNTS_PUBLIC}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        # Nobody aggregates other APIs here, but the others look for this authority, and complain without end.
        f"--requestheader-client-ca-file={keys.AUTHORITY}",
        "--requestheader-allowed-names=nobody",
        "--profiling=false",
    ]
    return Program("apiserver", arguments, f"https://127.0.0.1:{API_PORT}/readyz")


def controller_manager() -> Program:
    """What makes pods of Deployments, endpoints of pods, and so on."""
    arguments = [
        f"{KUBERNETES}/kube-controller-manager",
        *_as_client("controller-manager"),
        "--use-service-account-credentials",
        f"--service-account-private-key-file={keys.SERVICE_ACCOUNTS}",
        f"--root-ca-file={keys.AUTHORITY}",
        # Each controller asks for an account of its own as it starts. The usual 20 requests a second make 4 s of it.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    ]
    return Program("controller-manager", arguments, "https://127.0.0.1:10257/healthz")


def scheduler() -> Program:
    """What says which node a pod goes to: there is one."""
    arguments = [f"{KUBERNETES}/kube-scheduler", *_as_client("scheduler"), "--profiling=false"]
    return Program("scheduler", arguments, "https://127.0.0.1:10259/healthz")


def kubelet() -> Program:
    """What makes containers of the pods of this node, and asks them how they are."""
    labels = {"topology.kubernetes.io/zone": ZONE, "topology.kubernetes.io/region": REGION}
    arguments = [
        f"{KUBERNETES}/kubelet",
        f"--config={CONFIG}/kubelet.json",
        f"--kubeconfig={keys.kubeconfig('node')}",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
        "--node-labels=" + ",".join(f"{key}={value}" for key, value in labels.items()),
    ]
    return Program("kubelet", arguments, "http://127.0.0.1:10248/healthz")


def proxy() -> Program:
    """What makes the addresses of Services lead to pods."""
    arguments = [f"{KUBERNETES}/kube-proxy", f"--config={CONFIG}/proxy.json", f"--hostname-override={NODE}"]
    return Program("proxy", arguments, "http://127.0.0.1:10256/healthz")


def dns() -> Program:
    """What gives Services and pods names."""
    # A process, not a pod: the names are there as soon as the node is, and no image has to be made for it.
    return Program("dns", [str(COREDNS), "-conf", f"{CONFIG}/Corefile"], "http://127.0.0.1:8181/ready")


def after_the_apiserver() -> list[Program]:
    """What needs nothing but the API server, and so starts at once."""
    return [controller_manager(), scheduler(), kubelet(), proxy(), dns()]


def _as_client(client: str) -> list[str]:
    file = keys.kubeconfig(client)
    used = [f"--{use}kubeconfig={file}" for use in ("", "authentication-", "authorization-")]
    # There is one of each: an election would only delay the start.
    return [*used, "--leader-elect=false", "--bind-address=127.0.0.1"]


def _containerd() -> str:
    plugin = 'plugins."io.containerd.grpc.v1.cri"'
    unused = ["aufs", "btrfs", "devmapper", "native", "zfs"]
    return f"""version = 2
root = "{STATE}/containerd"
state = "{CONTAINERD_SOCKET.parent}"
disabled_plugins = {json.dumps([f"io.containerd.snapshotter.v1.{name}" for name in unused])}

[grpc]
address = "{CONTAINERD_SOCKET}"

[{plugin}]
sandbox_image = "{PAUSE}"
# Without CAP_SYS_RESOURCE runc cannot set the negative score of a pod's sandbox, and every pod fails.
restrict_oom_score_adj = true
tolerate_missing_hugetlb_controller = true
# Below the state folder, which is the node's own, instead of the machine's /run/netns.
netns_mounts_under_state_dir = true

[{plugin}.containerd]
snapshotter = "overlayfs"

[{plugin}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{plugin}.containerd.runtimes.runc.options]
SystemdCgroup = false

[{plugin}.cni]
bin_dir = "{CNI_PROGRAMS}"
conf_dir = "{CONFIG}/net.d"
"""


def _pod_network() -> dict[str, Any]:
    ranges = {"type": "host-local", "subnet": POD_NETWORK, "routes": [{"dst": "0.0.0.0/0"}]}
    # A pod that calls its own Service is the hairpin.
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True, "ipam": ranges}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}


def _kubelet() -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {"x509": {"clientCAFile": str(keys.AUTHORITY)}},
        "tlsCertFile": f"{KEYS}/kubelet.crt",
        "tlsPrivateKeyFile": f"{KEYS}/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        # One folder in each hierarchy, which `down` removes.
        "cgroupRoot": f"/{NAME}",
        # Kubernetes 1.35 starts on version 1 of the cgroups only when it is told to.
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        # Else it would write the settings that it does not find as it wants them.
        "protectKernelDefaults": True,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": DOMAIN,
        # Nothing outside of the cluster has a name here.
        "resolvConf": "",
        # A full disk of the machine is not this node's affair, and its images cannot be pulled again.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


def _proxy() -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(keys.kubeconfig("proxy"))},
        "mode": "iptables",
        "clusterCIDR": POD_NETWORK,
        "oomScoreAdj": 0,
        # The limits of connection tracking are the machine's, not a namespace's, and not to be written here.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def _corefile() -> str:
    zones = f"{DOMAIN} in-addr.arpa ip6.arpa"
    # Two servers: in one, `template` would answer before `kubernetes` is asked, whatever stands first here.
    return f"""{zones} {{
    bind {NODE_ADDRESS}
    errors
    ready 127.0.0.1:8181
    kubernetes {zones} {{
        kubeconfig {keys.kubeconfig("dns")}
        pods insecure
        ttl 30
    }}
    loadbalance
}}

# Every other name does not exist. Without an answer a resolver would ask again and again.
. {{
    bind {NODE_ADDRESS}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
