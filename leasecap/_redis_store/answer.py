"""What the scripts answer, as data."""

from __future__ import annotations

from leasecap._errors import StoreError
from leasecap._named_tuple import NamedTuple
from leasecap._redis_store.holding import holding_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from leasecap._redis_store.holding import Holding


class Seen(NamedTuple):
    """A pool as a script saw it. Times are seconds of the server's clock.

    :ivar version: of what was seen; a plan is carried out only if it still stands.
    :ivar limit: the limit in the store, or None.
    :ivar feedback, rules: JSON; "" where there is none.
    :ivar granted, leases: names, by when they were granted.
    :ivar cooling: names, by when they no longer count.
    :ivar closed_for: seconds for which nobody is granted anything, since the server has lost something. Of a call that
        was refused: or for which holders are waited for whose time has run out, since nobody has called for a while.
    :ivar idle_for: seconds since a lease ended last.
    """

    now: float
    version: str
    limit: int | None
    feedback: str
    rules: str
    queue: tuple[str, ...]
    passed: tuple[str, ...]
    granted: Mapping[str, float]
    leases: Mapping[str, float]
    cooling: Mapping[str, float]
    closed_for: float
    idle_for: float = 0.0


class Answer(NamedTuple):
    """What a script says of one entry. Times are seconds.

    :ivar state: what has become of it.
    :ivar now: the server's clock.
    :ivar ttl: for how long the entry lasts without a renewal.
    :ivar by_task: whether calls of earlier tasks go first.
    :ivar since: when it was granted; 0 if it wasn't.
    :ivar position: its place in the queue, 1 for the first; 0 if it has none.
    :ivar on_duty: whether it is for this ticket to look now and then, for all.
    :ivar unwatched: whether one of the tickets on duty hasn't looked for a while, and this is none of them.
    :ivar changes_in: until something changes by itself; infinite where that isn't for this ticket to see.
    :ivar closed_for: see `Seen`.
    :ivar name: the entry's name; "" if there is no such entry.
    :ivar seen: the pool, if somebody has to decide; else None.
    :ivar holding: what the policy says of holders.
    :ivar each: of `RENEW`, what has become of each lease.
    :ivar unanswered: it was refused only because the provider's own count is missing.
    """

    state: str
    now: float
    ttl: float
    by_task: bool
    since: float
    position: int
    on_duty: bool
    unwatched: bool
    changes_in: float
    closed_for: float
    name: str
    seen: Seen | None
    holding: Holding
    each: tuple[str, ...] = ()
    unanswered: bool = False


class Picture(NamedTuple):
    """A pool with all that is known of it, for people.

    :ivar records: of each entry, by its token.
    :ivar expiries: when each entry ends, by its name.
    :ivar is_used: whether the server knows the pool.
    :ivar holding: what the policy says of holders.
    :ivar limit_by, limit_at: who has set its limit and when, as text; "" where nobody has.
    """

    seen: Seen
    records: Mapping[str, bytes]
    expiries: Mapping[str, float]
    ttl: float
    is_used: bool
    holding: Holding
    limit_by: str
    limit_at: str
    policy_by: str
    policy_at: str


def order_in(name: str) -> int:
    """The place among all calls of an entry with this name."""
    return int(name[4:20], 16)


def answer_of(raw: Any) -> Answer:
    """An answer as the server sent it."""
    line, seen, each = (raw, None, ()) if isinstance(raw, bytes) else raw
    words = line.decode("ascii", "replace").split(" ")
    state, now, ttl, by_task, since, position, duty, changes, closed, name, holding = words
    return Answer(
        state,
        float(now) / 1000,
        float(ttl) / 1000,
        by_task == "1",
        float(since) / 1000,
        int(position),
        duty == "1",
        duty == "2",
        float(changes) / 1000,
        float(closed) / 1000,
        name,
        None if seen is None else _seen(seen),
        holding_in(holding),
        tuple(map(_text, each)),
    )


def picture_of(raw: Any) -> Picture:
    """The answer of `SNAPSHOT`."""
    seen, records, expiries, ttl, known, (*marks, holding) = raw
    return Picture(
        _seen(seen),
        {_text(token): record for token, record in zip(records[::2], records[1::2], strict=True)},
        _times(expiries),
        ttl / 1000,
        bool(known),
        holding_in(_text(holding or b"")),
        *(_text(mark or b"") for mark in marks),
    )


def _seen(raw: Sequence[Any]) -> Seen:
    now, version, limit, feedback, rules, queue, passed, granted, leases, cooling, closed, idle = raw
    return Seen(
        now / 1000,
        _text(version),
        int(limit) if limit else None,
        _text(feedback),
        _text(rules),
        tuple(map(_text, queue)),
        tuple(map(_text, passed)),
        _times(granted),
        _times(leases),
        _times(cooling),
        closed / 1000,
        idle / 1000,
    )


def _times(pairs: Sequence[bytes]) -> dict[str, float]:
    return {_text(name): float(time) / 1000 for name, time in zip(pairs[::2], pairs[1::2], strict=True)}


def _text(word: bytes) -> str:
    return word.decode("ascii", "replace")


def other_format(found: str, known: int, place: str) -> StoreError:
    """The error for a pool that a later leasecap has made."""
    return StoreError(
        f"the pool has format {found}, and this leasecap knows format {known}",
        path=place,
        remedy="upgrade leasecap here too; until then name another store or prefix",
    )
