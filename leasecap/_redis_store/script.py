"""What is sent to a server, and what is known of the server that it is sent to."""

from __future__ import annotations

from hashlib import sha1

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    # A function is called with the server at the other end of the connection that is used.
    Word: TypeAlias = "str | bytes | int | float | Callable[[Server], str | bytes | int | float]"


class Server(NamedTuple):
    """What a server has said of itself when the connection to it was made.

    :ivar run_id: another one after each start of the server; the same for as long as a connection lives.
    :ivar software: "redis" or "valkey".
    :ivar version: of that, as "7.0.15".
    :ivar started: when it was started, by this process's monotonic clock (seconds).
    :ivar is_replica: whether it followed another one then.
    :ivar is_cluster: whether it is a node of a cluster.
    """

    run_id: str
    software: str
    version: str
    started: float
    is_replica: bool
    is_cluster: bool


class Script:
    """A script in Lua. It is sent whole only to a server that doesn't know it yet.

    A reply can get lost after the script has run, and the script is sent again then: running it twice with the same
    arguments must leave what running it once leaves, and give the same answer.

    :ivar name: for people.
    :ivar digest: by which the server knows it.
    """

    __slots__ = ("digest", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()
