"""Asking a provider for its count where a change of the pool's state is made anew if others were faster."""

from __future__ import annotations

import threading

from leasecap._feedback import adaptive
from leasecap._feedback.rules import Rules
from leasecap._feedback.state import NOTHING, State
from leasecap._store.terms import Terms
from leasecap._usage.asking import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Contended:
    """A pool whose first attempt at each change comes too late, since ``meanwhile`` somebody else has changed it."""

    name = "p"

    def __init__(self, path: str, meanwhile: Callable[[State, float], State]) -> None:
        self.path = path
        self.terms = Terms(Rules())
        self.terms.count = lambda: 3
        self.state = NOTHING
        self.now = 1000.0
        self._meanwhile = meanwhile

    def update_feedback(self, change: Callable[[State, float], State], *, anew: bool = False) -> bool:
        change(self.state, self.now)
        self.state = self._meanwhile(self.state, self.now)
        self.now += 0.5
        self.state = change(self.state, self.now)
        return True


def asked(pool: Contended) -> int:
    """How many questions were asked, all of which are over."""
    over = threading.Semaphore(0)
    count = 0

    def keep_open() -> Callable[[], None]:
        nonlocal count
        count += 1
        return over.release

    ask(pool, keep_open)  # type: ignore[arg-type]
    for _ in range(count):
        assert over.acquire(timeout=20)
    return count


def test_question_that_was_begun_anew_is_asked_once_and_answered() -> None:
    pool = Contended("anew", lambda state, now: state)
    assert asked(pool) == 1
    usage = pool.state.usage
    assert usage is not None and (usage.asked, usage.in_flight) == (1000.5, 3)


def test_question_that_another_has_begun_meanwhile_is_left_to_it() -> None:
    pool = Contended("left", lambda state, now: adaptive.asking(state, now + 0.25))
    assert asked(pool) == 0
    usage = pool.state.usage
    assert usage is not None and (usage.asked, usage.answered) == (1000.25, None)
