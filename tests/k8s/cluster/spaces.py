"""The node's own namespaces, and the few things outside of them that it needs: made, entered and removed here.

All programs of the node share one mount, one process and one network namespace. When the first process of the process
namespace ends, the kernel ends all others, those in containers included, and every mount goes with the last of them.
Little is left to remove: the name of the network namespace, the folders of the cgroups, and some empty folders.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from cluster.layout import CONFIG, KEYS, LOGS, MADE, NAME, NETNS, NODE_ADDRESS, NODE_NETWORK, PAUSE_PROGRAM, STATE
from cluster.machine import cgroup_folders

# Paths that are compiled into the programs. Inside, folders of our own lie over them.
OVERLAID = {
    "/var/lib/kubelet": STATE / "kubelet",
    "/var/lib/cni": STATE / "cni",
    "/var/log/pods": STATE / "pods",
    "/var/log/containers": STATE / "containers",
}
# Settings of the kernel, which are the whole machine's, with the values that kubelet insists on. It reads files of ours
# instead, and changes nothing: what happens after an oops or without memory is not a test's business.
SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
SECONDS = 20


def make() -> int:
    """Makes the namespaces and everything around them. Returns the first process, as the machine counts."""
    MADE.write_text(json.dumps([folder for folder in OVERLAID if not Path(folder).exists()]))
    for folder, ours in OVERLAID.items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        ours.mkdir(parents=True)
    for folder in cgroup_folders():
        _make_cgroup(folder / NAME)
    _make_network()
    return _make_processes()


def enter(holder: int, command: list[str], output: TextIO | int | None = None) -> subprocess.Popen[bytes]:
    """Starts a command inside. What is returned is only the process that waits for it: see `inside`."""
    entering = ["nsenter", f"--target={holder}", "--mount", "--net", "--pid", "--", *command]
    return subprocess.Popen(entering, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)


def inside(entering: subprocess.Popen[bytes]) -> int | None:
    """The process that a command started by `enter` became, as the machine counts; nothing before it is there."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{entering.pid}/task/{entering.pid}/children").read_text().split()
        if children:
            return int(children[0])
    return None


def belongs(process: int, holder: int) -> bool:
    """Whether this process runs in the namespaces of that first one, and is not another one with an old number."""
    try:
        return Path(f"/proc/{process}/ns/pid").readlink() == Path(f"/proc/{holder}/ns/pid").readlink()
    except OSError:
        return False


def first() -> int | None:
    """The first process of the node, where there is one. Looked for, not remembered: `target` may have been removed."""
    names = {str(PAUSE_PROGRAM), f"{PAUSE_PROGRAM} (deleted)"}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(process.joinpath("exe").readlink()) in names:
                return int(process.name)
    return None


def remove() -> None:
    """Ends everything inside and takes away what was made outside; whatever of it there is."""
    process = first()
    if process is None and NETNS.exists() and (user := _user_of(NETNS)):
        raise RuntimeError(f"process {user} is in the network {NETNS}: does another checkout have its node up?")
    if process is not None:
        os.kill(process, signal.SIGKILL)
        # The kernel lets it go only after all others.
        _until(lambda: not Path(f"/proc/{process}").exists(), "the node's processes do not end")
    if NETNS.exists():
        subprocess.run(["umount", NETNS], check=False, stderr=subprocess.DEVNULL)
        NETNS.unlink()
        with contextlib.suppress(OSError):  # others may have theirs there
            NETNS.parent.rmdir()
    for folder in cgroup_folders():
        _remove_cgroup(folder / NAME)
    if MADE.exists():
        for folder in json.loads(MADE.read_text()):
            with contextlib.suppress(OSError):  # others may have put something there
                Path(folder).rmdir()
        MADE.unlink()


