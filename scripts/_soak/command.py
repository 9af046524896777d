"""What runs under ``leasecap run``. It says that it works as soon as it can: until then its slot seems to be empty."""

from __future__ import annotations

import os
import sys
import time

from .journal import Journal


def work() -> None:
    """Work for a while. Arguments of the process: journal, pool, who, under, seconds."""
    _, path, pool, who, under, seconds = sys.argv
    journal = Journal(path, f"{who}-command")
    journal.write("start", pool, who, under)
    time.sleep(float(seconds))
    journal.write("end", pool, who, under)


def lend() -> None:
    """Run a command that borrows the slot. Arguments of the process: journal, pool, who, command."""
    _, path, pool, who, *command = sys.argv
    journal = Journal(path, f"{who}-lender")
    journal.write("start", pool, who)
    journal.write("lend", pool, who)
    os.waitpid(os.posix_spawn(command[0], command, os.environ), 0)
    journal.write("end", pool, who)
