"""Feedback on disk: ``feedback/state.json``, reports on their way into it, and the marks of slots that cool down.

The state is read and written inside the critical section. A report is a file beside it, written outside: whoever is
next inside takes it up before granting anything. So a report never waits for a lock, which an event loop could not
afford, and none is lost while the section is held. A slot that cools down is a file too, made before the lease ends. So
it outlives the holder, and a holder that is killed between the two steps leaves nothing to undo.

A state that can't be read is an error, since nobody knows what it holds. Any other file here that can't be read says
nothing: it is removed, or passed over if that fails; a warning is logged once, and no request fails.
"""

from __future__ import annotations

import errno
import json
import math
import threading
from collections import deque

from leasecap._durations import LONGEST
from leasecap._errors import StoreError
from leasecap._faults import faults, store_error
from leasecap._feedback import adaptive
from leasecap._feedback.adaptive import Report
from leasecap._feedback.state import MAX_BYTES, NOTHING, Clock, State, bounded, decode_state, encode_state, rebased
from leasecap._file_store.has_feedback import has_feedback, unknown
from leasecap._file_store.layout import FEEDBACK
from leasecap._log import log_warning_apart
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from leasecap._decisions.entry import Entry
    from leasecap._feedback.rules import Rules
    from leasecap._file_store.layout import Pool
    from leasecap._host.effects import Effects
    from leasecap._store.terms import Terms

STATE = f"{FEEDBACK}/state.json"

_KEEP_MARKS = 1.0  # seconds after a mark's end in which its maker may use it again, and nobody removes it
_COOLING = "cooling-"
_STAMP = len(_COOLING) + 17  # then the end in nanoseconds as 16 hexadecimal digits, and a "-", before the entry's name
_NAME_MAX = 255

NOT_OURS = frozenset(
    {errno.EACCES, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EOPNOTSUPP, errno.EPERM}
)
"""What reading says of something that isn't a file of this user's: trying again would not help."""


class Posted(NamedTuple):
    """A report that nobody has taken up, and when it was made."""

    name: str
    report: Report
    made: Clock


