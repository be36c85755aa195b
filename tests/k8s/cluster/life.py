"""The order in which the node comes up, goes down, and is looked at."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import images
from cluster import api, dns, keys, programs, spaces
from cluster.layout import CONTAINERD_SOCKET, LOGS, NAME, NETNS, NODE, PROCESSES, STATE
from cluster.machine import wants
from cluster.programs import Program

# A cold start of the API server takes 10 seconds on two busy cores; nothing here takes long for any other reason.
SECONDS = 120
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class NodeError(Exception):
    """Why there is no node; the text is for people."""


@dataclass(frozen=True)
class Running:
    """What a program of the node uses now, in bytes and seconds."""

    name: str
    process: int
    memory: int
    processor: float


def up() -> None:
    """Starts the node, unless it runs already. A start that fails leaves nothing but files."""
    if not missing():
        print(f"{NAME}: up already", file=sys.stderr)
        return
    begun = time.monotonic()
    found = wants()
    if found:
        raise NodeError("no Kubernetes node can be started here:\n" + "\n".join(f"  - {want}" for want in found))
    down()
    try:
        _start()
    except BaseException:
        with contextlib.suppress(RuntimeError):
            spaces.remove()
        raise
    print(f"{NAME}: up after {time.monotonic() - begun:.1f} s", file=sys.stderr)


def down() -> None:
    """Ends the node and removes everything of it."""
    spaces.remove()
    if STATE.exists():
        shutil.rmtree(STATE)
    left = spaces.leftovers()
    if left:
        raise NodeError("still there: " + ", ".join(left))


def running() -> list[Running]:
    """The programs of the node that run."""
    holder = spaces.first()
    if holder is None or not PROCESSES.exists():
        return []
    found = []
    for name, process in json.loads(PROCESSES.read_text()).items():
        if spaces.belongs(process, holder):
            # Of the fields after the program's name in parentheses: user and system time, resident pages.
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            processor = (int(fields[11]) + int(fields[12])) / TICKS
            found.append(Running(name, process, int(fields[21]) * PAGE, processor))
    return found


def missing() -> list[str]:
    """What keeps the node from being used; nothing when it can be."""
    holder = spaces.first()
    if holder is None or not PROCESSES.exists():
        return ["it is not up"]
    gone = set(json.loads(PROCESSES.read_text())) - {one.name for one in running()}
    if gone:
        return [f"{name} has ended: see {LOGS / name}.log" for name in sorted(gone)]
    api.enter_network(NETNS)
    return [] if _ready() else [f"node {NODE} is not ready"]


def load(archives: list[Path]) -> None:
    """Gives the node the images of these archives. There is no registry: what is not given is not there."""
    holder = spaces.first()
    if holder is None:
        raise NodeError("the node is not up: `node.py up` starts it")
    for archive in archives:
        if not archive.is_file():
            raise NodeError(f"there is no archive {archive}")
        with _step(f"image {archive.name}"):
            _load(holder, archive)


def within(command: list[str]) -> None:
    """Becomes this command, in the network of the node and with its kubeconfig."""
    if not NETNS.exists():
        raise NodeError("the node is not up: `node.py up` starts it")
    api.enter_network(NETNS)
    os.execvpe(command[0], command, os.environ | environment())


def environment() -> dict[str, str]:
    """What a program needs to know to use the node."""
    tools = f"{programs.KUBERNETES}:{programs.ETCD.parent}"
    return {"KUBECONFIG": str(keys.kubeconfig("admin")), "PATH": f"{tools}:{os.environ['PATH']}"}


def _start() -> None:
    LOGS.mkdir(parents=True)
    with _step("keys and configuration"):
        keys.make()
        programs.write_configuration()
    with _step("pause"):
        pause = images.build("pause")
    with _step("namespaces"):
        holder = spaces.make()
        # From here on, what this process asks and starts is in the node's network.
        api.enter_network(NETNS)
    start = _Start(holder)
    with _step("etcd, containerd"):
        start.these(programs.etcd(), programs.containerd())
    with _step("API server"):
        start.begin(programs.apiserver())
        _load(holder, pause)
        start.wait()
    with _step("the other programs"):
        for program in programs.after_the_apiserver():
            start.begin(program)
        for path, manifest in dns.objects():
            api.apply(path, manifest)
        start.wait()
    with _step("node ready"):
        start.until(_ready, f"node {NODE} is not ready")
    with _step("names of Services"):
        start.until(lambda: dns.resolves(dns.KUBERNETES_NAME), f"{dns.KUBERNETES_NAME} is not found")


class _Start:
    """Programs on their way up."""

    def __init__(self, holder: int) -> None:
        self.holder = holder
        self.root = Path(f"/proc/{holder}/root")
        self.begun: dict[str, tuple[Program, subprocess.Popen[bytes]]] = {}
        self.processes: dict[str, int] = {}

    def these(self, *some: Program) -> None:
        for program in some:
            self.begin(program)
        self.wait()

    def begin(self, program: Program) -> None:
        with (LOGS / f"{program.name}.log").open("w") as log:
            self.begun[program.name] = program, spaces.enter(self.holder, program.arguments, log)

    def wait(self) -> None:
        """Waits for every program that has begun to be ready."""
        for program, _ in self.begun.values():
            if program.name not in self.processes:
                self.until(lambda p=program: api.answers(p.ready, self.root), f"{program.name} does not get ready")
                process = spaces.inside(self.begun[program.name][1])
                if process is None:
                    raise NodeError(f"{program.name} has ended: {self._end_of_log(program.name)}")
                self.processes[program.name] = process
        PROCESSES.write_text(json.dumps(self.processes, indent=2) + "\n")

    def until(self, true: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + SECONDS
        while not true():
            for name, (_, entering) in self.begun.items():
                if entering.poll() is not None:
                    raise NodeError(f"{name} has ended: {self._end_of_log(name)}")
            if time.monotonic() > end:
                raise NodeError(f"{otherwise} after {SECONDS} s: see {LOGS}")
            time.sleep(0.05)

    @staticmethod
    def _end_of_log(name: str) -> str:
        file = LOGS / f"{name}.log"
        return f"see {file}\n" + "\n".join(file.read_text(errors="replace").splitlines()[-10:])


def _ready() -> bool:
    try:
        node = api.get(f"/api/v1/nodes/{NODE}") or {}
        conditions = node.get("status", {}).get("conditions", [])
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        # A node that was not ready is marked so for a moment longer; without its account a namespace takes no pods.
        ready = ready and "taints" not in node["spec"]
        return ready and api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None
    except OSError:
        return False


def _load(holder: int, archive: Path) -> None:
    containerd = ["ctr", f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io"]
    command = [*containerd, "images", "import", str(archive.resolve())]
    with (LOGS / "images.log").open("a+") as log:
        if spaces.enter(holder, command, log).wait() != 0:
            log.seek(0)
            raise NodeError(f"containerd does not take {archive}: {log.read().strip().splitlines()[-1]}")


@contextlib.contextmanager
def _step(name: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    print(f"{NAME}: {name:<28} {time.monotonic() - begun:5.1f} s", file=sys.stderr, flush=True)
