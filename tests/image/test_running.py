"""The images at work, in containers on roots that cannot be written to."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import containers
from archives import Archive
from containers import Container
from layout import PROGRAMS, ROOT, version

pytestmark = pytest.mark.skipif(containers.impossible() is not None, reason=str(containers.impossible()))

Run = Callable[..., Container]


@pytest.fixture(scope="module")
def roots(images: Mapping[str, Archive], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("roots")
    for name, image in images.items():
        image.unpack(folder / name)
    return {name: folder / name for name in images}


@pytest.fixture
def container(images: Mapping[str, Archive], roots: Mapping[str, Path]) -> Run:
    """A container of an image: `container("router", "--help")`."""

    def made(image: str, *arguments: str, **more: object) -> Container:
        name = str(more.pop("name", image))
        return Container(name, roots[image], images[image].config()["config"], arguments, **more)  # type: ignore[arg-type]

    return made


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_starts(name: str, container: Run, tmp_path: Path) -> None:
    done = container(name, "--version").run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{PROGRAMS[name].binary} {version()}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_explains_itself(name: str, container: Run, tmp_path: Path) -> None:
    done = container(name, "--help").run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Usage: {PROGRAMS[name].binary}" in done.stdout


@pytest.mark.parametrize("shell", ["/bin/sh", "/usr/bin/sh", "/bin/busybox", "/usr/bin/env"])
def test_there_is_no_shell_to_run(shell: str, container: Run, tmp_path: Path) -> None:
    asked = container("router")
    done = Container("shell", asked.root, {**asked.config, "Entrypoint": [shell]}, ["-c", "true"]).run(tmp_path)
    assert done.returncode != 0
    assert "no such file or directory" in done.stderr


def test_the_tool_runs_a_whole_mesh_by_itself(container: Run, tmp_path: Path) -> None:
    """What `docker run consilium/cli demo …` does: gate and five experts on the models of the image."""
    done = container("cli", "demo", "/usr/share/consilium/meshes/clinic/mesh.yaml", "--json").run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[str]:
    """The tests' own, outside of the containers; gives its URL."""
    client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    command = [ROOT / ".tools/bin/etcd", "--data-dir", tmp_path / "etcd", "--log-level", "error"]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
    command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    with subprocess.Popen(command) as process:
        try:
            wait_for(f"{client}/readyz", process)
            yield client
        finally:
            process.terminate()


def test_router_and_expert_answer_through_etcd(container: Run, etcd: str, tmp_path: Path) -> None:
    mesh = {"/etc/consilium": ROOT / "meshes/clinic"}
    listen, admin, expert_listen, expert_admin = free_ports(4)
    started = {
        "expert": container(
            "expert",
            "/etc/consilium/experts/drug-interactions/expert.yaml",
            *("--mesh", "clinic", "--etcd", etcd),
            *("--listen", f"127.0.0.1:{expert_listen}", "--admin", f"127.0.0.1:{expert_admin}"),
            mounts=mesh,
            own_network=False,
        ),
        "router": container(
            "router",
            "/etc/consilium/mesh.yaml",
            *("--etcd", etcd, "--table", "/var/lib/consilium/registry.table"),
            *("--listen", f"127.0.0.1:{listen}", "--admin", f"127.0.0.1:{admin}"),
            mounts=mesh,
            own_network=False,
        ),
    }
    running = {name: one.start(tmp_path) for name, one in started.items()}
    try:
        wait_for(f"http://127.0.0.1:{expert_admin}/readyz", running["expert"])
        wait_for(f"http://127.0.0.1:{admin}/readyz", running["router"])
        asked = ask(container, f"http://127.0.0.1:{listen}", tmp_path)
        assert asked.returncode == 0, asked.stdout + asked.stderr
        answer = json.loads(asked.stdout)
        assert [reply["expert"] for reply in answer["replies"]] == ["drug-interactions"]
        assert answer["replies"][0]["instance"]
    finally:
        # The expert first, as its router would want it. Both leave in good order, as the first process of a container.
        for process in running.values():
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=60)
            print(said)
    assert {name: process.returncode for name, process in running.items()} == {"expert": 0, "router": 0}


def ask(container: Run, router: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A question by the tool's image, asked again while the router says that it does not know any expert yet."""
    deadline = time.monotonic() + 60
    for attempt in itertools.count():
        question = ("--deadline", "10s", "Can my patient take ibuprofen with warfarin?")
        tool = container(
            "cli", "ask", "--json", "--router", router, *question, name=f"ask-{attempt}", own_network=False
        )
        asked = tool.run(folder)
        if "GATE_UNAVAILABLE" not in asked.stdout + asked.stderr or time.monotonic() > deadline:
            break
    return asked


def free_ports(number: int) -> list[int]:
    """Nobody's at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(url: str, process: subprocess.Popen[str]) -> None:
    """Until it answers that all is well; fails when the process has ended."""
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, f"it ended: {process.communicate()[0]}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, f"{url} did not answer well"
            time.sleep(0.1)