class FeedbackFiles:
    """The feedback of one pool."""

    def __init__(self, effects: Effects, pool: Pool, terms: Terms) -> None:
        self.terms = terms
        self._lock = threading.RLock()  # a garbage collection while it is held may end a generator, which releases
        self._marks: deque[tuple[int, str]] = deque()  # of this process, with their ends (boot clock, ns)
        self._effects = effects
        self._pool = pool
        self._directory = pool.directory
        self._last: tuple[bytes | None, State] = None, NOTHING  # one tuple: other threads read it outside the section
        self._passed_over: set[str] = set()  # names of files that say nothing and can't be removed

    @property
    def rules(self) -> Rules:
        """What the configuration says now."""
        return self.terms.rules

    def clock(self) -> Clock:
        """The time now."""
        epoch = None if self._effects.me().boot_offset is None else self._effects.me().boot
        return Clock(epoch, self._now() / 1e9, self._effects.wall_clock())

    def _now(self) -> int:
        """Nanoseconds of the boot clock that all time namespaces share."""
        return self._effects.boot_clock() - (self._effects.me().boot_offset or 0)

    def read(self, clock: Clock) -> State:
        """The state, its times by ``clock``.

        :raises StoreError: as `written` does.
        """
        return rebased(self.written(), clock)

    def awaits_answer(self) -> bool:
        """Whether grants wait for the provider's count.

        :raises StoreError: as `written` does.
        """
        clock = self.clock()
        usage = self.read(clock).usage
        return usage is not None and adaptive.is_awaited(usage, self.rules, clock.boot)

    def written(self) -> State:
        """The state as it stands in the file.

        :raises StoreError: when it can't be read, or isn't one: it might hold a reduction or a pause.
        """
        try:
            data = self._directory.read(STATE, MAX_BYTES + 1)
        except FileNotFoundError:
            return NOTHING
        except OSError as error:
            if error.errno in NOT_OURS:
                raise self._unknown(f"can't be read ({error.strerror})") from error
            raise store_error(error, self._directory.full(STATE)) from error
        # Compared by content: where a file system's clock is coarse, a file replaced twice can look unchanged.
        seen, state = self._last
        if data != seen:
            try:
                state = decode_state(data)
            except ValueError as error:
                raise self._unknown(str(error)) from None
            self._last = data, state
        return state

    def _unknown(self, why: str) -> StoreError:
        return unknown(self._pool, STATE, why)

    def start_anew(self) -> None:
        """Clear away a state that can't be read.

        :raises StoreError: when that can't be done.
        """
        try:
            self._directory.list(FEEDBACK)
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise store_error(error, self._directory.full(FEEDBACK)) from error
            self._clear_away(FEEDBACK)
        else:
            self._clear_away(STATE)

    def write(self, state: State, clock: Clock) -> None:
        """Put ``state`` in place of what the file holds, whole or not at all.

        :raises StoreError: when that can't be done.
        """
        has_feedback(self._pool)
        stamped = state._replace(epoch=clock.epoch, boot=clock.boot, wall=clock.wall)
        with faults(self._directory.full(STATE)):
            self._put(STATE, encode_state(stamped))

    def _put(self, path: str, data: bytes) -> None:
        try:
            self._directory.replace(path, data)
        except FileNotFoundError:  # the directory isn't there: this is the first of all feedback
            try:
                self._directory.make(FEEDBACK)
            except FileExistsError:
                pass  # somebody else's first
            self._directory.replace(path, data)

    # -- reports ----------------------------------------------------------------------------------------------------

    def post(self, report: Report) -> None:
        """Leave a report for whoever is next inside the section.

        :param report: its ``granted`` is by this process's own boot clock.
        :raises StoreError: when it can't be written.
        """
        has_feedback(self._pool)
        clock = self.clock()
        name = f"{self._now():016x}-{self._effects.token()}"
        if report.granted is not None:
            report = report._replace(granted=report.granted - (self._effects.me().boot_offset or 0) / 1e9)
        with faults(self._directory.full(FEEDBACK)):
            data = json.dumps({"report": report._asdict(), "made": clock._asdict()}).encode("ascii")
            self._put(f"{FEEDBACK}/{name}", data)

    def names(self) -> tuple[list[str], list[str]]:
        """The names of reports, and the names of marks of slots that cool down.

        :raises StoreError: when they can't be listed.
        """
        reports: list[str] = []
        marks: list[str] = []
        try:
            names = self._directory.list(FEEDBACK)
        except FileNotFoundError:
            return reports, marks
        except OSError as error:
            raise store_error(error, self._directory.full(FEEDBACK)) from error
        for name in names:
            # A name with a "." is the state's, or that of a file that is half made or was moved out of the way.
            if "." not in name and name not in self._passed_over:
                (marks if name.startswith(_COOLING) else reports).append(name)
        return reports, marks

    def posted(self, reports: list[str]) -> tuple[list[Posted], list[str]]:
        """The reports of these names, oldest first, and the names of files that are no reports."""
        found: list[Posted] = []
        others: list[str] = []
        for name in sorted(reports):
            try:
                found.append(self._posted(name))
            except OSError as error:
                if error.errno in NOT_OURS:
                    others.append(name)
                # Any other error: somebody has taken it up meanwhile, or it can be read later.
            except (ValueError, TypeError, KeyError, RecursionError):
                others.append(name)
        return found, others

    def _posted(self, name: str) -> Posted:
        raw = json.loads(self._directory.read(f"{FEEDBACK}/{name}", MAX_BYTES))
        report, made = bounded(Report, raw["report"]), bounded(Clock, raw["made"])
        durations = (report.retry_after or 0.0, report.ttfb or 0.0)
        if not (0 <= report.jitter <= 1 and all(0 <= duration <= LONGEST for duration in durations)):
            raise ValueError("nobody can have reported this")
        return Posted(name, report, made)

    def take_up(self, state: State, posted: list[Posted], clock: Clock, level: int, load: int) -> State:
        """``state`` after these reports."""
        for one in posted:
            made, report = one.made, one.report
            ago = clock.boot - made.boot
            if made.epoch != clock.epoch or made.epoch is None:  # the machine was started again since
                ago, report = clock.wall - made.wall, report._replace(granted=None)
            now = clock.boot - max(ago, 0.0)
            state = adaptive.reported(state, self.rules, now, report, level, load)
            if state.cut is not None:
                level = min(level, state.cut.limit)
        return state

    def forget(self, posted: list[Posted]) -> None:
        """Remove reports that have been taken up."""
        self.clear([one.name for one in posted])

    # -- slots that cool down ---------------------------------------------------------------------------------------

    def cool(self, entry: Entry) -> None:
        """Have ``entry`` counted for ``cooldown`` seconds more, even when it is gone.

        :raises OSError: when that can't be noted.
        """
        now = self._now()
        until = now + int(self.rules.cooldown * 1e9)
        mark = f"{FEEDBACK}/{f'{_COOLING}{until:016x}-{entry.name}'[:_NAME_MAX]}"
        with self._lock:
            spare = self._marks.popleft()[1] if self._marks and self._marks[0][0] <= now else None
            self._marks.append((until, mark))
        if spare is not None:
            try:
                # A mark whose time is over gets another name: a rename costs far less than a new file and its removal.
                self._directory.rename(spare, mark)
            except FileNotFoundError:
                pass  # somebody has removed it
            else:
                return
        self._put(mark, b"")

    def cooling(self, marks: list[str], clock: Clock) -> tuple[dict[str, float], list[str]]:
        """The entries that cool down by these marks, with the seconds left, and the marks that nobody needs."""
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
        # If more is left than a whole cool-down, the mark is of an earlier boot, whose clock was ahead.
        return left if left <= self.rules.cooldown else -math.inf

    def clear(self, names: Iterable[str], *, foreign: bool = False) -> None:
        """Remove reports, marks of slots that have cooled down, and files that say nothing; never raises.

        :param foreign: leasecap has not written them; a warning says that.
        """
        for name in names:
            path = f"{FEEDBACK}/{name}"
            try:
                moved = self._clear_away(path)
            except StoreError as error:
                self._passed_over.add(name)  # else each look would take it up again
                log_warning_apart(f"{error.path} can't be cleared away ({error.message}); it is passed over")
                continue
            if foreign or moved:
                outcome = f"moved to {moved}" if moved else "removed"
                path = self._directory.full(path)
                log_warning_apart(f"{path} is nothing that leasecap writes there; it was {outcome}")

    def _clear_away(self, path: str) -> str | None:
        """Remove a file, or move aside what can't be removed; returns where to.

        :raises StoreError: when neither can be done.
        """
        try:
            self._directory.unlink(path)
        except FileNotFoundError:
            pass
        except OSError:
            aside = f"{path[:200]}.{self._effects.token()}"  # with a ".", so that nobody takes it for a report
            try:
                self._directory.rename(path, aside)
            except FileNotFoundError:
                return None  # somebody else has done it
            except OSError as error:
                raise store_error(error, self._directory.full(path)) from error
            return self._directory.full(aside)
        return None

    def idle_for(self, where: str, clock: Clock) -> float:
        """Seconds since an entry was moved into ``where`` or out of it."""
        return clock.wall - self._directory.stat(where).st_mtime
