"""Where everything of the node lies, and what it is called: paths, addresses, names. Nothing is done here."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
TOOLS = REPOSITORY / ".tools"
KUBERNETES = TOOLS / "kubernetes"
ETCD = TOOLS / "bin" / "etcd"
COREDNS = TOOLS / "bin" / "coredns"
CNI_PROGRAMS = Path("/usr/lib/cni")
CGROUPS = Path("/sys/fs/cgroup")

# Everything that the node writes is below this folder. It must lie on a disk that takes the upper folders of overlayfs.
STATE = REPOSITORY / "target" / "k8s"
KEYS = STATE / "keys"
LOGS = STATE / "logs"
CONFIG = STATE / "config"
KUBECONFIG = STATE / "kubeconfig"
PROCESSES = STATE / "processes.json"
# The folders that `up` had to make outside of this one, so that `down` can remove them.
MADE = STATE / "made.json"
# Archives of images, and the program that holds namespaces: good for the next node as well.
IMAGES = REPOSITORY / "target" / "k8s-images"
PAUSE_PROGRAM = IMAGES / "pause"
# Beside the folder, because `down` removes the folder.
LOCK = REPOSITORY / "target" / "k8s.lock"

NAME = "consilium-k8s"
NODE = "node-1"
ZONE = "zone-a"
REGION = "region-a"
NETNS = Path("/run/netns") / NAME

NODE_ADDRESS = "10.99.0.1"
NODE_NETWORK = "10.99.0.0/24"
POD_NETWORK = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
DOMAIN = "cluster.local"
API_PORT = 6443
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
PAUSE = "registry.k8s.io/pause:3.10.1"
