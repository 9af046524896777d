"""Asking the provider how many requests it counts in flight.

A thread of its own asks, outside the critical section, so a slow answer delays nobody who doesn't need it. All
processes of the pool ask one question at a time, and one per ``usage_interval``: the pool's state says that one is out.

If a question doesn't come back, no second one is asked. While a callable blocks, or a command can't be ended (it runs
as somebody else, or hangs in the kernel), this process only notes that there is no information.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time

from leasecap._errors import StoreError
from leasecap._feedback import adaptive
from leasecap._host.process import child_has_ended
from leasecap._log import log_warning
from leasecap._threads import start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from leasecap._feedback.state import State
    from leasecap._store.store import Store
    from leasecap._store.terms import Terms

_MOST_BYTES = 4096  # an answer is one number, so it isn't longer
_MOST = 10**9  # no provider counts more requests in flight
_ENDS_WITHIN = 1.0  # seconds from SIGKILL to the end, for a process that can be ended
_EXIT_LOOK, _OUTPUT_LOOK = 0.01, 0.05  # seconds between looks whether the command has ended: after its output, before
_TRIES, _PAUSE = 200, 0.01  # tries for the pool's lock to note an answer; if all fail the question stays unanswered


class _Asker:
    """The questions of this process about one pool.

    :ivar busy: a lock that is held while a question is out.
    """

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self._left: subprocess.Popen[bytes] | None = None
        self._warned = False

    def stop(self) -> None:
        """Kill a command that has not ended; don't wait for it."""
        if self._left is not None:
            _kill(self._left)

    def answer(self, store: Store, terms: Terms, done: Callable[[], None], asked: float) -> None:
        """Ask, and note the answer; then release `busy` and call ``done``."""
        try:
            in_flight, error = self._count(terms)
        finally:
            self.busy.release()
        if error is not None and not self._warned:
            self._warned = True
            pool = store.name
            log_warning(
                f"no usage information for pool {pool!r}: {error}; the other rules decide (`leasecap status` goes on)"
            )
        try:
            for _ in range(_TRIES):
                if store.update_feedback(lambda state, now: adaptive.answered(state, asked, now, in_flight, error)):
                    return
                time.sleep(_PAUSE)
        except (OSError, StoreError) as trouble:
            log_warning(f"the provider's usage could not be noted: {trouble}")
        finally:
            done()

    def _count(self, terms: Terms) -> tuple[int | None, str | None]:
        """What the provider counts, or why there is no information."""
        try:
            found = terms.count() if terms.count is not None else self._output(terms)
            if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < _MOST:
                return None, f"{_shown(found)} is no count"
        except BaseException as error:  # the callable is the user's code, and may want to exit
            return None, f"{type(error).__name__}: {_shown(error)}"[:200]
        return found, None

    def _output(self, terms: Terms) -> int:
        """The number that ``usage_command`` prints.

        :raises OSError, ValueError: when there is none.
        """
        import subprocess

        if self._left is not None and not _ended(self._left):
            raise ValueError(f"the command of the last question (pid {self._left.pid}) can't be ended")
        command: Sequence[str] = terms.rules.usage_command
        # It gets a process group of its own, so that what it starts ends with it: `sh -c` leaves its children behind.
        group = None if sys.platform == "win32" else 0
        process = self._left = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=group
        )
        try:
            said = _output_of(process, terms.rules.usage_timeout)
        finally:
            if _ended(process):
                self._left = None
        if process.returncode:
            raise ValueError(f"{command[0]} ended with status {process.returncode}")
        text = said.decode("ascii", "replace").strip()
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise ValueError(f"{command[0]} printed {text!r:.60}, which is no count")
        return int(text)


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


def _output_of(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """What the command prints until it ends.

    :raises ValueError: when it prints more than a number, or takes longer.
    """
    import subprocess

    late = f"no answer within {seconds:g} s"
    if sys.platform == "win32":  # a pipe can't be polled there
        try:
            return process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            raise ValueError(late) from None
    import selectors

    assert process.stdout is not None
    fd = process.stdout.fileno()
    os.set_blocking(fd, False)
    end = time.monotonic() + seconds
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            # Asked before the read: a command that has ended prints no more, though a child of it may keep the pipe
            # open.
            ended = child_has_ended(process.pid)
            try:
                more: bytes | None = os.read(fd, _MOST_BYTES)
            except BlockingIOError:
                more = None
            said += more or b""
            if len(said) > _MOST_BYTES:
                raise ValueError(f"it prints more than {_MOST_BYTES} bytes, which is no count")
            if more:
                continue
            if ended:
                return said
            left = end - time.monotonic()
            if left <= 0:
                raise ValueError(late)
            if more is None:
                selector.select(min(left, _OUTPUT_LOOK))
            else:
                time.sleep(min(left, _EXIT_LOOK))


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """End the command and what it has started; False if it goes on all the same."""
    import subprocess

    if process.stdout is not None:
        process.stdout.close()
    _kill(process)
    try:
        process.wait(_ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill(process: subprocess.Popen[bytes]) -> None:
    import signal

    try:
        if sys.platform == "win32":
            process.kill()
        elif process.returncode is None:  # else the number may be another group's by now
            os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        pass  # it has ended, or belongs to somebody else


def _shown(value: object) -> str:
    try:
        return str(value)[:150] if isinstance(value, BaseException) else f"{value!r:.60}"
    except Exception:  # its repr is the user's code, or it is an int with more digits than Python writes
        return type(value).__name__
