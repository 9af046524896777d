"""Seeing that a process has stopped, goes on or has ended, without waiting for it as its parent.

By psutil: macOS has no `os.waitid` before Python 3.13.
"""

from __future__ import annotations

import time

import psutil

ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def state(pid: int) -> str:
    """As psutil names it; "dead" where there is none."""
    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_DEAD)


def has_ended(pid: int) -> bool:
    """Whether it has, waited for or not."""
    return state(pid) in ENDED


def await_exit(pid: int) -> None:
    """Return when it has ended; it stays a zombie until somebody waits for it."""
    while not has_ended(pid):
        time.sleep(0.001)


def await_stop(pid: int) -> None:
    """Return when it is stopped, or has ended."""
    while state(pid) not in (psutil.STATUS_STOPPED, *ENDED):
        time.sleep(0.001)


def await_continue(pid: int) -> None:
    """Return when it is no longer stopped."""
    while state(pid) == psutil.STATUS_STOPPED:
        time.sleep(0.001)
