"""The Dockerfile makes what build.py makes: how images are run stands in both, and must be the same."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from layout import NONROOT, PROGRAMS, ROOT, STATE, Program

# (stage, instruction, arguments), in order.
Instruction = tuple[str, str, str]


def instructions() -> list[Instruction]:
    text = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stage, found = "", []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stage = rest.split(" AS ")[1]
        if word:
            found.append((stage, word, rest.strip()))
    return found


def of(program: Program, word: str) -> list[str]:
    """Of the stage of that program and the one that all of them stand on, which comes first."""
    return [
        rest
        for stage in ("runtime", program.name)
        for name, said, rest in instructions()
        if (name, said) == (stage, word)
    ]


def pairs(said: list[str]) -> dict[str, str]:
    return dict(pair.partition("=")[::2] for rest in said for pair in shlex.split(rest))


@pytest.fixture(params=PROGRAMS.values(), ids=PROGRAMS)
def program(request: pytest.FixtureRequest) -> Program:
    return request.param


def test_it_stands_on_nothing(program: Program) -> None:
    assert of(program, "FROM") == ["scratch AS runtime", f"runtime AS {program.name}"]
    assert of(program, "RUN") == of(program, "ADD") == of(program, "CMD") == []


def test_it_is_run_in_the_same_way(program: Program) -> None:
    config = program.config()
    assert [json.loads(said) for said in of(program, "ENTRYPOINT")] == [config["Entrypoint"]]
    assert of(program, "USER") == [config["User"]]
    assert of(program, "WORKDIR") == [config["WorkingDir"]]
    assert [f"{name}={value}" for name, value in pairs(of(program, "ENV")).items()] == config["Env"]
    assert {port for said in of(program, "EXPOSE") for port in said.split()} == set(config.get("ExposedPorts", {}))


def test_it_has_the_same_labels(program: Program) -> None:
    labels = pairs(of(program, "LABEL"))
    assert labels.pop("org.opencontainers.image.revision") == "${REVISION}"
    assert labels == program.config()["Labels"]


def test_it_has_the_same_layers_in_the_same_order(program: Program) -> None:
    copied = [said.removeprefix("--from=build ") for said in of(program, "COPY")]
    assert copied == [
        "/layers/base/ /",
        f"--chown={NONROOT}:{NONROOT} /layers/state/ /{STATE.rpartition('/')[0]}/",
        "/layers/onnxruntime/ /",
        "/layers/models/ /",
        f"/layers/{program.name}/ /",
    ]


def test_all_that_it_needs_is_in_its_context() -> None:
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
    ]
    assert [path for path in allowed if not (ROOT / path).exists()] == []
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]
    needed = ["Cargo.toml", "Cargo.lock", "LICENSE", "scripts/setup", "scripts/requirements.txt"]
    needed += [f"{member}/Cargo.toml" for member in workspace["members"]]
    for stage, word, rest in instructions():
        # Of the scripts it takes what is let in, which are the two above.
        if (stage, word) == ("tools", "COPY") and rest != "scripts/ scripts/":
            needed += [str(path.relative_to(ROOT)) for path in files(ROOT / rest.split()[0])]
    missing = [path for path in needed if not any(path == one or path.startswith(f"{one}/") for one in allowed)]
    assert missing == []


def files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]
