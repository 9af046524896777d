"""How long this process's requests took, on the way to the servers that keep their pools.

Whoever notes it waits for no server: it is sent by `Errands`, and what can't be is tried again a second later. A table
that may have arrived isn't changed any more: it is sent again as it is, under its number, and counts once.
"""

from __future__ import annotations

import threading
from typing import TypeVar

from leasecap._errors import LeasecapError
from leasecap._feedback.latency import added
from leasecap._log import log_warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from leasecap._feedback.latency import Table
    from leasecap._host.effects import Effects
    from leasecap._redis_store.alarms import Alarms
    from leasecap._redis_store.errands import Errands
    from leasecap._redis_store.pool import Pool

    _Key: TypeAlias = tuple[Pool, int]  # and the hour, by this machine's clock

T = TypeVar("T")

_AGAIN = 1.0  # seconds
_MOST = 100  # tables; more are not kept while a server is away


class LatencySender:
    """For the pools of one server."""

    def __init__(self, process_id: str, effects: Effects, errands: Errands, alarms: Alarms) -> None:
        """:param process_id: by which the server tells processes apart."""
        self._process_id = process_id
        self._effects = effects
        self._errands = errands
        self._alarms = alarms
        self._lock = threading.Lock()
        self._waiting: dict[_Key, Table] = {}
        self._sent: dict[_Key, tuple[int, Table]] = {}  # by number; whether it has arrived is not known
        self._known: dict[_Key, Table] = {}
        self._number = 0
        self._sends = False
        self._error: LeasecapError | None = None  # of the last try
        self._is_told = False

    def add(self, pool: Pool, hour: int, table: Table, tell: Callable[[str], object]) -> Table:
        """Have a table added to an hour; returns what is known of that hour so far.

        :param tell: called, from a thread, with what people have to know.
        """
        key = pool, hour
        with self._lock:
            self._waiting[key] = added(self._waiting.get(key, {}), table)
            _keep_most(self._waiting)
            _keep_most(self._sent)
            _keep_most(self._known)
            known = added(self._known.get(key, {}), self._waiting[key])
            begins, self._sends = not self._sends, True
        if begins:
            self._errands.do(lambda: self._send(tell))
        return known

    def tell_what_is_left(self) -> None:
        """Log it, when the process ends and something could not be sent."""
        if self._waiting or self._sent:
            log_warning(f"how long requests took could not be noted: {self._error or 'no server has answered in time'}")

    def _send(self, tell: Callable[[str], object]) -> None:
        """In an errand's thread: send until nothing is left, or it fails."""
        while (found := self._next()) is not None:
            key, number, table = found
            pool, hour = key
            age = max(int(self._effects.wall_clock() // 3600) - hour, 0)
            try:
                rows = pool.latency.add(f"{self._process_id} {hour}", number, age, table)
            except LeasecapError as error:
                if self._error is not None and not self._is_told:  # nothing is lost by one that fails
                    self._is_told = True
                    tell(f"pool {pool.name.text!r}: how long requests took could not be noted: {error}")
                self._error = error
                self._alarms.set(self, self._effects.monotonic() + _AGAIN, lambda: self._send_again(tell))
                return
            self._error, self._is_told = None, False
            with self._lock:
                self._sent.pop(key, None)
                self._known[key] = rows

    def _send_again(self, tell: Callable[[str], object]) -> None:
        self._errands.do(lambda: self._send(tell))

    def _next(self) -> tuple[_Key, int, Table] | None:
        with self._lock:
            if not self._sent and self._waiting:
                key = next(iter(self._waiting))
                self._number += 1
                self._sent[key] = self._number, self._waiting.pop(key)
            for key, (number, table) in self._sent.items():
                return key, number, table
            self._sends = False
            return None


def _keep_most(tables: dict[_Key, T]) -> None:
    while len(tables) > _MOST:
        del tables[next(iter(tables))]
