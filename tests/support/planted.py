"""What somebody may plant where a file or a directory is expected."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from places import PLATFORM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def plant_socket(path: Path) -> None:
    # By a short relative name: the path of a socket has room for some 100 bytes.
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as planted:
            planted.bind(path.name)
    finally:
        os.chdir(before)


def plant_link(path: Path) -> None:
    target = path.parent.parent / "target"
    target.write_bytes(b"precious")
    path.symlink_to(target)


def plant_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "target")


PLANTED: dict[str, Callable[[Path], object]] = {"a directory": os.mkdir}
if PLATFORM != "win32":  # there links take a privilege, and files that block aren't in directories
    PLANTED |= {
        "a symlink": plant_link,
        "a dangling symlink": plant_dangling_link,
        "a FIFO": os.mkfifo,
        "a socket": plant_socket,
    }
