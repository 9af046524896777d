"""A process that is killed after so many of its changes to a disk."""

from __future__ import annotations

KILLED_AFTER = """
import os, shutil, sys
from leasecap._host.directory import Directory
left = int(sys.argv[2])
def counted(real):
    def step(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return real(*arguments, **named)
    return step
for name in ("make", "write", "rename", "unlink", "rmdir"):
    setattr(Directory, name, counted(getattr(Directory, name)))
os.mkdir, os.unlink, os.rmdir = counted(os.mkdir), counted(os.unlink), counted(os.rmdir)
"""
"""What is to be done follows it; the second argument says after how many changes it ends."""
