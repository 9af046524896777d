"""Finding the dead of this machine before their time in the store runs out.

While one of this process's tickets is on duty, a thread waits for the exits of all processes that hold a slot or wait
among the first, as far as they can be seen from here, and asks now and then who these are. Where the platform has no
handles on processes it looks at them instead. What happens on another machine, or in another pid namespace, shows after
its ttl alone.
"""

from __future__ import annotations

import threading

from leasecap._errors import StoreError
from leasecap._liveness.record import decode_record
from leasecap._liveness.verdict import comparable
from leasecap._log import log_warning_apart
from leasecap._redis_store.exits import Exits
from leasecap._threads import await_end, start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._host.effects import Effects
    from leasecap._redis_store.exits import Process
    from leasecap._redis_store.pool import Pool

_BEGIN_AFTER = 0.1  # seconds; where slots are held for less than that, nobody has to look
_ASK_EVERY = 1.0  # seconds between questions who holds
_LOOK_EVERY = 0.1  # seconds between looks at processes on which there is no handle
_WAITING = 16  # waiting processes that are looked after
_ON_DUTY = 2  # of these, by the scripts
_MOST = 256  # that a script looks at


class Lookout:
    """Looks after the holders and the first waiters of one pool."""

    def __init__(self, effects: Effects, pool: Pool) -> None:
        self._effects = effects
        self._pool = pool
        self._lock = threading.RLock()  # a garbage collection may come while it is held, and end a ticket
        self._on_duty: set[str] = set()
        self._thread: threading.Thread | None = None
        self._exits: Exits | None = None  # the thread's, while it runs
        self._ending: threading.Thread | None = None  # the last one that has made up its mind to end
        self._ask_at = 0.0
        self._seen: dict[str, tuple[Process, ...]] = {}  # the processes of each entry that can be seen; none: it can't

    def note(self, token: str, *, on_duty: bool) -> None:
        """Whether this ticket is on duty."""
        if not on_duty:
            self._on_duty.discard(token)
            return
        self._on_duty.add(token)
        with self._lock:
            if self._thread is None:
                self._start()

    def leaves(self, token: str) -> bool:
        """The ticket leaves the queue; returns whether it was on duty."""
        was = token in self._on_duty
        self._on_duty.discard(token)
        return was

    def rest(self) -> None:
        """End the thread, if nobody is on duty, and wait for that. It ends by itself soon after."""
        with self._lock:
            if self._on_duty:
                return
            thread = self._thread or self._ending
            if self._exits is not None:
                self._exits.rouse()
        if thread is not None:
            await_end(thread)

    def forget(self) -> None:
        """In a fork's child: close the copies of what is the parent's."""
        if self._exits is not None:
            self._exits.close()

    # -- the thread -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        try:
            self._exits = exits = Exits(self._effects)
        except OSError:
            return  # holders' times in the store run out all the same
        try:
            self._ask_at = 0.0
            self._thread = start_thread("redis-lookout", self._run, exits)
        except RuntimeError:
            self._exits = None
            exits.close()

    def _run(self, exits: Exits) -> None:
        exits.wait(_BEGIN_AFTER)
        while self._goes_on(exits):
            polls = False
            try:
                polls = self._look(exits)
            except StoreError:
                pass  # as above
            except Exception as error:
                log_warning_apart(f"the dead in pool {self._pool.name.text!r} can't be looked for: {error!r}")
            left = self._ask_at - self._effects.monotonic()
            exits.wait(min(left, _LOOK_EVERY) if polls else left)

    def _goes_on(self, exits: Exits) -> bool:
        with self._lock:
            if self._on_duty:
                return True
            self._ending, self._thread, self._exits = self._thread, None, None
        exits.close()
        self._seen = {}
        return False

    def _look(self, exits: Exits) -> bool:
        """End what dead processes have; returns whether there are others that only a look can find dead."""
        now = self._effects.monotonic()
        if now >= self._ask_at:
            self._ask_at = now + _ASK_EVERY
            self._ask()
        uncovered = exits.cover({process for processes in self._seen.values() for process in processes})
        gone = {process for process in uncovered if self._is_gone(process)}
        for token, processes in list(self._seen.items()):
            if processes and gone.issuperset(processes):
                self._end_if_dead(token)
        return gone != uncovered

    def _end_if_dead(self, token: str, waiting: int = _WAITING) -> None:
        self._seen.pop(token, None)
        self._ask(waiting)  # its record may have changed: `leasecap run` names its command once that has started
        processes = self._seen.get(token, ())
        if processes and all(map(self._is_gone, processes)):
            del self._seen[token]
            self._pool.end(token, by_holder=False)
        self._ask_at = 0.0  # somebody else holds the slot now, or other processes do

    def _is_gone(self, process: Process) -> bool:
        return self._effects.presence(*process) == "gone"

    def sweep(self) -> bool:
        """Look once; returns whether anybody was found dead.

        :raises StoreError: when the store can't be asked.
        """
        self._ask()
        return self._end_the_dead()

    def relieve(self, *, everybody: bool) -> None:
        """End the tickets of those on duty, if they are dead: who comes after them is on duty then.

        :param everybody: of all who wait, and what is held.
        :raises StoreError: as `sweep`.
        """
        waiting = _MOST if everybody else _ON_DUTY
        self._ask(waiting, holders=everybody)
        while self._end_the_dead(waiting):
            self._ask(waiting, holders=everybody)

    def _end_the_dead(self, waiting: int = _WAITING) -> bool:
        dead = [token for token, processes in self._seen.items() if processes and all(map(self._is_gone, processes))]
        for token in dead:
            self._end_if_dead(token, waiting)
        return bool(dead)

    def _ask(self, waiting: int = _WAITING, *, holders: bool = True) -> None:
        tokens, records = self._pool.to_watch(self._seen, holders=holders, waiting=waiting)
        self._seen = {token: processes for token, processes in self._seen.items() if token in tokens}
        self._seen |= {token: self._visible(record) for token, record in records.items()}

    def _visible(self, data: bytes) -> tuple[Process, ...]:
        record = decode_record(data)
        if record is None or record.start is None or not comparable(record, self._effects.me()):
            return ()
        child = record.child
        if child is None:
            return ((record.pid, record.start),)
        return ((record.pid, record.start), (child.pid, child.start)) if child.pid else ()
