"""What is sent to a server, and what is known of the server that it is sent to."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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


class Command(NamedTuple):
    """A command as it is sent.

    :ivar head: its first words, packed: those that are the same in each call.
    :ivar words: how many these are.
    :ivar whole: the words that do the same on a server that doesn't know the script, up to ``rest``.
    """

    head: bytes
    words: int
    rest: Sequence[Word]
    whole: Sequence[Word] = ()

    def packed(self, server: Server | None) -> bytes:
        """The bytes for that server; None: a Sentinel."""
        rest = self.rest
        return b"*%d\r\n%b%b" % (self.words + len(rest), self.head, _packed(rest, server))

    def with_script(self) -> Command:
        """The same for a server that doesn't know the script."""
        return Command(b"", 0, (*self.whole, *self.rest))


def command_of(*words: Word) -> Command:
    """The command of these words."""
    return Command(b"", 0, words)


def _packed(words: Sequence[Word], server: Server | None) -> bytes:
    parts = []
    for word in words:
        if callable(word):
            assert server is not None
            word = word(server)
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


@lru_cache(maxsize=256)
def _by_digest(digest: str, keys: tuple[str, ...]) -> bytes:
    return _packed(("EVALSHA", digest, len(keys), *keys), None)


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

    def command(self, keys: Sequence[str], args: Sequence[Word]) -> Command:
        """What runs the script with these keys and arguments."""
        head = _by_digest(self.digest, tuple(keys))
        return Command(head, 3 + len(keys), args, ("EVAL", self.text, len(keys), *keys))
