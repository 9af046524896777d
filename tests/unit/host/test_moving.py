"""What somebody reads can't be moved or removed on Windows: it is tried again until nobody does."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from places import PLATFORM

from leasecap import _moving
from leasecap._config.edit import set_limit
from leasecap._host.directory import Directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(PLATFORM != "win32", reason="elsewhere nothing is refused because somebody reads it")

STEPS: dict[str, Callable[[Directory], object]] = {
    "rename": lambda directory: directory.rename("in", "out"),
    "replace": lambda directory: directory.replace("in/file", b"new"),
    "unlink": lambda directory: directory.unlink("in/file"),
}


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """A directory with one in it, and a file in that."""
    found = Directory(str(tmp_path))
    found.make("in")
    found.write("in/file", b"old")
    return found


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_what_is_read_for_a_moment_is_moved_after_it(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, step: Callable[[Directory], object]
) -> None:
    readers = [directory.open("in/file")]
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            os.close(readers.pop())

    monkeypatch.setattr(_moving, "time", SimpleNamespace(sleep=pause))
    step(directory)
    assert len(pauses) == 2 and pauses[0] < pauses[1]


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_what_is_never_let_go_is_an_error_soon(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, step: Callable[[Directory], object]
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(_moving, "time", SimpleNamespace(sleep=pauses.append))
    reader = directory.open("in/file")
    with pytest.raises(PermissionError):
        step(directory)
    os.close(reader)
    assert 0 < sum(pauses) < 1
    assert directory.list("in") == ["file"] and directory.read("in/file", 9) == b"old"


def test_a_configuration_that_somebody_reads_is_replaced_after_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_limit(str(root), "p", 1)
    readers = [Directory(str(root)).open("config.toml")]
    monkeypatch.setattr(_moving, "time", SimpleNamespace(sleep=lambda _: os.close(readers.pop())))
    set_limit(str(root), "p", 2)
    assert not readers
    assert "limit = 2" in (root / "config.toml").read_text()
