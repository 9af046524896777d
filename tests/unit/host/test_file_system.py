from __future__ import annotations

import os
from pathlib import Path

import pytest

from leasecap._host import file_system


@pytest.mark.linux("/proc/self/mountinfo")
@pytest.mark.parametrize("place", ["/", "/proc", "/dev", "/sys"])
def test_the_device_and_the_mount_point_tell_the_same(place: str, tmp_path: Path) -> None:
    lines = os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).splitlines()
    for path in (place, str(tmp_path)):
        assert file_system._by_device(lines, path) == file_system._by_path(lines, os.path.realpath(path))


MOUNTS = [
    "22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw",
    "40 22 0:35 / /home/a\\040b rw - btrfs /dev/vdb rw,subvol=/0:99",
    "41 22 0:36 /x /home/a\\040b/net rw - nfs4 server:/x rw",
]


@pytest.mark.parametrize(
    ("path", "kind"), [("/x", "ext4"), ("/home/a b", "btrfs"), ("/home/a b/c", "btrfs"), ("/home/a b/net/d", "nfs4")]
)
def test_a_mount_point_lies_over_those_above_it(path: str, kind: str) -> None:
    assert file_system._by_path(MOUNTS, path) == kind


def test_a_device_that_no_mount_has_and_a_path_that_is_not_there_say_nothing(tmp_path: Path) -> None:
    assert file_system._by_device(MOUNTS[:0], str(tmp_path)) is None
    assert file_system._by_device(MOUNTS, str(tmp_path / "none")) is None
    assert file_system.file_system(str(tmp_path / "none")) == file_system.file_system(str(tmp_path))
