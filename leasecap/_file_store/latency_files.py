"""How long requests took, on disk: ``latency/``, a file for each hour, which all processes of the pool add to.

Each adds under a lock of this directory's own, so that no grant ever waits for it, and puts the file in place whole. A
process that is killed loses what it had not added yet, and leaves nothing broken. Hours go by the wall clock: where
that is set forward or back the counts stand under another hour, and no more.
"""

from __future__ import annotations

from leasecap._decisions.places import STAGING, STOLEN
from leasecap._errors import StoreError
from leasecap._faults import faults, store_error
from leasecap._feedback.latency import KEPT, MAX_BYTES, Newer, added, decode, encode
from leasecap._file_store.feedback_files import NOT_OURS
from leasecap._file_store.layout import LATENCY
from leasecap._file_store.lock_directory import LockDirectory
from leasecap._file_store.observer import Observer
from leasecap._file_store.os_lock import OsLock
from leasecap._file_store.self_record import describe_self
from leasecap._liveness.record import encode_record
from leasecap._liveness.stamp import HEARTBEAT, STALE_AFTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from leasecap._feedback.latency import Table
    from leasecap._file_store.layout import Pool
    from leasecap._file_store.section import Section
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects

HOUR = 3600  # seconds

_SUFFIX = ".json"


class LatencyFiles:
    """Those of one pool. One thread at a time may add to them."""

    def __init__(self, effects: Effects, forks: AbstractContextManager[object], pool: Pool) -> None:
        """:param forks: entered while a descriptor is opened or closed, since a fork must not copy an unknown one."""
        self._effects = effects
        self._forks = forks
        self._pool = pool
        self._open: tuple[Directory, Section] | None = None

    def add(self, hour: int, table: Table, tell: Callable[[str], object]) -> Table | None:
        """Add to the counts of an hour, and remove those that are too old.

        :param hour: since 1970.
        :param tell: called with what people have to know, outside the lock.
        :return: what that hour counts now; None: another process is at it.
        :raises StoreError: when it can't be noted.
        """
        with faults(self._pool.directory.full(LATENCY)):
            directory = self._enter()
            if directory is None:
                return None
            to_tell: list[str] = []
            try:
                self._drop_old(directory)
                whole = added(self._read(directory, hour, to_tell), table)
                directory.replace(f"{hour}{_SUFFIX}", encode(whole))
                return whole
            finally:
                self._leave()
                for message in to_tell:
                    tell(message)

    def forget(self) -> None:
        """In a fork's child: let go of what another thread of the parent has open."""
        if self._open is not None:
            directory, lock = self._open
            self._open = None
            lock.forget()
            directory.close()

    # -- the lock -----------------------------------------------------------------------------------------------------

    def _enter(self) -> Directory | None:
        with self._forks:
            directory = self._opened()
            try:
                self._open = directory, self._lock(directory)
                if self._open[1].try_enter():
                    return directory
            except BaseException:
                self._close(directory)
                raise
            self._close(directory)
            return None

    def _leave(self) -> None:
        with self._forks:
            if self._open is not None:
                directory, lock = self._open
                lock.leave()
                self._close(directory)

    def _close(self, directory: Directory) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            opened[1].close()
        directory.close()

    def _opened(self) -> Directory:
        path = self._pool.directory.full(LATENCY)
        try:
            return self._effects.directory(path)
        except FileNotFoundError:
            _make(self._pool.directory, LATENCY)
            return self._effects.directory(path)

    def _lock(self, directory: Directory) -> Section:
        """A lock of the kind that the pool has."""
        if self._pool.kind == "os":
            self._effects.close(directory.open("lock", create=True))
            return OsLock(self._effects, directory)
        for part in (STAGING, STOLEN):
            _make(directory, part)
        for theft in directory.list(STOLEN):
            directory.unlink(f"{STOLEN}/{theft}")  # nothing is signed here
        pool = self._pool._replace(directory=directory)
        observer = Observer(self._effects, pool, stale_after=STALE_AFTER, heartbeat=HEARTBEAT)
        return LockDirectory(
            self._effects,
            directory,
            lambda: encode_record(describe_self(self._effects, pool, observer, label="latency")),
            lambda path: not observer.judge_record(path).alive,
            lambda token: None,
        )

    # -- the files ----------------------------------------------------------------------------------------------------

    def _drop_old(self, directory: Directory) -> None:
        now = int(self._effects.wall_clock() // HOUR)
        for name in directory.list("."):
            hour = _hour(name)
            if hour is not None and abs(hour - now) > KEPT:
                try:
                    directory.unlink(name)
                except OSError:
                    pass  # it isn't a file, or not ours: it is never read either

    def _read(self, directory: Directory, hour: int, to_tell: list[str]) -> Table:
        name = f"{hour}{_SUFFIX}"
        try:
            return decode(directory.read(name, MAX_BYTES + 1))
        except FileNotFoundError:
            return {}
        except Newer as error:
            raise StoreError(str(error), path=directory.full(name), remedy=_NEWER) from None
        except ValueError as error:
            why = str(error)
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise
            why = f"can't be read ({error.strerror})"
        aside = f"{name}.{self._effects.token()}"
        directory.rename(name, aside)
        to_tell.append(f"{directory.full(name)} {why}; it was moved to {directory.full(aside)}, and is begun anew")
        return {}


_NEWER = "how long requests took is noted again in the next hour, or once all agents run one version of leasecap"


def read_tables(pool: Pool, hours: int, wall: float) -> tuple[dict[int, Table], tuple[str, ...]]:
    """The counts of the last ``hours``, by their hour since 1970, and what can't be read, for people.

    It takes no lock and writes nothing.

    :param wall: now, in seconds since 1970.
    """
    directory, now = pool.directory, int(wall // HOUR)
    tables: dict[int, Table] = {}
    troubles: list[str] = []
    try:
        names = directory.list(LATENCY)
    except FileNotFoundError:
        return {}, ()
    except OSError as error:
        return {}, (str(store_error(error, directory.full(LATENCY))),)
    for name in sorted(names):
        hour = _hour(name)
        if hour is None or name != f"{hour}{_SUFFIX}" or not now - hours < hour <= now + KEPT:
            continue
        path = f"{LATENCY}/{name}"
        try:
            tables[hour] = decode(directory.read(path, MAX_BYTES + 1))
        except FileNotFoundError:
            continue  # too old by now
        except OSError as error:
            troubles.append(str(store_error(error, directory.full(path))))
        except ValueError as error:
            troubles.append(f"{directory.full(path)} {error}")
    return tables, tuple(troubles)


def _hour(name: str) -> int | None:
    """The hour that a file is of, one that was moved aside as well; None: it is none of them."""
    digits, dot, _ = name.partition(".")
    return int(digits) if dot and digits.isascii() and digits.isdigit() and len(digits) <= 9 else None


def _make(directory: Directory, name: str) -> None:
    try:
        directory.make(name)
    except FileExistsError:
        pass
