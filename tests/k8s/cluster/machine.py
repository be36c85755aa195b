"""What the node needs of the machine. Every want is said at once, each with what makes it good."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from cluster.layout import CGROUPS, CNI_PROGRAMS, COREDNS, ETCD, KUBERNETES, STATE

# Programs, and the Debian package that has each.
PROGRAMS = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "mount": "mount",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "openssl": "openssl",
    "cc": "gcc and libc6-dev",
}
CNI = ("bridge", "host-local", "loopback", "portmap")
# kubelet refuses to start without these.
CONTROLLERS = {"cpu", "cpuacct", "cpuset", "memory"}


def wants() -> list[str]:
    """What is missing here, a sentence each; nothing when the node can be started."""
    if platform.system() != "Linux":
        return ["the node is made of namespaces of a Linux kernel; this is " + platform.system()]
    found = [*_programs(), *_cgroups()]
    if os.geteuid() != 0:
        return [*found, "containers, namespaces and mounts need root"]
    if shutil.which("unshare"):
        found += _kernel()
    return found


def cgroup_folders() -> list[Path]:
    """The folder of every cgroup hierarchy: one for each controller with version 1, one in all with version 2."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return sorted(folder.resolve() for folder in CGROUPS.iterdir() if (folder / "cgroup.procs").exists())


def _programs() -> list[str]:
    found = [
        f"{program} is missing: install Debian's {package}"
        for program, package in PROGRAMS.items()
        if not shutil.which(program)
    ]
    found += [
        f"{CNI_PROGRAMS / plugin} is missing: install Debian's containernetworking-plugins"
        for plugin in CNI
        if not (CNI_PROGRAMS / plugin).exists()
    ]
    components = ("apiserver", "controller-manager", "scheduler", "proxy")
    built = {KUBERNETES / f"kube-{component}": "kubernetes" for component in components}
    built |= {KUBERNETES / "kubelet": "kubernetes", KUBERNETES / "kubectl": "kubernetes"}
    built |= {ETCD: "etcd", COREDNS: "coredns"}
    return found + [
        f"{program} is missing: `scripts/setup {step}` builds it, with Go"
        for program, step in built.items()
        if not os.access(program, os.X_OK)
    ]


def _cgroups() -> list[str]:
    if not CGROUPS.is_dir():
        return [f"no cgroups are mounted at {CGROUPS}"]
    folders = cgroup_folders()
    unified = folders == [CGROUPS]
    there = set((CGROUPS / "cgroup.controllers").read_text().split()) if unified else {path.name for path in folders}
    # Version 2 has no cpuacct: cpu counts too.
    there |= {part for name in there for part in name.split(",")} | ({"cpuacct"} if unified else set())
    missing = sorted(CONTROLLERS - there)
    return [f"cgroup controllers are not mounted: {', '.join(missing)}"] if missing else []


def _kernel() -> list[str]:
    spaces = ["unshare", "--mount", "--pid", "--net", "--fork", "--mount-proc"]
    tried = _try([*spaces, "true"])
    if tried:
        return [f"no new namespaces can be made here: {tried}"]
    found = []
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        found.append("the kernel was built without CONFIG_PROC_CHILDREN")
    bridge = _try([*spaces, "ip", "link", "add", "trial", "type", "bridge"])
    if bridge:
        found.append(f"no network bridge can be made: {bridge}")
    veth = _try([*spaces, "ip", "link", "add", "trial-0", "type", "veth", "peer", "name", "trial-1"])
    if veth:
        found.append(f"no veth pair can be made: {veth}")
    # What kube-proxy writes for a Service.
    there = "-A OUTPUT -p tcp -m comment --comment trial -m statistic --mode random --probability 0.5"
    there += " -j DNAT --to-destination 192.0.2.1:1"
    back = "-A POSTROUTING -j MASQUERADE --random-fully"
    nat = _try([*spaces, "sh", "-c", f"iptables -t nat {there} && iptables -t nat {back}"])
    if nat:
        found.append(f"iptables cannot translate addresses: {nat}")
    STATE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STATE) as folder:
        for name in ("lower", "upper", "work", "seen"):
            (Path(folder) / name).mkdir()
        options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        overlay = _try([*spaces, "mount", "-t", "overlay", "-o", options, "overlay", f"{folder}/seen"])
    if overlay:
        found.append(f"{STATE} does not take overlayfs: {overlay}")
    return found


def _try(command: list[str]) -> str:
    """Nothing when the command succeeds, else the last line of what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stderr or done.stdout).strip().splitlines()
    return "" if done.returncode == 0 else (said[-1] if said else f"exit code {done.returncode}")
