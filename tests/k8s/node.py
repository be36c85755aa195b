"""A real Kubernetes node on this machine, for tests: no Docker, no registry, no internet. Needs root.

    node.py up                start it, unless it runs; prints the path of its kubeconfig
    node.py load ARCHIVE…     give it images
    node.py run [COMMAND…]    run a command, or a shell, in its network, where its API server and all Services are
    node.py env               what `run` sets, for `eval`
    node.py status            its programs, what they use, and whether it is ready
    node.py down              end it and remove everything of it

It consists of etcd, the control plane, kubelet, kube-proxy, containerd and CoreDNS, all in namespaces of their own, and
writes nothing outside of `target`. Its network is the namespace `consilium-k8s`; nothing leads out of it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import signal
import sys
from pathlib import Path

from cluster import life
from cluster.layout import KUBECONFIG, LOCK, NAME, NETNS


def main() -> int:
    """Does what the command line says. 0: done; 1: it could not be done, and why; `status`: whether it can be used."""
    arguments = _arguments()
    command = arguments.command
    signal.signal(signal.SIGTERM, _interrupted)
    # Not in everybody's path: ip, iptables, runc.
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    try:
        if command == "up":
            with _alone():
                life.up()
            print(KUBECONFIG)
        elif command == "down":
            with _alone():
                life.down()
            print(f"{NAME}: down, nothing is left", file=sys.stderr)
        elif command == "load":
            life.load(arguments.archives)
        elif command == "run":
            life.within(arguments.argv or [os.environ.get("SHELL", "/bin/sh")])
        elif command == "env":
            for name, value in life.environment().items():
                print(f"export {name}={shlex.quote(value)}")
            print(f"export CONSILIUM_K8S_NETNS={shlex.quote(str(NETNS))}")
        else:
            return _status()
    except (life.NodeError, RuntimeError, OSError) as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{NAME}: interrupted", file=sys.stderr)
        return 130
    return 0


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _status() -> int:
    programs = life.running()
    for one in programs:
        print(f"{one.name:<20} {one.process:>8} {one.memory / 2**20:7.0f} MiB {one.processor:8.1f} s")
    if programs:
        print(f"{'':<20} {'':>8} {sum(one.memory for one in programs) / 2**20:7.0f} MiB")
    missing = life.missing()
    for want in missing:
        print(want)
    return 1 if missing else 0


def _alone() -> object:
    """A lock that a second `up` or `down` waits for."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    # Programs started from here must not inherit it, which Python sees to.
    file = LOCK.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in ("up", "down", "env", "status"):
        commands.add_parser(name)
    commands.add_parser("load").add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE")
    commands.add_parser("run").add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
