"""What a process says of itself in the records it writes to a store."""

from __future__ import annotations

import os
import sys
from functools import lru_cache

from leasecap._liveness.record import Record
from leasecap._redact import redact_argv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from leasecap._host.effects import Effects


def describe_self(effects: Effects, pool: str, *, label: str | None, argv: Sequence[str] | None = None) -> Record:
    """A record of this process.

    :param argv: the command to show, if it isn't this process's own.
    """
    me = effects.me()
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
        local=False,
        proof="lock",  # its process renews it
        label=label,
        command=_shown(tuple(sys.argv if argv is None else argv)),
        cwd=_cwd(),
    )


@lru_cache(maxsize=16)
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
