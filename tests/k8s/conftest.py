"""Where the suite runs, and what its tests are given.

    pytest tests/k8s                                   on a node of its own, which it starts and removes
    KUBECONFIG=… pytest tests/k8s --registry HOST/PATH  in namespaces of its own on a cluster that can pull the images,
                                                       that of the load (`images.py load` writes it) included

The tests are one story, in the order of their files: a mesh is installed, asked, changed, hurt and removed. Each also
runs alone (`-k`): whatever it needs is installed for it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from cluster.layout import NETNS
from suite.cluster import Cluster, Namespace
from suite.load import IMAGE, Load
from suite.processes import REPOSITORY, TOOLS, CommandError, eventually, run
from suite.release import Release
from suite.table import Row, Table

HERE = Path(__file__).parent
RESULTS = REPOSITORY / "target" / "k8s-suite"
SHIPPED = ("router", "expert", "cli")

UnderLoad = Callable[[str], AbstractContextManager[Row]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """What can be said besides."""
    group = parser.getgroup("consilium")
    group.addoption("--registry", default="", help="where a cluster in KUBECONFIG pulls the images from")
    group.addoption("--chart", type=Path, default=REPOSITORY / "helm" / "consilium", help="a folder or a package")
    group.addoption(
        "--images", type=Path, default=REPOSITORY / "target" / "image", help="what a node of our own is given"
    )
    group.addoption("--values", action="append", default=[], help="a file of values for every install and upgrade")
    group.addoption("--keep", action="store_true", help="leave node and namespaces as they are at the end")


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Table:
    """The table that is printed at the end."""
    table = Table()
    pytestconfig.stash[TABLE] = table
    return table


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config, table: Table) -> Iterator[Cluster]:
    """The cluster of KUBECONFIG, or else a node of our own with the images of `make image` in it."""
    given = os.environ.get("KUBECONFIG")
    if given:
        yield Cluster(Path(given).resolve(), shutil.which("kubectl") or "kubectl")
        return
    with table.step("a node is started, and given the images"):
        kubeconfig = _node("up", within=600).strip().splitlines()[-1]
        _node("load", *(str(archive) for archive in _archives(pytestconfig.getoption("--images"))), within=600)
    kubectl = str(TOOLS / "kubernetes" / "kubectl")
    try:
        yield Cluster(Path(kubeconfig), kubectl, ("nsenter", f"--net={NETNS}", "--"))
    finally:
        if not pytestconfig.getoption("--keep"):
            _node("down")


@pytest.fixture(scope="session")
def make_namespace(pytestconfig: pytest.Config, cluster: Cluster) -> Iterator[Callable[[str], Namespace]]:
    """Makes namespaces in which the API server refuses what is not `restricted`, and removes them at the end."""
    made: list[Namespace] = []

    def make(purpose: str) -> Namespace:
        namespace = Namespace(cluster, f"consilium-test-{purpose}-{secrets.token_hex(2)}")
        cluster.kubectl("create", "namespace", namespace.name)
        made.append(namespace)
        labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn", "audit")]
        cluster.kubectl("label", "namespace", namespace.name, *labels)
        eventually("a new namespace has its account", lambda: namespace.items("serviceaccounts"), within=30)
        return namespace

    yield make
    if not pytestconfig.getoption("--keep"):
        for namespace in made:
            cluster.kubectl("delete", "namespace", namespace.name, "--timeout=3m", within=200)


@pytest.fixture(scope="session")
def make_release(
    pytestconfig: pytest.Config, make_namespace: Callable[[str], Namespace]
) -> Callable[[str, str], Release]:
    """Gives a release its name and a namespace, and each install what the command line says besides."""
    registry = pytestconfig.getoption("--registry")
    files = [part for file in pytestconfig.getoption("--values") for part in ("--values", str(Path(file).resolve()))]
    always = [*files, *(["--set", f"image.registry={registry}"] if registry else [])]
    chart = pytestconfig.getoption("--chart").resolve()
    return lambda name, purpose: Release(make_namespace(purpose), name, chart, always)


@pytest.fixture(scope="session")
def mesh(make_release: Callable[[str, str], Release], table: Table) -> Release:
    """The clinic as the chart has it, installed once for all tests."""
    release = make_release("consilium", "clinic")
    with table.step("`helm install --wait` of the clinic: 2 routers, 5 × 2 experts, etcd"):
        release.install()
    return release


@pytest.fixture
def under_load(mesh: Release, table: Table, pytestconfig: pytest.Config) -> UnderLoad:
    """A step of the table during which the mesh is asked, and after which no question may be without its answer."""
    registry = pytestconfig.getoption("--registry")
    image = f"{registry}/consilium-tests/load:0" if registry else IMAGE

    @contextmanager
    def step(name: str) -> Iterator[Row]:
        load = Load(mesh, image)
        try:
            with table.step(name) as row, load.running():
                yield row
        finally:
            row.counted = load.counted
        wrong = {one.way: one.summary["failures"] for one in load.counted if not one.right}
        assert not wrong, f"{name}: not every question was answered: {wrong}"

    return step


def _archives(folder: Path) -> list[Path]:
    """The images that are shipped, as `make image` left them, and those that only tests need, made now."""
    shipped = [folder.resolve() / f"{name}.tar" for name in SHIPPED]
    missing = [str(archive) for archive in shipped if not archive.exists()]
    if missing:
        raise pytest.UsageError(f"run `make image` first: there is no {', '.join(missing)}")
    import images

    return [*shipped, *(images.build(name) for name in ("etcd", "load"))]


def _node(*arguments: str, within: float = 120) -> str:
    return run([sys.executable, str(HERE / "node.py"), *arguments], within=within)


# What is told at the end.

TABLE = pytest.StashKey[Table]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keeps what a cluster knows at the moment of a failure: later it is gone."""
    report = yield
    if report.failed and report.when != "teardown":
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Release):
                folder = RESULTS / "failed" / item.name
                try:
                    value.namespace.keep_what_is_known(folder)
                    report.sections.append(("what the cluster knew", f"is in {folder}"))
                except (CommandError, subprocess.SubprocessError, OSError) as error:
                    report.sections.append(("what the cluster knew", f"cannot be had: {error}"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the table, and writes it."""
    table = config.stash.get(TABLE, None)
    if table is None or not table.rows:
        return
    table.write(RESULTS)
    terminalreporter.section("what was seen")
    terminalreporter.write_line(table.text())
    terminalreporter.write_line(
        "\nOf two figures the first came through the Service, the second by the headless Service."
    )
