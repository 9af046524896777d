"""In this very process leasecap's modules meet the platform that `scripts/test --as` names, whoever loads them."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from places import PLATFORM

from leasecap._host import effects, file_lock, process, sockets
from leasecap._host.directory import Directory
from leasecap.cli import _streams

SEEN = {
    name: vars(module)[name]
    for name, module in (("os", process), ("select", sockets), ("signal", _streams), ("time", effects))
}

LACKED = {
    "os.fork": {"win32"},
    "os.geteuid": {"win32"},
    "os.mkfifo": {"win32"},
    "os.statvfs": {"win32"},
    "os.pidfd_open": {"darwin", "win32"},
    "select.epoll": {"darwin", "win32"},
    "select.poll": {"win32"},
    "signal.SIGKILL": {"win32"},
    "signal.pthread_sigmask": {"win32"},
    "signal.sigtimedwait": {"darwin", "win32"},
    "time.CLOCK_BOOTTIME": {"darwin", "win32"},
    "time.clock_gettime": {"win32"},
}
"""What leasecap calls, and where there is no such thing."""


def test_each_module_knows_the_platform() -> None:
    own = [module for name, module in tuple(sys.modules.items()) if name.partition(".")[0] == "leasecap"]
    found = {module.__name__: module.sys.platform for module in own if hasattr(module, "sys")}
    assert {name: platform for name, platform in found.items() if platform != PLATFORM} == {}
    assert process.__name__ in found


@pytest.mark.parametrize("name", LACKED)
def test_what_a_platform_lacks_is_not_there(name: str) -> None:
    module, _, attribute = name.partition(".")
    assert hasattr(SEEN[module], attribute) == (PLATFORM not in LACKED[name])


def test_windows_has_no_fcntl() -> None:
    assert (vars(file_lock)["fcntl"] is None) == (PLATFORM == "win32")


def test_linux_alone_has_proc() -> None:
    assert (process._stat_fields(os.getpid()) is not None) == (PLATFORM == "linux")


def test_windows_renames_no_directory_with_an_open_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    directory = Directory(str(tmp_path))
    opened = directory.open("one/file", create=True)
    try:
        with pytest.raises(PermissionError) if PLATFORM == "win32" else nullcontext():
            directory.rename("one", "other")
    finally:
        os.close(opened)
    assert directory.list(".") == (["one"] if PLATFORM == "win32" else ["other"])
