"""Asking the provider how many requests it counts in flight.

A thread of its own asks, outside the critical section, so a slow answer delays nobody who doesn't need it. All
processes of the pool ask one question at a time, and one per ``usage_interval``: the pool's state says that one is out.

If a question doesn't come back, no second one is asked. While a callable blocks, or a command can't be ended (it runs
as somebody else, or hangs in the kernel), this process only notes that there is no information.
"""

from __future__ import annotations

import atexit
import os
import threading
import time

from leasecap._errors import StoreError
from leasecap._feedback import adaptive
from leasecap._host.effects import Effects
from leasecap._log import log_warning
from leasecap._threads import start_thread
from leasecap._usage.command import Command
from leasecap._usage.no_count import NoCount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._feedback.state import State
    from leasecap._store.store import Store
    from leasecap._store.terms import Terms

_MOST = 10**9  # no provider counts more requests in flight
_effects = Effects()
_TRIES, _PAUSE = 200, 0.01  # tries for the pool's lock to note an answer; if all fail the question stays unanswered


class _Asker:
    """The questions of this process about one pool.

    :ivar busy: a lock that is held while a question is out.
    """

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self._command = Command()
        self._warned = False

    def stop(self) -> None:
        """Kill a command that has not ended; don't wait for it."""
        self._command.stop()

    def answer(self, store: Store, terms: Terms, done: Callable[[], None], asked: float) -> None:
        """Ask, and note the answer; then release `busy` and call ``done``."""
        limit, error = None, None
        try:
            in_flight, limit = self._count(terms)
        except BaseException as trouble:  # the callable is the user's code, and may want to exit
            in_flight, error = None, _told(trouble)
        finally:
            self.busy.release()
        came = _effects.boot_clock()
        if error is not None and not self._warned:
            self._warned = True
            pool = store.name
            log_warning(
                f"no usage information for pool {pool!r}: {error}; the other rules decide (`leasecap status` goes on)"
            )

        def note(state: State, now: float) -> State:
            # This process may have been stopped since: what was counted before that says nothing of now.
            ago = (_effects.boot_clock() - came) / 1e9
            return adaptive.answered(state, asked, now - ago, in_flight, error, limit)

        try:
            for _ in range(_TRIES):
                if store.update_feedback(note):
                    return
                time.sleep(_PAUSE)
        except (OSError, StoreError) as trouble:
            log_warning(f"the provider's usage could not be noted: {trouble}")
        finally:
            done()

    def _count(self, terms: Terms) -> tuple[int, int | None]:
        """What the provider counts, and its own limit if it says that."""
        rules, limit = terms.rules, None
        if terms.count is not None:
            found = terms.count()
        elif rules.usage_url:
            from leasecap._usage.http import count_at  # an HTTP client is slow to load

            found, limit = count_at(rules)
        elif rules.usage_command:
            found = self._command.count(rules.usage_command, rules.usage_timeout)
        else:
            raise NoCount(
                "others who share the pool have it asked for, but config.toml on this machine has neither usage_url "
                "nor usage_command"
            )
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < _MOST:
            raise NoCount(f"{_shown(found)} is no count")
        return found, limit


def _told(trouble: BaseException) -> str:
    if isinstance(trouble, NoCount):
        return str(trouble)
    return f"{type(trouble).__name__}: {_shown(trouble)}"[:200]


_askers: dict[tuple[int, str], _Asker] = {}
"""By process, since a fork's child has none of its parent's threads, and by the pool's path, since it may be opened
anew."""


@atexit.register
def _stop_all() -> None:
    """Kill the commands that still run, when this process ends."""
    for (pid, _), asker in list(_askers.items()):
        if pid == os.getpid():
            asker.stop()


def ask(store: Store, keep_open: Callable[[], Callable[[], None]]) -> None:
    """Ask, unless another process is asking or has just asked.

    :param keep_open: keeps the pool open until the function that it returns is called.
    """
    terms = store.terms
    asker = _askers.setdefault((os.getpid(), store.path), _Asker())
    asked: list[float] = []
    free = asker.busy.acquire(blocking=False)

    def begin(state: State, now: float) -> State:
        asked.clear()  # a server's pool begins anew, if others were faster
        if not adaptive.may_ask(state, terms.rules, now):
            return state
        state = adaptive.asking(state, now)
        if not free:
            return adaptive.answered(state, now, now, None, "the last question of this process is still out")
        asked.append(now)
        return state

    try:
        store.update_feedback(begin)
        if asked:
            done = keep_open()
            arguments = (store, terms, done, *asked)
            try:
                start_thread("usage", asker.answer, *arguments)
            except RuntimeError as error:
                done()
                log_warning(f"the provider can't be asked for its usage: {error}")
            else:
                free = False  # the thread releases it
    finally:
        if free:
            asker.busy.release()


def _shown(value: object) -> str:
    try:
        return str(value)[:150] if isinstance(value, BaseException) else f"{value!r:.60}"
    except Exception:  # its repr is the user's code, or it is an int with more digits than Python writes
        return type(value).__name__
