"""What a call that tries once waits for all the same, before it is refused: it is over soon, and may give it a slot."""

from __future__ import annotations

from leasecap._log import log_warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from leasecap._redis_store.open_pool import OpenPool

_LOOK_EVERY = 0.05
"""Seconds between looks whether the provider has answered."""

_ALL_AT_ONCE = 0.25  # seconds

_GRACE = 1.0
"""Seconds that are waited for longer than the provider may take."""


def say_who_is_waited_for(store: OpenPool, seconds: float) -> None:
    """Say that holders are waited for: the server has lost something, or nobody has called for a while."""
    log_warning(
        f"pool {store.name!r}: the store at {store.path} was started anew, has lost something, or was not asked for a "
        f"while, so nobody gets a slot for {seconds:.1f} s, in which those who hold one say so"
    )


def wait_for_holders(store: OpenPool, seconds: float) -> Generator[float, None, None]:
    """Wait until those who hold a slot have said so, or for half of that time: after a silence it would begin anew."""
    until = store.monotonic() + (seconds / 2 if seconds > _ALL_AT_ONCE else seconds)
    while (left := until - store.monotonic()) > 0:
        yield left


def wait_for_count(store: OpenPool, awaits: Callable[[], Generator[float, None, bool]]) -> Generator[float, None, None]:
    """Wait until the provider has said how much it counts, where that is all that is missing.

    :param awaits: asks the store whether it still is.
    """
    until = store.monotonic() + store.pool.rules.usage_timeout + _GRACE
    while store.monotonic() < until and (yield from awaits()):
        yield _LOOK_EVERY
