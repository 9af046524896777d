"""What a process says of itself in the records that it writes, whatever the store."""

from __future__ import annotations

import os
import sys
from functools import lru_cache

from leasecap._liveness.record import Record
from leasecap._redact import redact_argv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from leasecap._liveness.presence import Identity
    from leasecap._liveness.record import Purpose


def own_record(
    me: Identity,
    pool: str,
    *,
    local: bool,
    label: str | None,
    argv: Sequence[str] | None = None,
    purpose: Purpose | None = None,
) -> Record:
    """A record of this process, which proves that it lives by renewing it.

    :param local: whether only this machine can write to the pool.
    :param argv: the command to show, if it isn't this process's own.
    """
    return Record(
        pool=pool,
        pid=me.pid,
        start=me.start,
        uid=me.uid,
        boot=me.boot,
        machine=me.machine,
        pid_ns=me.pid_ns,
        time_ns=me.time_ns,
        host=this_host(),
        local=local,
        proof="lock",
        label=label,
        command=_shown(_own_argv() if argv is None else tuple(argv)),
        cwd=_cwd(),
        purpose=purpose,
    )


def _own_argv() -> tuple[str, ...]:
    program, *given = sys.argv or [""]
    if program in ("", "-", "-c"):  # Python has read its program from the terminal, its input or the command line
        return ("python", *filter(None, [program]), *given)
    return (program, *given)


@lru_cache(maxsize=16)  # an acquire feels it
def _shown(argv: tuple[str, ...]) -> str:
    return redact_argv(argv)


def this_host() -> str:
    """The machine's name as records give it."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # somebody has removed the directory
