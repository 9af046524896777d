"""Finding dead holders of this machine before their time in the store runs out.

While one of this process's tickets is on duty, the processes of all holders are looked at that can be seen from here.
What happens on another machine, or in another pid namespace, shows after its ttl alone.
"""

from __future__ import annotations

from leasecap._errors import StoreError
from leasecap._liveness.record import decode_record
from leasecap._liveness.verdict import comparable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._host.effects import Effects
    from leasecap._liveness.presence import Process
    from leasecap._redis_store.alarms import Alarms
    from leasecap._redis_store.errands import Errands
    from leasecap._redis_store.pool import Pool

_LOOK_EVERY = 0.1  # seconds between looks at processes
_ASK_EVERY = 10  # looks between questions who holds


class Lookout:
    """Looks at the holders of one pool."""

    def __init__(self, effects: Effects, pool: Pool, alarms: Alarms, errands: Errands) -> None:
        self._effects = effects
        self._pool = pool
        self._alarms = alarms
        self._errands = errands
        self._on_duty: set[str] = set()
        self._runs = False
        self._looks = 0
        self._seen: dict[str, tuple[Process, ...]] = {}  # the processes of each holder that can be seen; none: it can't

    def note(self, token: str, *, on_duty: bool) -> None:
        """Whether this ticket is on duty."""
        if not on_duty:
            self._on_duty.discard(token)
            return
        self._on_duty.add(token)
        if not self._runs:
            self._runs, self._looks = True, 0
            self._look_in_a_while()

    def leaves(self, token: str) -> bool:
        """The ticket leaves the queue; returns whether it was on duty."""
        was = token in self._on_duty
        self._on_duty.discard(token)
        return was

    def _look_in_a_while(self) -> None:
        self._alarms.set(self, self._effects.monotonic() + _LOOK_EVERY, self._look)

    def _look(self) -> None:
        """In the alarms' thread, so it asks nobody."""
        if not self._on_duty:
            self._runs = False
        elif self._looks % _ASK_EVERY == 0 or any(map(self._are_gone, self._seen.values())):
            self._errands.do(self._act)
        else:
            self._looks += 1
            self._look_in_a_while()

    def _are_gone(self, processes: tuple[Process, ...]) -> bool:
        return bool(processes) and all(self._effects.presence(*process) == "gone" for process in processes)

    def _act(self) -> None:
        """In an errand's thread."""
        try:
            if self._looks % _ASK_EVERY == 0:
                self._ask()
            self._looks += 1
            for token, processes in list(self._seen.items()):
                if self._are_gone(processes):
                    del self._seen[token]
                    self._pool.end(token, by_holder=False)
                    self._looks = 0  # somebody else holds the slot now
        except StoreError:
            pass  # its time in the store runs out all the same
        finally:
            self._look_in_a_while()

    def _ask(self) -> None:
        tokens, records = self._pool.holders(self._seen)
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
