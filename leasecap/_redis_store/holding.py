"""What a pool's policy says of those who hold a slot, and when a command ends that may have lost its own."""

from __future__ import annotations

import json
import math
from functools import lru_cache

from leasecap._named_tuple import NamedTuple, from_json

_MARGIN = 1 / 12
"""The share of its ttl that a lease has left when its command must have ended: KILL and the kernel take a moment."""

_MOST = 1 / 2
"""The share of its ttl that a command has at most, from TERM to KILL: two beats have failed before that."""


class Holding(NamedTuple):
    """What holds for everybody.

    :ivar max_hold: seconds for which a slot may be held at most; None: as long as its holder likes.
    :ivar reclaim: "force": one that was held for too long is given away.
    :ivar when_unsure: "end": `leasecap run` ends a command in time whose lease it can't renew; "run": it runs on.
    """

    max_hold: float | None = None
    reclaim: str = "never"
    when_unsure: str = "run"

    def at_most(self, max_hold: float | None) -> float | None:
        """For how long a call may hold its slot that asks for ``max_hold``: it can shorten what holds for all."""
        limits = (self.max_hold, max_hold)
        return min((limit for limit in limits if limit is not None), default=None)


@lru_cache(maxsize=16)
def holding_in(text: str) -> Holding:
    """What the pool's field says. One that can't be read says nothing: it must not end what runs."""
    if not text:
        return Holding()
    try:
        return from_json(Holding, json.loads(text), in_bounds=_in_bounds)
    except (ValueError, RecursionError):
        return Holding()


def _in_bounds(value: object) -> bool:
    return not isinstance(value, (int, float)) or 0 < value < math.inf


def text_of(holding: Holding) -> str:
    """The pool's field; "" where nothing is said."""
    return "" if holding == Holding() else json.dumps(holding._asdict(), separators=(",", ":"))


def ends_in(sent: float, ttl: float, kill_after: float, now: float) -> float | None:
    """Seconds until a command must have ended whose lease was last renewed at ``sent``; None: that is far off.

    :param ttl: for how long that renewal holds.
    :param kill_after: seconds that a command has to end, once it is told to.
    """
    left = sent + ttl * (1 - _MARGIN) - now
    return left if left <= min(kill_after, ttl * _MOST) else None
