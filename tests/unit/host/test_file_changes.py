"""Changes of files: what an observer that can't begin leaves."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from leasecap._host.file_changes import FileChanges, load


def nothing(path: str) -> None:
    pass


def descriptors() -> int:
    place = "/proc/self/fd"
    return len(os.listdir(place)) if os.path.isdir(place) else 0


@pytest.mark.linux("elsewhere a directory that is gone may be no error")
def test_an_observer_that_cannot_begin_leaves_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    load()
    FileChanges(str(tmp_path), nothing).stop()  # what watchdog keeps for good is there from now on
    threads, before = set(threading.enumerate()), descriptors()
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            FileChanges(str(tmp_path / "gone"), nothing)
    assert set(threading.enumerate()) <= threads
    assert descriptors() <= before


def test_an_observer_begins_while_a_fork_has_the_lock_of_logging(tmp_path: Path) -> None:
    # It has leasecap's own lock then, which the fork takes next: to wait for logging's would be for ever.
    load()
    begun: list[FileChanges] = []
    begins = threading.Thread(target=lambda: begun.append(FileChanges(str(tmp_path), nothing)), daemon=True)
    with logging._lock:  # type: ignore[attr-defined]
        begins.start()
        begins.join(20)
        assert begun
    begun[0].stop()
