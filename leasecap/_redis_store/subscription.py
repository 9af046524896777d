"""This process's one subscription to a server, and the thread that reads it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from leasecap._redis_store.client import Client

    Heard: TypeAlias = Callable[[bytes], None]


def channel(prefix: str, db: int, name: str) -> str:
    """The name of a channel. Databases have their keys apart, and their channels not: so the number stands in it."""
    return f"{prefix}:{db}:{name}"


class Subscription:
    """Gives messages to those who listen for them."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def proven(self) -> bool:
        """Whether a message to itself has come back lately: else whoever waits has to look by itself more often."""
        return False

    def listen(self, channel: str, heard: Heard) -> None:
        """Call ``heard`` in the thread with each message to ``channel``; with b"" whenever some may have been missed."""

    def forget(self, channel: str, heard: Heard) -> None:
        """End `listen`."""

    def rest(self) -> None:
        """End the thread if nobody listens: Python warns of a fork beside threads."""

    def forget_parent(self) -> None:
        """In a fork's child: let go of what is the parent's."""
