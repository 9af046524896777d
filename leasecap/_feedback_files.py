"""Feedback on disk: ``feedback/state.json``, reports on their way into it, and the marks of slots that cool down.

The state is read and written inside the critical section. A report is not: it is a file beside it, which whoever
is next inside takes up before it grants anything. So reporting never waits for a lock, from no event loop either, and a
report made while the section is held is not lost. A slot cools down as a file there, made before the lease
ends: it outlives the holder, and being killed between the two leaves nothing that has to be undone.
"""

from __future__ import annotations

import json
import math
import threading
from collections import deque

from leasecap import _feedback, _state
from leasecap._errors import StoreError
from leasecap._faults import faults, store_error
from leasecap._feedback import Report
from leasecap._named_tuple import NamedTuple
from leasecap._pool import FEEDBACK
from leasecap._state import NOTHING, Clock, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from leasecap._effects import Effects
    from leasecap._entry import Entry
    from leasecap._learning import Learning
    from leasecap._pool import Pool
    from leasecap._rules import Rules

STATE = f"{FEEDBACK}/state.json"

_KEEP_MARKS = 1.0  # seconds after its end in which whoever made a mark may use it again
_COOLING = "cooling-"
_STAMP = len(_COOLING) + 17  # then the end in nanoseconds as 16 hexadecimal digits, and a "-", before the entry's name
_NAME_MAX = 255


class Posted(NamedTuple):
    """A report that nobody has taken up, and when it was made."""

    name: str
    report: Report
    made: Clock


