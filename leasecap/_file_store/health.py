"""What is found out of a root on disk for `leasecap doctor`: locks, leftovers, and whether wake-ups arrive."""

from __future__ import annotations

import os
import threading
import time

from leasecap._decisions.places import STAGING, STOLEN, TRASH
from leasecap._file_store.layout import pool_path
from leasecap._file_store.observer import Observer
from leasecap._file_store.opening import open_existing
from leasecap._file_store.os_lock import OsLock
from leasecap._file_store.wake_places import WAKEUP
from leasecap._file_store.wakeups import Watch
from leasecap._host.directory import Directory
from leasecap._liveness.stamp import HEARTBEAT, STALE_AFTER
from leasecap._store.health import Leftovers, Wakeups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from leasecap._config.pool_name import PoolName
    from leasecap._file_store.layout import Pool
    from leasecap._host.effects import Effects

_OLD = 60.0  # seconds; nothing stays for so long in staging/ or trash/ while its maker lives
_VERY_OLD = 3600.0  # seconds; no pool takes so long to make
_POKES = 20
_PATIENCE = 1.0  # seconds for one wake-up
_MOMENT = 5.0  # seconds; a file is watched well before


class FileHealth:
    """See `_store.health.Health`."""

    def __init__(self, effects: Effects, root: str) -> None:
        self._effects = effects
        self._root = root

    def check_pool(self, name: PoolName) -> None:
        pool = open_existing(self._effects, self._root, name)
        try:
            if pool.kind == "os":
                OsLock(self._effects, pool.directory).close()
        finally:
            pool.directory.close()

    def leftovers(self, names: Iterable[PoolName]) -> Leftovers:
        staging = trash = thefts = 0
        for name in names:
            thefts += len(_names(os.path.join(pool_path(self._root, name), STOLEN)))
            pool = open_existing(self._effects, self._root, name)
            try:
                staging += self._stale(pool, STAGING)
                trash += self._stale(pool, TRASH)
            finally:
                pool.directory.close()
        counts = {"in staging/": staging, "in trash/": trash, "in wake/": self._deaf()}
        return Leftovers(counts, thefts, tuple(sorted(self._half_made())))

    def _stale(self, pool: Pool, where: str) -> int:
        """How many entries in ``where`` have no living maker, or are older than it takes to make or delete one."""
        observer = Observer(self._effects, pool, stale_after=STALE_AFTER, heartbeat=HEARTBEAT)
        path = pool.directory.full(where)
        return sum(
            _age(os.path.join(path, name)) > _OLD or not observer.judge(where, name).alive for name in _names(path)
        )

    def _deaf(self) -> int:
        """How many wake-ups are left whose process has exited."""
        path = os.path.join(self._root, "wake")
        names = _names(path)
        if not names:
            return 0
        wake = Directory(path)
        try:
            return sum(name[0] != "." and wake.has_receiver(f"{name}/{WAKEUP}") is False for name in names)
        finally:
            wake.close()

    def _half_made(self) -> Iterator[str]:
        pools = os.path.join(self._root, "pools")
        for name in _names(pools):
            path = os.path.join(pools, name)
            if name.startswith(".new-") and _age(path) > _VERY_OLD:
                yield path

    def wakeups(self, scratch: str) -> Wakeups:
        woken = threading.Event()
        directory = Directory(scratch)
        watch = Watch(directory, "doctor", lambda _: woken.set())
        try:
            if not watch.start():
                return Wakeups("no thread")
            try:
                by_pipe = watch.runs_lookouts
                if not _is_reached(watch):
                    return Wakeups("nothing")
                return Wakeups("pipe" if by_pipe else "file", _poked(directory, woken), _POKES, _PATIENCE)
            finally:
                watch.stop()
        finally:
            directory.close()


def _is_reached(watch: Watch) -> bool:
    """Whether wake-ups reach the process; for a plain file that takes a moment."""
    end = time.monotonic() + _MOMENT
    while not (reached := watch.reaches()) and time.monotonic() < end:
        time.sleep(0.01)
    return reached


def _poked(directory: Directory, woken: threading.Event) -> tuple[float, ...]:
    """How many milliseconds each wake-up took, up to the first that didn't come."""
    times: list[float] = []
    while len(times) < _POKES:
        woken.clear()
        before = time.perf_counter()
        directory.notify(f"wake/doctor/{WAKEUP}", b"poke\n")
        if not woken.wait(_PATIENCE):
            break
        times.append((time.perf_counter() - before) * 1e3)
    return tuple(times)


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _age(path: str) -> float:
    """Seconds since the file was changed; 0 if it has just gone."""
    try:
        return time.time() - os.lstat(path).st_mtime
    except FileNotFoundError:
        return 0.0
