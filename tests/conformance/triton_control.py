"""Models loaded, changed and unloaded while the server runs."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from report import Checks, ConformanceError, expect, expect_equal
from subject import Subject, refused
from triton_requests import A, B, add_sub, numbers

CHECKS = Checks()

FIXTURES = Path(__file__).resolve().parents[2] / "models" / "build" / "fixtures" / "repository"
THREADS = 4


@CHECKS.add(
    "RepositoryModelLoad", "another version takes over and goes again, and not one request fails", only="expert"
)
def _reload(subject: Subject) -> None:
    name, before = subject.model("add-sub"), add_sub(subject).get_response().model_version
    with _new_version(subject, "add-sub", before) as version, _asking(subject) as answers:
        answers.wait_for(before)
        subject.client.load_model(name)
        answers.wait_for(version)
        expect_equal("READY in the index", _state(subject, "add-sub", version), "READY")
        shutil.rmtree(subject.repository / "add-sub" / version)
        subject.client.load_model(name)
        answers.wait_for(before)
    expect(answers.right > THREADS * 3, f"only {answers.right} requests were sent")
    expect_equal("the version in the end", add_sub(subject).get_response().model_version, before)


@CHECKS.add("RepositoryModelLoad", "what is there already stays as it is", only="expert")
def _load_again(subject: Subject) -> None:
    before = add_sub(subject).get_response().model_version
    subject.client.load_model(subject.model("add-sub"))
    expect_equal("the version", add_sub(subject).get_response().model_version, before)


@CHECKS.add("RepositoryModelLoad", "a broken version is refused, and the one before answers on", only="expert")
def _broken(subject: Subject) -> None:
    before = add_sub(subject).get_response().model_version
    broken = subject.repository / "add-sub" / "990"
    try:
        broken.mkdir()
        (broken / "model.onnx").write_bytes(b"This is no model.")
        refused(lambda: subject.client.load_model(subject.model("add-sub")), "FAILED_PRECONDITION")
        expect_equal("the version", add_sub(subject).get_response().model_version, before)
    finally:
        shutil.rmtree(broken, ignore_errors=True)
        subject.client.load_model(subject.model("add-sub"))


@CHECKS.add("RepositoryModelUnload", "gone, and back after a load", only="expert")
def _unload(subject: Subject) -> None:
    name, x = subject.model("no-batch"), numbers(2, 3)
    subject.client.unload_model(name)
    try:
        expect(not subject.client.is_model_ready(name), "it is ready still")
        expect_equal("the state in the index", _state(subject, "no-batch", "1"), "UNAVAILABLE")
        ready = [entry.name for entry in subject.client.get_model_repository_index().models if entry.state == "READY"]
        expect(name not in ready, "it is READY in the index")
        refused(lambda: subject.infer("no-batch", {"x": x}), "UNAVAILABLE")
        add_sub(subject)
    finally:
        subject.client.load_model(name)
    expect(subject.client.is_model_ready(name), "it is not ready after the load")
    subject.infer("no-batch", {"x": x})


@CHECKS.add("RepositoryModelLoad", "models that are not there are refused, loaded or unloaded", only="expert")
def _unknown(subject: Subject) -> None:
    for name in (subject.model("no-such-model"), "no-such-expert.add-sub", subject.model("../add-sub"), ""):
        refused(lambda name=name: subject.client.load_model(name), "NOT_FOUND")
        refused(lambda name=name: subject.client.unload_model(name), "NOT_FOUND")


@CHECKS.add("RepositoryModelLoad", "a configuration or files in the request are refused, UNIMPLEMENTED", only="expert")
def _override(subject: Subject) -> None:
    name = subject.model("add-sub")
    refused(lambda: subject.client.load_model(name, config="{}"), "UNIMPLEMENTED", "config")
    files = {"file:1/model.onnx": b"no model"}
    refused(lambda: subject.client.load_model(name, config="{}", files=files), "UNIMPLEMENTED")


@CHECKS.add("RepositoryModelLoad", "refused on a router, UNIMPLEMENTED: load and unload", only="router")
def _on_a_router(subject: Subject) -> None:
    refused(lambda: subject.client.load_model(subject.model("add-sub")), "UNIMPLEMENTED")
    refused(lambda: subject.client.unload_model(subject.model("add-sub")), "UNIMPLEMENTED")
    add_sub(subject)


NEED_REPOSITORY = (_reload, _broken)


class _Answers:
    """What threads that ask all the time have seen."""

    def __init__(self) -> None:
        self.right = 0
        self.wrong: list[str] = []
        self.stop = False
        self._seen: set[str] = set()
        self._changed = threading.Condition()

    def add(self, version: str) -> None:
        with self._changed:
            self.right += 1
            self._seen.add(version)
            self._changed.notify_all()

    def failed(self, why: str) -> None:
        with self._changed:
            self.wrong.append(why)
            self._changed.notify_all()

    def wait_for(self, version: str) -> None:
        """Until a request that is answered from now on comes from this version."""
        with self._changed:
            self._seen.clear()
            self._changed.wait_for(lambda: version in self._seen or self.wrong, timeout=30)
            expect(not self.wrong, f"a request failed: {self.wrong[:1]}")
            expect(version in self._seen, f"version {version} never answered, but {sorted(self._seen)}")


@contextmanager
def _asking(subject: Subject) -> Iterator[_Answers]:
    """Threads that ask `add-sub` all the time; in the end none may have failed."""
    answers = _Answers()
    threads = [threading.Thread(target=_ask, args=(subject, answers), name=f"ask-{at}") for at in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        answers.stop = True
        for thread in threads:
            thread.join()
    expect(not answers.wrong, f"{len(answers.wrong)} of {answers.right + len(answers.wrong)}: {answers.wrong[:1]}")


def _ask(subject: Subject, answers: _Answers) -> None:
    while not answers.stop:
        try:
            result = subject.infer("add-sub", {"a": A, "b": B})
            more = result.as_numpy("sum") - (A + B)
            # Two models, told apart by what they add; rows of one answer must not come from both.
            if not (more == more[0, 0]).all() or more[0, 0] not in (0, 100):
                raise ConformanceError(f"the sum is more than it should be by {more}")
            answers.add(result.get_response().model_version)
        except Exception as error:
            answers.failed(f"{type(error).__name__}: {error}")


@contextmanager
def _new_version(subject: Subject, model: str, before: str) -> Iterator[str]:
    """A version above all others whose answers differ from those of `before`; taken away in the end."""
    directory = subject.repository / model
    other = "1" if before == "2" else "2"
    version = str(1 + max(int(path.name) for path in directory.iterdir() if path.name.isdigit()))
    # Under another name first: a server that looks in between must not see half of it.
    shutil.copytree(FIXTURES / model / other, directory / ".new")
    (directory / ".new").rename(directory / version)
    try:
        yield version
    finally:
        shutil.rmtree(directory / version, ignore_errors=True)
        subject.client.load_model(subject.model(model))


def _state(subject: Subject, model: str, version: str) -> str:
    index = subject.client.get_model_repository_index().models
    states = {entry.version: entry.state for entry in index if entry.name == subject.model(model)}
    expect(states, f"{model} is not in the index")
    return states.get(version) or " ".join(sorted(set(states.values())))
