"""What a process says of itself in the records it writes."""

from __future__ import annotations

import os
import sys
from functools import lru_cache

from leasecap._liveness.record import Record
from leasecap._redact import redact_argv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from leasecap._file_store.layout import Pool
    from leasecap._file_store.observer import Observer
    from leasecap._host.effects import Effects
    from leasecap._liveness.record import Purpose


def describe_self(
    effects: Effects,
    pool: Pool,
    observer: Observer,
    *,
    label: str | None,
    argv: Sequence[str] | None = None,
    purpose: Purpose | None = None,
) -> Record:
    """A record of this process.

    :param observer: this process's view of the pool; it has the intervals of this process's heartbeats.
    :param argv: the command to show, if it isn't this process's own.
    """
    me = effects.me()
    return Record(
        pool=pool.name.text,
        pid=me.pid,
        start=me.start,
        uid=me.uid,
        boot=me.boot,
        machine=me.machine,
        pid_ns=me.pid_ns,
        time_ns=me.time_ns,
        host=this_host(),
        local=pool.local,
        proof="lock",
        label=label,
        command=_shown(tuple(sys.argv if argv is None else argv)),
        cwd=_cwd(),
        heartbeat=float(observer.heartbeat),
        stale_after=float(observer.stale_after),
        purpose=purpose,
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
