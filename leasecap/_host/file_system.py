"""Which file system a directory is on, and whether only this machine can write it."""

from __future__ import annotations

import os
import sys

from leasecap._named_tuple import NamedTuple

_LOCAL = frozenset(
    {
        *("apfs", "bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs", "ntfs", "ntfs3", "overlay"),
        *("ramfs", "reiserfs", "tmpfs", "ufs", "vfat", "xfs", "zfs"),
    }
)
"""Types that one machine alone has mounted. A type that isn't listed counts as shared with other machines: then a lease
is judged by its heartbeat, never too early."""


class FileSystem(NamedTuple):
    type: str
    local: bool


_known: dict[int, FileSystem] = {}


def file_system(path: str) -> FileSystem:
    """Return what ``path`` is on; type "unknown", not local, where that can't be told."""
    try:
        device = os.stat(path).st_dev
    except OSError:
        return _file_system(path)
    # The table of mounts is read once per device and process, and not for each pool that `status` opens.
    found = _known.get(device)
    if found is None:
        found = _known[device] = _file_system(path)
    return found


def _file_system(path: str) -> FileSystem:
    if sys.platform == "linux":
        kind = _from_mountinfo(path)
    else:
        kind = _from_psutil(os.path.realpath(path))
    return FileSystem(kind or "unknown", kind in _LOCAL)


def _from_mountinfo(path: str) -> str | None:
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw: proc_pid_mountinfo(5)
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = os.fsdecode(file.read()).splitlines()
    except OSError:
        return None
    return _by_device(lines, path) or _by_path(lines, os.path.realpath(path))


def _by_device(lines: list[str], path: str) -> str | None:
    try:
        device = os.stat(path).st_dev
    except OSError:
        return None  # it isn't there yet
    if sys.platform == "win32":
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    fields = (line.partition(" - ")[2] for line in lines if number in line and line.split(" ")[2] == number)
    return next(fields, "").split(" ")[0] or None


def _by_path(lines: list[str], path: str) -> str | None:
    """The type by the mount point, since btrfs gives its subvolumes numbers that no mount has."""
    best = ""
    kind = None
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        # Later lines lie over earlier ones, hence >=.
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, after.split(" ")[0]
    return kind


def _from_psutil(path: str) -> str | None:
    import psutil

    best = ""
    kind = None
    for mount in psutil.disk_partitions(all=True):
        point = mount.mountpoint
        if (path == point or path.startswith(point.rstrip(os.sep) + os.sep)) and len(point) >= len(best):
            best, kind = point, mount.fstype.lower()
    return kind
