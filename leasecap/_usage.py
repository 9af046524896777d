"""Asking the provider how many requests it counts in flight.

In a thread of its own and outside the critical section: a slow answer delays nobody who needs none. One question at a
time, and one per ``usage_interval``, of all processes of the pool: that it is asked stands in the pool's state.
"""

from __future__ import annotations

import threading
import time

from leasecap import _feedback
from leasecap._errors import StoreError
from leasecap._lessons import learn
from leasecap._report import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leasecap._learning import Learning
    from leasecap._state import State
    from leasecap._store import Store

_MOST_BYTES = 4096  # of an answer: it is one number
_TRIES, _PAUSE = 200, 0.01  # at the pool's lock, with an answer in hand; after that the question counts as unanswered


def ask(store: Store, learning: Learning, keep_open: Callable[[], Callable[[], None]]) -> None:
    """Ask, unless somebody else does or just has.

    :param keep_open: keeps the pool open until what it returns is called.
    """
    asked: list[float] = []

    def begin(state: State, now: float) -> State:
        if not _feedback.may_ask(state, learning.rules, now):
            return state
        asked.append(now)
        return _feedback.asking(state, now)

    learn(store, begin)
    if asked:
        done = keep_open()
        answer = (store, learning, done, *asked)
        try:
            threading.Thread(target=_answer, args=answer, name="leasecap-usage", daemon=True).start()
        except RuntimeError as error:
            done()
            tell(f"the provider can't be asked for its usage: {error}")


def _answer(store: Store, learning: Learning, done: Callable[[], None], asked: float) -> None:
    in_flight, error = _count(learning)
    try:
        for _ in range(_TRIES):
            if learn(store, lambda state, now: _feedback.answered(state, asked, now, in_flight, error)):
                return
            time.sleep(_PAUSE)
    except (OSError, StoreError) as trouble:
        tell(f"the provider's usage could not be noted: {trouble}")
    finally:
        done()


def _count(learning: Learning) -> tuple[int | None, str | None]:
    """What the provider says, or why that is no information."""
    try:
        found = learning.count() if learning.count is not None else _output(learning)
    except Exception as error:  # the callable is the user's code
        return None, f"{type(error).__name__}: {error}"[:200]
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        return None, f"{found!r:.60} is no count"
    return found, None


def _output(learning: Learning) -> int:
    """The number that ``usage_command`` prints.

    :raises OSError, ValueError: when there is none.
    """
    import os
    import signal
    import subprocess

    command: Sequence[str] = learning.rules.usage_command
    # A group of its own, so that what the command has started ends with it: `sh -c` leaves its children behind.
    group = 0 if hasattr(os, "killpg") else None
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=group
    ) as process:
        try:
            said, _ = process.communicate(timeout=learning.rules.usage_timeout)
        except subprocess.TimeoutExpired:
            if group is None:
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            raise ValueError(f"no answer within {learning.rules.usage_timeout:g} s") from None
    if process.returncode:
        raise ValueError(f"{command[0]} ended with status {process.returncode}")
    text = said[:_MOST_BYTES].decode("ascii", "replace").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{command[0]} printed {text!r:.60}, which is no count")
    return int(text)
