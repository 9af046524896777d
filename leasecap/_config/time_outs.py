"""For how long a request may take, by its pool's keys and, where these aren't set, by where it goes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.requests import Requests

FIRST_BYTE_TIMEOUT = 120.0
IDLE_TIMEOUT = 120.0
ANSWER_TIMEOUT = 600.0

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts of servers that run one model for one person: how long they think is that person's business."""


class TimeOuts:
    """Seconds; None: for ever.

    :ivar first_byte: until an answer begins that is streamed.
    :ivar idle: between two pieces of it.
    :ivar answer: until any other answer begins, or goes on.
    """

    __slots__ = ("answer", "first_byte", "idle")

    def __init__(self, requests: Requests, *, local: bool) -> None:
        """:param local: the request goes to a server on this machine."""
        self.first_byte = _timeout(requests.first_byte_timeout, FIRST_BYTE_TIMEOUT, local)
        self.idle = _timeout(requests.idle_timeout, IDLE_TIMEOUT, local)
        self.answer = _timeout(requests.answer_timeout, ANSWER_TIMEOUT, local)

    def until_it_begins(self, streamed: bool) -> float | None:
        """Until an answer of this kind begins."""
        return self.first_byte if streamed else self.answer


def is_local(host: str) -> bool:
    """Whether a server of this name or address is on this machine."""
    return host in _LOCAL


def _timeout(configured: float | None, default: float, local: bool) -> float | None:
    if configured is None:
        return None if local else default
    return configured or None
