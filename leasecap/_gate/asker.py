"""Who asks: the process at the other end of a connection, and the leases that it runs under.

A process may hold a slot itself and send its request through the gate as well: a nested ``leasecap run``, or ``slot()``
round a call of an SDK. It would wait for a second slot while it holds the first, at a limit of 1 for ever. Its request
carries no word of that lease, so it is found by the process.
"""

from __future__ import annotations

import asyncio
import math
import time

from leasecap import _ancestry
from leasecap._config.root import root_path
from leasecap._errors import Unreachable
from leasecap._host.process import ancestors_of, start_of
from leasecap._host.sockets import peer_inode, pids_of_socket
from leasecap._request import checked
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from leasecap._request import Options

_AGAIN = 0.5  # seconds between questions to a server that is away


class Asker:
    """The process that has opened a connection.

    :ivar peer: its socket's address; ``local``: that of ours.
    """

    def __init__(self, peer: tuple[Any, ...], local: tuple[Any, ...]) -> None:
        self.peer = peer
        self.local = local
        self._line: tuple[tuple[int, int | None], ...] | None = None  # pid and start: another may have the pid since

    async def leases(self, pool: str, options: Options) -> tuple[str, ...]:
        """The words for the leases of ``pool`` that it or a process above it holds, innermost first.

        A server that is away is waited for, as with a slot: who doesn't know of its lease would wait for itself.

        :param options: say for how long.
        :raises ConfigError, StoreError: when the pool can't be read.
        """
        settings = runtime.root(root_path()).pool(pool)
        if settings.store is None:
            return self._leases(pool)
        timeout = checked(options, settings).timeout
        until = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return await asyncio.to_thread(self._leases, pool)  # a server may be slow to answer, or silent
            except Unreachable:
                if time.monotonic() >= until:
                    raise
            await asyncio.sleep(_AGAIN)

    def _leases(self, pool: str) -> tuple[str, ...]:
        with runtime.using(runtime.root(root_path()), pool) as store:
            me = store.me()
            held: dict[tuple[int, int | None], str] = {}
            for lease in store.view().leases:
                record = lease.record
                if record is None or record.start is None or record.pid == me.pid:
                    continue
                if (record.boot, record.pid_ns, record.time_ns) == (me.boot, me.pid_ns, me.time_ns):
                    held[record.pid, record.start] = lease.entry.token
            if not held:
                return ()
            line = self._processes()
            return tuple(_ancestry.reference(*store.place, held[each]) for each in line if each in held)

    def _processes(self) -> tuple[tuple[int, int | None], ...]:
        """The asking process and those above it, each with its start; none where that can't be told."""
        if self._line is None:
            inode = peer_inode(self.peer, self.local)
            pids = [] if inode is None else pids_of_socket(inode) or []
            line = dict.fromkeys(above for pid in pids for above in (pid, *ancestors_of(pid)))
            self._line = tuple((pid, start_of(pid)) for pid in line)
        return self._line
