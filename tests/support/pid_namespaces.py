"""Workers whose fork is pid 1 of a new namespace."""

from __future__ import annotations

import subprocess

import pytest
from places import PLATFORM

NEW_PIDS = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


def under(how: str) -> tuple[str, ...]:
    """The command in front of a worker that forks this way."""
    if how != "pid 1 of a new namespace":
        return ()
    if PLATFORM != "linux":
        pytest.skip("linux: pid namespaces")
    if subprocess.run([*NEW_PIDS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a pid namespace of its own")
    return NEW_PIDS