class FeedbackFiles:
    """The feedback of one pool."""

    def __init__(self, effects: Effects, pool: Pool, learning: Learning) -> None:
        self.learning = learning
        self._lock = threading.Lock()
        self._marks: deque[tuple[int, str]] = deque()  # of this process, with their ends (boot clock, ns)
        self._effects = effects
        self._pool = pool
        self._directory = pool.directory
        self._last: tuple[bytes | None, State] = None, NOTHING  # in one piece: other threads look without the section

    @property
    def rules(self) -> Rules:
        """What the configuration says now."""
        return self.learning.rules

    def clock(self) -> Clock:
        """The time now."""
        me = self._effects.me()
        epoch = f"{me.boot}/{me.time_ns}" if me.boot and me.time_ns else None
        return Clock(epoch, self._effects.boot_clock() / 1e9, self._effects.wall_clock())

    def read(self, clock: Clock) -> State:
        """The state as it stands in the file, its times by ``clock``.

        :raises StoreError: when it can't be read, or isn't one: it might hold a reduction or a pause.
        """
        try:
            data = self._directory.read(STATE, _state.MAX_BYTES + 1)
        except FileNotFoundError:
            return NOTHING
        except OSError as error:
            raise store_error(error, self._directory.full(STATE)) from error
        # By its content: where a file system counts time coarsely, a file replaced twice can look like the one before.
        seen, state = self._last
        if data != seen:
            try:
                state = _state.decode(data)
            except ValueError as error:
                from leasecap._explain import resume_command

                raise StoreError(
                    f"{error}; it may hold a pause or a reduced limit, so no slot is given out",
                    path=self._directory.full(STATE),
                    remedy=f"{resume_command(self._pool.name.text)} starts it anew, at the configured limit",
                ) from None
            self._last = data, state
        return _state.rebased(state, clock)

    def write(self, state: State, clock: Clock) -> None:
        """Put ``state`` in place of what the file holds, whole or not at all.

        :raises StoreError: when that can't be done.
        """
        stamped = state._replace(epoch=clock.epoch, boot=clock.boot, wall=clock.wall)
        with faults(self._directory.full(STATE)):
            self._put(STATE, _state.encode(stamped))

    def _put(self, path: str, data: bytes) -> None:
        try:
            self._directory.replace(path, data)
        except FileNotFoundError:  # the first of it
            try:
                self._directory.make(FEEDBACK)
            except FileExistsError:
                pass  # somebody else's first
            self._directory.replace(path, data)

    # -- reports ----------------------------------------------------------------------------------------------------

    def post(self, report: Report) -> None:
        """Leave a report for whoever is next inside the section.

        :raises StoreError: when it can't be written.
        """
        clock = self.clock()
        name = f"{self._effects.boot_clock():016x}-{self._effects.token()}"
        with faults(self._directory.full(FEEDBACK)):
            data = json.dumps({"report": report._asdict(), "made": clock._asdict()}).encode("ascii")
            self._put(f"{FEEDBACK}/{name}", data)

    def names(self) -> tuple[list[str], list[str]]:
        """Of reports, and of marks of slots that cool down."""
        reports: list[str] = []
        marks: list[str] = []
        try:
            for name in self._directory.list(FEEDBACK):
                if name.startswith(_COOLING):
                    marks.append(name)
                elif "." not in name:  # nor the state, nor what is half made
                    reports.append(name)
        except FileNotFoundError:
            pass
        return reports, marks

    def posted(self, reports: list[str]) -> list[Posted]:
        """The reports of these names, oldest first."""
        found = [self._posted(name) for name in sorted(reports)]
        return [posted for posted in found if posted is not None]

    def _posted(self, name: str) -> Posted | None:
        try:
            raw = json.loads(self._directory.read(f"{FEEDBACK}/{name}", _state.MAX_BYTES))
            return Posted(name, _state.made(Report, raw["report"]), _state.made(Clock, raw["made"]))
        except FileNotFoundError:
            return None  # taken up meanwhile
        except (ValueError, TypeError, KeyError):
            return Posted(name, Report("neutral", "unreadable"), Clock(None, 0.0, 0.0))  # not ours: to be removed

    def take_up(self, state: State, posted: list[Posted], clock: Clock, level: int, load: int) -> State:
        """``state`` after these reports."""
        for one in posted:
            made, report = one.made, one.report
            ago = clock.boot - made.boot
            if made.epoch != clock.epoch or made.epoch is None:  # the machine was started again since
                ago, report = clock.wall - made.wall, report._replace(granted=None)
            now = clock.boot - max(ago, 0.0)
            state = _feedback.reported(state, self.rules, now, report, level, load)
            if state.cut is not None:
                level = min(level, state.cut.limit)
        return state

    def forget(self, posted: list[Posted]) -> None:
        """Remove reports that have been taken up."""
        for one in posted:
            self._unlink(f"{FEEDBACK}/{one.name}")

    # -- slots that cool down ---------------------------------------------------------------------------------------

    def cool(self, entry: Entry) -> None:
        """Count ``entry`` for ``cooldown`` seconds more, also once it is gone.

        :raises OSError: when that can't be noted.
        """
        now = self._effects.boot_clock()
        until = now + int(self.rules.cooldown * 1e9)
        mark = f"{FEEDBACK}/{f'{_COOLING}{until:016x}-{entry.name}'[:_NAME_MAX]}"
        with self._lock:
            spare = self._marks.popleft()[1] if self._marks and self._marks[0][0] <= now else None
            self._marks.append((until, mark))
        if spare is not None:
            try:
                # A mark that says nothing any more gets another name: making files and removing them costs ten times
                # as much as a rename on ext4.
                self._directory.rename(spare, mark)
            except FileNotFoundError:
                pass  # somebody has cleared it away
            else:
                return
        self._put(mark, b"")

    def cooling(self, marks: list[str], clock: Clock) -> tuple[dict[str, float], list[str]]:
        """Which entries cool down by these marks, for how many seconds; and those that nobody needs."""
        found: dict[str, float] = {}
        old: list[str] = []
        for name in marks:
            left = self._left(name, clock)
            if left > 0:
                found[name[_STAMP:]] = left
            elif left <= -_KEEP_MARKS:
                old.append(name)
        return found, old

    def _left(self, name: str, clock: Clock) -> float:
        try:
            left = int(name[len(_COOLING) : _STAMP - 1], 16) / 1e9 - clock.boot
        except ValueError:
            return -math.inf
        # More than the cool-down itself is the boot clock of another start of the machine.
        return left if left <= self.rules.cooldown else -math.inf

    def clear(self, marks: Iterable[str]) -> None:
        """Remove marks of slots that have cooled down."""
        for name in marks:
            self._unlink(f"{FEEDBACK}/{name}")

    def idle_for(self, where: str, clock: Clock) -> float:
        """Seconds since an entry was moved into ``where`` or out of it."""
        return clock.wall - self._directory.stat(where).st_mtime

    def _unlink(self, path: str) -> None:
        try:
            self._directory.unlink(path)
        except OSError:
            pass  # it says nothing any more, or nothing new
