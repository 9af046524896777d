"""What ``on_wait`` is given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """How a wait stands. ``on_wait`` is given one after about a second of waiting, and then ever more rarely.

    :ivar position: the place in the queue, 1 for the head. It can grow: a higher priority or an older call goes before.
    :ivar waited: seconds since the call.
    :ivar holders: who holds the slots, longest first, one short line each.
    :ivar notice: something the caller should know, such as a configuration that broke meanwhile; or None.
    """

    pool: str
    limit: int | None
    in_flight: int
    position: int
    waited: float
    holders: tuple[str, ...]
    notice: str | None
