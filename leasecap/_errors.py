"""Everything leasecap raises on purpose.

::

    LeasecapError
    ├── AcquireTimeout   (also TimeoutError)  no slot came in time
    ├── ConfigError                           a setting is wrong, or no limit is set
    ├── LeaseLost                             the lease was taken while its holder still ran, or held for too long
    └── StoreError                            the root, a file or a lock can't be used

Each error says what happened, where, and what to do now. Each one can be pickled: a worker process hands it whole to
its parent. Wrong arguments (a negative timeout, ``True`` for a number) are Python's own ``TypeError`` and
``ValueError``.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class LeasecapError(Exception):
    """The base of all errors below."""


class AcquireTimeout(LeasecapError, TimeoutError):
    """No slot came in time; the ticket has been withdrawn.

    :ivar pool: the pool's name.
    :ivar limit: the limit that was in force; None if none is known.
    :ivar holders: what held the slots, one short line each.
    :ivar position: the place in the queue when the time was up, 1 for the head; 0 if it never queued.
    :ivar waited: seconds between the call and the error.
    :ivar why: what the provider's answers have to do with it (a pause, a reduced limit), or None.
    """

    def __init__(
        self,
        pool: str,
        limit: int | None,
        holders: Sequence[str],
        position: int,
        waited: float,
        why: str | None = None,
    ) -> None:
        super().__init__(pool, limit, tuple(holders), position, waited, why)
        self.pool = pool
        self.limit = limit
        self.holders = tuple(holders)
        self.position = position
        self.waited = waited
        self.why = why

    def __str__(self) -> str:
        place = f", position {self.position} in the queue" if self.position else ""
        limit = "no limit" if self.limit is None or self.limit >= sys.maxsize else f"limit {self.limit}"
        if self.position:
            what = f"came free in {self.waited:.1f} s"
        else:  # who never queued may have waited all the same, for a server that had just begun
            what = "is free now" + (f", after {self.waited:.1f} s" if self.waited >= 1.0 else "")
        lines = [f"no slot of pool {self.pool!r} {what} ({limit}{place})"]
        if self.why:
            lines.append(self.why)
        if self.holders:
            shown = "; ".join(self.holders[:4])
            more = len(self.holders) - 4
            lines.append(f"held by: {shown}" + (f"; and {more} more" if more > 0 else ""))
        return "\n".join(lines)


class ConfigError(LeasecapError):
    """A setting can't be used. Nothing was started and nothing was changed.

    :ivar file: the file or environment variable or argument at fault, or None if something is missing altogether.
    :ivar key: the dotted key, such as ``pools.anthropic.limit``, or None.
    :ivar value: what stood there, as text, or None.
    :ivar allowed: what may stand there, or the command that sets it.
    :ivar line: the line in ``file``, counted from 1, where known.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        key: str | None = None,
        value: str | None = None,
        allowed: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.key = key
        self.value = value
        self.allowed = allowed
        self.line = line

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), (self.message,), self.__dict__)

    def __str__(self) -> str:
        where = ""
        if self.file is not None:
            where = f"{self.file}:{self.line}: " if self.line is not None else f"{self.file}: "
        if self.key is not None:
            where += self.key if self.value is None else f"{self.key} = {self.value}"
            where += ": "
        return where + self.message + (f"\n{self.allowed}" if self.allowed else "")


class LeaseLost(LeasecapError):
    """The lease is gone though its holder runs on (taken as dead, or released by a person), or its time is over.

    :ivar pool: the pool's name.
    :ivar lease: the id of the lease.
    :ivar gone: whether its slot may be in use by another process now.
    :ivar max_hold: the seconds for which it could be held, if these are over; else None.
    :ivar parent: in a fork's child the pid that holds it; else None.
    :ivar why: what took it, or None.
    """

    def __init__(
        self,
        pool: str,
        lease: str,
        gone: bool = True,
        max_hold: float | None = None,
        parent: int | None = None,
        why: str | None = None,
    ) -> None:
        super().__init__(pool, lease, gone, max_hold, parent, why)
        self.pool = pool
        self.lease = lease
        self.gone = gone
        self.max_hold = max_hold
        self.parent = parent
        self.why = why

    def __str__(self) -> str:
        if self.parent is not None:
            who = f"held by pid {self.parent}, and not by this process, which was forked from it"
            return f"lease {self.lease} of pool {self.pool!r} is {who}. Acquire a slot of its own."
        over = "" if self.max_hold is None else f" has been held too long (max_hold is {self.max_hold:g} s)"
        why = f" ({self.why})" if self.why else ""
        taken = f" was taken while it was held{why}: its slot may be in use by another process now" if self.gone else ""
        what = " and".join(filter(None, (over, taken)))
        then = "Stop the work, or acquire again" if self.gone else "Stop the work and release it"
        return f"lease {self.lease} of pool {self.pool!r}{what}. {then}."


class StoreError(LeasecapError):
    """The state directory, or something in it, can't be used as it must be.

    :ivar path: the path at fault.
    :ivar remedy: what to do about it.
    """

    def __init__(self, message: str, *, path: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), (self.message,), self.__dict__)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}\n{self.remedy}"


class Unreachable(StoreError):
    """The store can't be used now, and that may pass by itself: it is worth trying again."""


def _rebuild(cls: type[LeasecapError], args: tuple[object, ...], state: dict[str, object]) -> LeasecapError:
    # Exception.__reduce__ would call cls(*args) without the keyword-only fields.
    error = cls.__new__(cls, *args)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error
