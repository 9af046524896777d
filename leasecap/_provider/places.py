"""The places in the queue of clients that gave up and come again.

Many clients give up after a minute or five and send the same request anew; each would go to the end of the queue, for
ever. The ticket of one that is gone is withdrawn at once, and nothing is granted to it: only its order is kept for a
while, and given to the next request that is the same.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from hashlib import blake2b
from secrets import token_bytes

from leasecap._store.ticket import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST = 1000
"""Places that are kept at once; the oldest goes first."""


class Kept:
    """A request's place, while it is served.

    :ivar done: it was answered, so that its place is not kept.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.done = False


class Places:
    """Those of one gate."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, Place]] = OrderedDict()
        self._secret = token_bytes(32)

    def key(self, *parts: bytes) -> bytes:
        """What says that two requests are the same. A keyed hash: bodies and credentials are stored nowhere."""
        digest = blake2b(key=self._secret, digest_size=16)
        for part in parts:
            digest.update(b"%d:" % len(part))
            digest.update(part)
        return digest.digest()

    @contextmanager
    def keeping(self, key: Callable[[], bytes] | None, seconds: float) -> Iterator[Kept]:
        """A place for the block; unless it is ``done`` by then, the next request of this key has it for ``seconds``.

        :param key: called only when it is needed, since it reads the whole body; None: keep nothing.
        """
        kept = Kept(self._take(key))
        try:
            yield kept
        finally:
            if not kept.done and key is not None and seconds > 0:
                self._kept[key()] = self._clock() + seconds, kept.place
                while len(self._kept) > _MOST:
                    self._kept.popitem(last=False)

    def _take(self, key: Callable[[], bytes] | None) -> Place:
        if key is None or not self._kept:
            return Place()
        # Taken out, and not shared: of two equal requests at once one is no repetition of the other.
        until, place = self._kept.pop(key(), (0.0, Place()))
        return place if self._clock() < until else Place()