def leftovers() -> list[str]:
    """What of the node is still on the machine: nothing, after `remove`."""
    found = [f"cgroup {folder / NAME}" for folder in cgroup_folders() if (folder / NAME).exists()]
    found += [f"network namespace {NETNS}"] if NETNS.exists() else []
    mounts = [Path(line.split()[1]) for line in Path("/proc/self/mounts").read_text().splitlines()]
    found += [f"mount {place}" for place in mounts if place == NETNS or place.is_relative_to(STATE)]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = process.joinpath("cmdline").read_text().split("\0")
            if any(f"{folder}/" in part for folder in (CONFIG, KEYS) for part in command):
                found.append(f"process {process.name} {command[0]}")
    return found + ([f"process {first()} {PAUSE_PROGRAM}"] if first() else [])


def _user_of(netns: Path) -> str | None:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            other = process.name != str(os.getpid())
            if other and process.joinpath("ns/net").stat().st_ino == netns.stat().st_ino:
                return process.name
    return None


def _make_cgroup(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    # Version 1 lets no process into a set of processors that has none.
    for file in ("cpuset.cpus", "cpuset.mems"):
        above = folder.parent / file
        if above.exists():
            (folder / file).write_text(above.read_text())
    # Version 2 offers below only what is named above.
    offered = folder / "cgroup.controllers"
    if offered.exists():
        everything = " ".join(f"+{name}" for name in (folder.parent / "cgroup.controllers").read_text().split())
        (folder.parent / "cgroup.subtree_control").write_text(everything)


def _remove_cgroup(folder: Path) -> None:
    def gone() -> bool:
        with contextlib.suppress(OSError):
            for inner, _, _ in os.walk(folder, topdown=False):
                Path(inner).rmdir()
        return not folder.exists()

    _until(gone, f"{folder} is still in use")


def _make_network() -> None:
    NETNS.parent.mkdir(parents=True, exist_ok=True)
    NETNS.touch()
    # Not `ip netns add`, which leaves a mount of the folder; and not `ip netns exec` later, which hides the cgroups.
    subprocess.run(["unshare", f"--net={NETNS}", "true"], check=True)
    commands = [
        "link set lo up",
        # Not every kernel has a `dummy` device, and a node may not have a loopback address. A bridge serves as well.
        "link add node type bridge",
        f"address add {NODE_ADDRESS}/{NODE_NETWORK.split('/')[1]} dev node",
        "link set node up",
        # Nobody is there, but a node without a default route finds no address of its own.
        f"route add default via {NODE_NETWORK.replace('.0/24', '.254')} dev node",
    ]
    within = ["nsenter", f"--net={NETNS}", "--"]
    subprocess.run([*within, "ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)
    switches = " && ".join(
        f"echo 1 >/proc/sys/net/{name}"
        for name in ("ipv4/ip_forward", "bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables")
    )
    subprocess.run([*within, "sh", "-c", switches], check=True)


def _make_processes() -> int:
    binds = dict(OVERLAID)
    for name, value in SETTINGS.items():
        ours = binds[f"/proc/sys/{name}"] = STATE / "settings" / name
        ours.parent.mkdir(parents=True, exist_ok=True)
        ours.write_text(f"{value}\n")
    mounts = [
        # kubelet hands mounts on to containers.
        "mount --make-rshared /",
        "mount -t tmpfs -o mode=755 node-run /run",
        *(f"mount --bind {shlex.quote(str(ours))} {theirs}" for theirs, ours in binds.items()),
    ]
    script = " && ".join([*mounts, f"exec {shlex.quote(str(PAUSE_PROGRAM))}"])
    spaces = ["nsenter", f"--net={NETNS}", "--", "unshare", "--mount", "--pid", "--fork", "--mount-proc"]
    with (LOGS / "node.log").open("w") as log:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        unsharing = subprocess.Popen([*spaces, "sh", "-c", script], **streams, start_new_session=True)

    def ready() -> bool:
        if unsharing.poll() is not None:
            raise RuntimeError(f"the node's namespaces cannot be made: {(LOGS / 'node.log').read_text().strip()}")
        return first() is not None

    _until(ready, "the node's first process does not start")
    process = first()
    assert process is not None
    return process


def _until(true: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > end:
            raise RuntimeError(otherwise)
        time.sleep(0.02)
