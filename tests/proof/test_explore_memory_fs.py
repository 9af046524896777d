"""The in-memory file system of the exploration does what the real one does."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from explore.memory_fs import MemoryDirectory, MemoryEffects, MemoryFs, _covers
from hypothesis import given, settings
from hypothesis import strategies as st

from leasecap._host.directory import Directory
from leasecap._host.effects import Effects

PATHS = st.sampled_from(["a", "b", "c", "a/a", "a/b", "b/a", "a/a/a", "a/a/b", "b/a/b", "c/x"])
DATA = st.sampled_from([b"", b"one", b"three"])
OPERATIONS = st.one_of(
    st.tuples(st.just("make"), PATHS),
    st.tuples(st.just("make"), PATHS),
    st.tuples(st.just("rename"), PATHS, PATHS),
    st.tuples(st.just("rename"), PATHS, PATHS),
    st.tuples(st.just("unlink"), PATHS),
    st.tuples(st.just("rmdir"), PATHS),
    st.tuples(st.just("list"), PATHS),
    st.tuples(st.just("stat"), PATHS),
    st.tuples(st.just("read"), PATHS, st.sampled_from([1, 100])),
    st.tuples(st.just("write"), PATHS, DATA),
    st.tuples(st.just("replace"), PATHS, DATA),
    st.tuples(st.just("overwrite"), PATHS, DATA),
    st.tuples(st.just("probe"), PATHS, st.sampled_from([0, 100])),
)
DESCRIPTORS = st.integers(0, 3)
PROCESSES = st.sampled_from(["one", "two"])
LOCKING = st.one_of(
    st.tuples(st.just("open"), PROCESSES, PATHS, st.booleans()),
    st.tuples(st.just("open"), PROCESSES, PATHS, st.booleans()),
    st.tuples(st.just("lock"), DESCRIPTORS),
    st.tuples(st.just("lock"), DESCRIPTORS),
    st.tuples(st.just("unlock"), DESCRIPTORS),
    st.tuples(st.just("close"), DESCRIPTORS),
    st.tuples(st.just("write_at_start"), DESCRIPTORS, DATA),
    st.tuples(st.just("inherit"), DESCRIPTORS),
    st.tuples(st.just("end"), PROCESSES),
)


class Pair:
    """The two file systems, and the descriptors open in both, each with the process that has it."""

    def __init__(self, path: str) -> None:
        self.real, self.effects = Directory(path), Effects()
        self.fs = MemoryFs()
        self.process = 1
        perform = lambda operation, *args: self.fs.apply(1, self.process, operation, args)  # noqa: E731
        self.memory, self.memory_effects = MemoryDirectory(path, perform), MemoryEffects(perform, None)
        self.open: list[tuple[str, int, int]] = []

    def close(self) -> None:
        for _, real, _ in self.open:
            os.close(real)
        self.real.close()

    def same(self, operation: str, *args: Any) -> None:
        """Do it in both; both say the same."""
        assert self._said(self.memory, operation, args) == self._said(self.real, operation, args), (operation, args)

    def _said(self, directory: Directory, operation: str, args: tuple[Any, ...]) -> object:
        try:
            answer = getattr(directory, operation)(*args)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        if isinstance(answer, os.stat_result):
            return answer.st_mode & 0o170000
        return sorted(answer) if isinstance(answer, list) else answer

    def locking(self, operation: str, *args: Any) -> None:
        if operation == "open":
            self._open(*args)
        elif operation == "end":
            for number in [number for number, (process, _, _) in enumerate(self.open) if process == args[0]][::-1]:
                os.close(self.open.pop(number)[1])
            self.fs.end(("one", "two").index(args[0]) + 1)
        elif args[0] < len(self.open):
            process, real, memory = self.open[args[0]]
            self.process = ("one", "two").index(process) + 1
            if operation == "inherit":
                heir = "two" if process == "one" else "one"
                number = ("one", "two").index(heir) + 1
                if (number, memory) not in self.fs.fds:
                    self.open.append((heir, os.dup(real), memory))
                    self.fs.inherit(1, self.process, memory, number)
                return
            if operation == "close":
                del self.open[args[0]]
            said = getattr(self.effects, operation)(real, *args[1:])
            assert getattr(self.memory_effects, operation)(memory, *args[1:]) == said, operation

    def _open(self, process: str, path: str, create: bool) -> None:
        self.process = ("one", "two").index(process) + 1
        answers = []
        for directory in (self.real, self.memory):
            try:
                answers.append(directory.open(path, create=create))
            except OSError as error:
                answers.append(-(error.errno or 0))
        real, memory = answers
        assert (real if real < 0 else 0) == (memory if memory < 0 else 0), (path, create)
        if real >= 0:
            self.open.append((process, real, memory))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("differential")


@settings(max_examples=150)
@given(steps=st.lists(OPERATIONS | LOCKING, min_size=5, max_size=40))
def test_any_sequence_of_operations_ends_alike_in_memory_and_on_disk(place: Path, steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory(dir=place) as path:
        pair = Pair(path)
        try:
            for operation, *args in steps:
                if operation in ("open", "lock", "unlock", "close", "write_at_start", "inherit", "end"):
                    pair.locking(operation, *args)
                else:
                    pair.same(operation, *args)
            for name in ("a", "b", "c", "a/a", "a/b", "b/a", "a/a/a", "a/a/b", "b/a/b"):
                pair.same("list", name)
                pair.same("read", name, 100)
                pair.same("probe", name, 100)
        finally:
            pair.close()


@pytest.mark.parametrize(
    "steps",
    [
        [("make", "a"), ("make", "b"), ("rename", "a", "b"), ("list", "b"), ("list", "a")],
        [("make", "a"), ("make", "b"), ("write", "b/x", b"1"), ("rename", "a", "b"), ("list", "a")],
        [("make", "a"), ("write", "a/x", b"1"), ("make", "b"), ("rename", "a", "b"), ("list", "b"), ("read", "b/x", 9)],
        [("make", "a"), ("rename", "a", "a/b")],
        [("make", "a"), ("make", "a/b"), ("rename", "a/b", "a")],
        [("make", "a"), ("write", "b", b"1"), ("rename", "a", "b"), ("rename", "b", "a")],
        [("write", "a", b"1"), ("write", "b", b"2"), ("rename", "a", "b"), ("read", "b", 9), ("read", "a", 9)],
        [("write", "a", b"1"), ("write", "a", b"2"), ("stat", "a/b"), ("unlink", "a/b"), ("make", "a/b")],
        [("make", "a"), ("write", "a/x", b"1"), ("rmdir", "a"), ("unlink", "a"), ("unlink", "a/x"), ("rmdir", "a")],
        [("rename", "a", "b"), ("rmdir", "a"), ("unlink", "a"), ("list", "a"), ("probe", "a"), ("overwrite", "a", b"")],
    ],
)
def test_the_cases_that_the_protocol_rests_on_end_alike(tmp_path: Path, steps: list[tuple[Any, ...]]) -> None:
    pair = Pair(str(tmp_path))
    try:
        for operation, *args in steps:
            pair.same(operation, *args)
    finally:
        pair.close()


def test_a_lock_ends_with_the_last_process_that_has_its_description(tmp_path: Path) -> None:
    directory, effects, fs = Directory(str(tmp_path)), Effects(), MemoryFs()
    ours = directory.open("file", create=True)
    heard, said = os.pipe()
    children = []
    for _ in range(2):  # both inherit one description, and live until they are killed
        child = os.fork()
        if child == 0:
            effects.lock(ours)
            os.write(said, b".")
            signal.pause()
        children.append(child)
        os.read(heard, 1)
    os.close(ours)
    fd = fs.open(1, 1, "file", True)
    assert fs.lock(1, 1, fd)
    fs.inherit(1, 1, fd, 2)
    for number, child in enumerate(children, 1):
        assert directory.probe("file")[0] is True
        assert MemoryDirectory("", lambda operation, *args: fs.apply(9, 9, operation, args)).probe("file")[0] is True
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        fs.end(number)
    assert directory.probe("file")[0] is False
    assert MemoryDirectory("", lambda operation, *args: fs.apply(9, 9, operation, args)).probe("file")[0] is False
    os.close(heard)
    os.close(said)
    directory.close()


def test_an_effect_that_the_exploration_does_not_know_is_refused() -> None:
    class Newer(Directory):
        def teleport(self) -> None: ...

    with pytest.raises(NotImplementedError, match="teleport"):
        _covers(Newer, MemoryDirectory)
