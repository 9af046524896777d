"""The processes of a scene: forked, led by orders, each order answered by one line.

A *puppet* queues and looks only when told, so that its effects fall between those of the victim and never beside them;
told to go ``live`` it waits like anybody. The *victim* runs a script of its own until it is struck.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
import traceback
from contextlib import contextmanager

from children import await_stop

import leasecap
from leasecap._api import acquire_with, pool_store
from leasecap._request import Options
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from worker import Log

    from crash.effects import Points
    from leasecap import Lease
    from leasecap._host.deferred_signals import DeferredSignals
    from leasecap._store.wakeup import Wakeup

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

PATIENCE = 30.0
"""Seconds after which something that must happen counts as not happening."""


def _log(path: str) -> Log:
    from worker import Log  # which pytest, in passing by, has not on its path

    return Log(path)


def die_with_parent() -> None:
    """Whoever ends the tests the hard way leaves nobody behind, least of all one that is stopped (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


class Line:
    """One end of a conversation in lines."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read, self._write = read_fd, write_fd
        self._unread = b""

    def say(self, *words: object) -> None:
        os.write(self._write, (" ".join(map(str, words)) + "\n").encode())

    def hear(self, timeout: float | None = None) -> str:
        """The next line; "" when none came in time, "exit" when the other end is gone."""
        while b"\n" not in self._unread:
            if timeout is not None and not select.select([self._read], [], [], timeout)[0]:
                return ""
            data = os.read(self._read, 65536)
            if not data:
                return "exit"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class Actor:
    """A forked process, as it is seen by the others."""

    def __init__(self, name: str, body: Callable[[Line], object]) -> None:
        self.name = name
        order, orders = os.pipe()
        answer, answers = os.pipe()
        self._line = Line(answer, orders)
        self.pid = os.fork()
        if self.pid == 0:
            line = Line(order, answers)
            die_with_parent()
            try:
                body(line)
            except BaseException:
                line.say("ERROR", json.dumps(traceback.format_exc()))
            finally:
                os._exit(0)  # nothing of the parent's is ours to clear up
        os.close(order)
        os.close(answers)

    def tell(self, *words: object) -> None:
        self._line.say(*words)

    def answer(self) -> str:
        line = self._line.hear(PATIENCE)
        assert line, f"{self.name} says nothing"
        assert not line.startswith("ERROR"), f"{self.name}: {json.loads(line[6:])}"
        return line

    def order(self, *words: object) -> str:
        """Give an order and return when it is carried out."""
        self.tell(*words)
        return self.answer()

    def kill(self) -> int:
        """End it; returns when that was."""
        moment = time.monotonic_ns()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return moment

    def stopped(self) -> None:
        """Return when it has stopped."""
        await_stop(self.pid)

    def ended(self) -> None:
        """Return when it has ended."""
        os.waitpid(self.pid, 0)

    def close(self) -> None:
        self._line.close()


class _Alone:
    """What a waiter has that listens alone: it runs its process's look-outs, by the clock of the script."""

    def __init__(self, points: Points) -> None:
        self._points = points
        self._watch: Any = None

    def listen(self, watch: Wakeup) -> bool:
        self._watch = watch
        return watch.start(alone=True)  # no thread, whose effects would come in between

    def look_out(self, timeout: float) -> float:
        """Run those that are due; returns the seconds to the next one, ``timeout`` at most."""
        if self._watch is None:
            return timeout
        for lookout in tuple(self._watch._lookouts):
            lookout.run(self._points.monotonic())
        due: float = self._watch._due()
        return min(timeout, max(due - self._points.monotonic(), 0.0))


class _Strings:
    """How a puppet waits: it looks when told, until it goes live."""

    def __init__(self, line: Line, points: Points) -> None:
        self._line = line
        self._points = points
        self._alone = _Alone(points)
        self.listen = self._alone.listen
        self._owes_answer = True  # to the order to begin
        self.go = False

    def wake(self) -> None:
        """It looks soon enough."""

    def wait(self, timeout: float, interrupts: DeferredSignals) -> None:
        timeout = self._alone.look_out(timeout)
        self.answer("waiting")
        live = not self._points.armed
        word, *rest = self._line.hear(min(timeout, 0.02) if live else None).split() or [""]
        self._obey(word, rest, timeout)

    def _obey(self, word: str, rest: list[str], timeout: float) -> None:
        self._owes_answer = word in ("look", "go")
        if word == "look":
            self._points.pause(float(rest[0]) if rest else timeout)
        elif word in ("live", "go"):
            self._points.disarm()
            self.go = self.go or word == "go"
        elif word == "exit":
            os._exit(0)

    def answer(self, word: str) -> None:
        if self._owes_answer and not self.go:
            self._owes_answer = False
            self._line.say(word)

    def hold(self) -> None:
        """Until told to go."""
        self.answer("held")
        while not self.go:
            self._obey(*_words(self._line.hear()), 0)
            self.answer("held")


def _words(line: str) -> tuple[str, list[str]]:
    word, *rest = line.split()
    return word, rest


def puppet(name: str, points: Points, log: str, dies_before: str | None = None) -> Actor:
    """A process that does nothing until told to ``begin``; then it takes a slot and gives it back when told to ``go``.

    ``look N``: look at the queue once, N seconds later by its own clock. ``live``: wait like anybody.

    :param dies_before: the label of the effect at which it is killed.
    """

    def body(line: Line) -> None:
        while (word := line.hear()) != "begin":
            if word == "exit":
                return
            if word == "go":
                line.say("done")  # without having begun
        holds = _log(log)
        strings = _Strings(line, points)
        points.arm(dies_before, lambda label: os.kill(os.getpid(), signal.SIGKILL))
        lease = acquire_with("p", strings, Options(timeout=None))
        holds.start(name)
        strings.hold()
        holds.end(name)
        lease.release()
        line.say("done")
        while line.hear() != "exit":
            line.say("done")

    return Actor(name, body)


class Victim:
    """What its script has at hand, in the victim's process.

    :ivar puppets: the others, by name.
    """

    def __init__(
        self, line: Line, points: Points, log: str, puppets: Mapping[str, Actor], fatal: int | None, signum: int
    ) -> None:
        self._line = line
        self._points = points
        self._alone = _Alone(points)
        self.listen = self._alone.listen
        self._log = _log(log)
        self.puppets = puppets
        self._fatal, self._signum = fatal, signum
        self._holds = 0
        self._actions: list[Callable[[], object]] = []
        self._struck = False

    def arm(self) -> None:
        """What comes now is the operation whose points are struck."""
        self._points.arm(self._fatal, self._strike)

    def _strike(self, label: str) -> None:
        self._struck = True
        fact = {"label": label, "inside": self._points.inside, "process": runtime.own.id}
        self._line.say("STRUCK", time.monotonic_ns(), json.dumps(fact))
        os.kill(os.getpid(), self._signum)

    def finish(self) -> None:
        self._points.disarm()
        self._line.say("SEEN", json.dumps(self._points.seen))

    # A waiter as `acquire_with` wants it.

    def wake(self) -> None:
        """It looks soon enough."""

    def wait(self, timeout: float, interrupts: DeferredSignals) -> None:
        timeout = self._alone.look_out(timeout)
        if self._struck:
            self._struck = False
            self._line.say("RESUMED")
        self._points.pause(timeout)
        if self._actions:
            self._actions.pop(0)()
        assert len(self._points.seen) < 2000, "it waits for ever"

    def skip(self, seconds: float) -> Callable[[], object]:
        """Time passes, by the victim's clock."""
        return lambda: self._points.pause(seconds)

    def order(self, name: str, *words: object) -> Callable[[], object]:
        return lambda: self.puppets[name].order(*words)

    def before(self, label: str, action: Callable[[], object]) -> None:
        """Do something right before the first effect of that label."""
        self._points.before[label] = action

    def acquire(self, *actions: Callable[[], object], **options: float | None) -> Lease | None:
        """Take a slot; one action at each pause. None: none came in time."""
        self._actions = list(actions)
        try:
            return acquire_with("p", self, Options(**{"timeout": None, **options}))  # type: ignore[arg-type]
        except leasecap.AcquireTimeout:
            return None

    @contextmanager
    def working(self) -> Iterator[None]:
        """The block is work under the lease; leave it while a borrower works."""
        self._holds += 1
        name = f"victim.{self._holds}"
        self._log.start(name)
        yield
        self._log.end(name)

    def work(self, lease: Lease | None) -> None:
        """Work, and give the slot back."""
        if lease is not None:
            with self.working():
                pass
            lease.release()

    def report(self, *fact: object) -> None:
        """Tell the stage something."""
        self._line.say("REPORT", *fact)

    def open_pool(self) -> None:
        """So that opening it is no part of what follows."""
        pool_store("p")


def victim(
    points: Points,
    log: str,
    puppets: Mapping[str, Actor],
    script: Callable[[Victim], object],
    fatal: int | None,
    signum: int,
) -> Actor:
    """A process that plays ``script``, which arms it, up to its point number ``fatal``, or to the end."""

    def body(line: Line) -> None:
        if line.hear() == "begin":
            me = Victim(line, points, log, puppets, fatal, signum)
            script(me)
            me.finish()
            line.hear()

    return Actor("victim", body)
