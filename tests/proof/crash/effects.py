"""Effects that are counted, and at one of which the process kills or stops itself.

Each effect on the world is a *point*: the process is gone, or stands still, just before it. An effect that writes has a
second one, "torn": half of its bytes are written by then. Clocks, random tokens and one's own identity are no points:
nobody else can tell before from after.
"""

from __future__ import annotations

import os
import re
import threading
import time

from leasecap._host.directory import Directory
from leasecap._host.effects import Effects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Paths for messages, clocks, chance, and oneself.
_NO_POINTS = frozenset({"full", "boot_clock", "loaded_at", "monotonic", "token", "give_way", "me"})
_LOOKS = ("directory ", "list ", "stat ", "read ", "read_and_stat ", "probe ", "presence", "open existing ", "hears ")
_NAMES = (
    (re.compile(r"\d{3}-[0-9a-f]{16}-[0-9a-f]{16}-[0-9a-f-]+"), "ENTRY"),
    (re.compile(r"[0-9a-f]{16}"), "TOKEN"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "RANDOM"),
)
_ASIDE = re.compile(r"\.[0-9a-f]{12}$")


def is_look(label: str) -> bool:
    """Whether the effect changes nothing: to be killed before it is to be killed before the next one that does."""
    return label.startswith(_LOOKS) or label == "close"  # of a directory


def _label(what: str, *names: str) -> str:
    label = " ".join((what, *(name or "." for name in names)))
    for pattern, word in _NAMES:
        label = pattern.sub(word, label)
    return label


class Points:
    """Where this process stands among the effects of its script; without one it runs free.

    :ivar seen: the labels of all points so far.
    :ivar inside: whether it is in a critical section.
    :ivar before: what to do before the first effect with that label: others move while this process is about to.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.inside = False
        self.before: dict[str, Callable[[], object]] = {}
        self._thread = 0  # which is none
        self._fatal: int | str | None = None
        self._strike: Callable[[str], None] = lambda label: None
        self._clock: float | None = None
        self._skew = 0.0

    def arm(self, fatal: int | str | None = None, strike: Callable[[str], None] = lambda label: None) -> None:
        """Count from now on, in this thread alone, and call ``strike`` at one of the points.

        :param fatal: its number, or its label; None: at none.
        """
        self._clock = self.monotonic()
        self._fatal, self._strike, self._thread = fatal, strike, threading.get_ident()

    @property
    def armed(self) -> bool:
        return self._thread != 0

    def disarm(self) -> None:
        self._thread = 0
        if self._clock is not None:
            self._skew, self._clock = self._clock - time.monotonic(), None

    def pass_by(self, label: str) -> None:
        """Count the point, and be struck if it is the one."""
        if threading.get_ident() != self._thread:
            return
        if label in self.before:
            self.before.pop(label)()
        self.seen.append(label)
        if self._fatal in (len(self.seen) - 1, label):
            self.disarm()  # whoever is only stopped here goes on free, by a clock that runs
            self._strike(label)

    # A script's clock stands but for its pauses, so that every run of it has the same effects.

    def monotonic(self) -> float:
        return time.monotonic() + self._skew if self._clock is None else self._clock

    def pause(self, seconds: float) -> None:
        if self._clock is None:
            time.sleep(min(seconds, 0.02))
        else:
            self._clock += seconds


def _counting(base: type, name: str) -> Callable[..., Any]:
    """The method of that name with a point before it."""
    method = getattr(base, name)

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        names = [argument for argument in arguments if isinstance(argument, str)]
        self._points.pass_by(_label(name, *names))
        return method(self, *arguments, **options)

    return counted


def methods(base: type) -> set[str]:
    """The names of its effects."""
    return {name for name in vars(base) if not name.startswith("_") and callable(getattr(base, name))} - _NO_POINTS


class CountedDirectory(Directory):
    """A directory whose every use is a point. Those that aren't here are given one below."""

    __slots__ = ("_fds", "_points")

    def __init__(self, path: str, points: Points, fds: dict[int, str]) -> None:
        self._points = points
        self._fds = fds
        super().__init__(path)

    def _pass_by(self, what: str, *names: str) -> None:
        self._points.pass_by(_label(what, *names))

    def list(self, name: str) -> list[str]:
        self._pass_by("list", name)
        return sorted(super().list(name))  # as the file system gives them they'd make runs differ

    def rename(self, old: str, new: str) -> None:
        self._pass_by("rename", old, new)
        super().rename(old, new)
        if new == "lock.d":
            self._points.inside = True

    def unlink(self, name: str) -> None:
        self._pass_by("unlink", name)
        if name.startswith("lock.d/"):
            self._points.inside = False  # it is ours no more either if this fails: we were robbed
        super().unlink(name)

    def write(self, name: str, data: bytes) -> None:
        self._pass_by("write", name)
        self._write("torn write", name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, data)
        if _ASIDE.search(name):
            self._pass_by("put in place", name)  # the rest of `replace`

    def overwrite(self, name: str, data: bytes) -> None:
        self._pass_by("overwrite", name)
        self._write("torn overwrite", name, os.O_WRONLY, data)

    def _write(self, what: str, name: str, flags: int, data: bytes) -> None:
        fd = self._open(name, flags)
        try:
            half = len(data) // 2
            os.write(fd, data[:half])
            self._pass_by(what, name)
            os.write(fd, data[half:])
        finally:
            os.close(fd)

    def open(self, name: str, *, create: bool = False) -> int:
        self._pass_by("open" if create else "open existing", name)
        fd = super().open(name, create=create)
        # A pool that is being made, aside, has a lock that is in nobody's way.
        self._fds[fd] = name if self.path.rpartition("/")[2][0] != "." else f"new pool's {name}"
        return fd


class CountedEffects(Effects):
    """The rest of the world, likewise."""

    def __init__(self, points: Points) -> None:
        self._points = points
        self._fds: dict[int, str] = {}

    def directory(self, path: str) -> Directory:
        self._points.pass_by(_label("directory", os.path.basename(path)))
        return CountedDirectory(path, self._points, self._fds)

    def monotonic(self) -> float:
        return self._points.monotonic()

    def lock(self, fd: int) -> bool:
        name = self._fds.get(fd, "")
        self._points.pass_by(_label("lock", name))
        locked = super().lock(fd)
        if name == "lock" and locked:
            self._points.inside = True
        return locked

    def unlock(self, fd: int) -> None:
        name = self._fds.get(fd, "")
        self._points.pass_by(_label("unlock", name))
        super().unlock(fd)
        if name == "lock":
            self._points.inside = False

    def write_at_start(self, fd: int, data: bytes) -> None:
        name = self._fds.get(fd, "")
        self._points.pass_by(_label("write at start", name))
        super().write_at_start(fd, data[: len(data) // 2])
        self._points.pass_by(_label("torn write at start", name))
        super().write_at_start(fd, data)

    def close(self, fd: int) -> None:
        self._points.pass_by(_label("close", self._fds.get(fd, "")))
        super().close(fd)


# By name and not by hand, so that the matrix has every effect there is, also those that come after it was written.
for _counted, _base in ((CountedDirectory, Directory), (CountedEffects, Effects)):
    for _name in methods(_base) - set(vars(_counted)):
        setattr(_counted, _name, _counting(_base, _name))
