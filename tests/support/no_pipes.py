"""Machines on which no named pipe is to be had, in each way that this shows."""

from __future__ import annotations

import os
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest

WAYS = {
    # A sandbox, vfat, FUSE and 9p.
    "refused": """
def mkfifo(path, mode=0o666, *, dir_fd=None):
    raise PermissionError(1, "Operation not permitted", path)
os.mkfifo = mkfifo
""",
    # Windows.
    "missing": "del os.mkfifo",
    # An interpreter that was built without.
    "not implemented": """
def mkfifo(path, mode=0o666, *, dir_fd=None):
    raise NotImplementedError("mkfifo unavailable on this platform")
os.mkfifo = mkfifo
""",
}

NO_DESCRIPTOR = """
def mkfifo(path, mode=0o666, *, dir_fd=None, make=os.mkfifo):
    if dir_fd is not None:
        raise NotImplementedError("dir_fd unavailable on this platform")
    make(path, mode)
os.mkfifo = mkfifo
"""
"""macOS before 13: by a path they can be had."""


def here(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Make this process one of those for the time of a test."""
    monkeypatch.setattr(os, "mkfifo", os.mkfifo)  # what is put back
    exec(way, {"os": os})


def in_workers(directory: Path, way: str) -> str:
    """What to put into PYTHONPATH so that every Python process is one."""
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text(f"import os\n{way}\n")
    return str(directory)
