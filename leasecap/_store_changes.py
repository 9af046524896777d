"""A pool that changes its store: as long as anybody here holds a slot or waits in the one, the other gives out nothing.

Each store gives out all of a pool's slots, so both together would give out twice as many. A person may have edited the
configuration, or two processes may have different defaults in their environments. Only the processes of this machine
are asked for: others may well go on with a server that this machine leaves.

On which server a pool was used last says a file for each in the root's ``stores/``. A pool without one stands in files.
"""

from __future__ import annotations

import math
import os
from contextlib import closing

from leasecap._config.root import make_root
from leasecap._errors import ConfigError, LeasecapError, StoreError
from leasecap._faults import faults, store_error
from leasecap._liveness.record import called
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from leasecap._config.config import PoolConfig
    from leasecap._config.store_address import StoreAddress
    from leasecap._host.effects import Effects
    from leasecap._store.picture import EntryPicture, PoolPicture

    Picture: TypeAlias = Callable[[PoolConfig], PoolPicture | None]
    Answer: TypeAlias = LeasecapError | None
    Ask: TypeAlias = Callable[[PoolConfig, Callable[[], Answer]], Generator[float, None, Answer]]

_STORES = "stores"
_LONGEST = 4096  # bytes

_EVERY = 1.0
"""Seconds for which an answer counts. It can't be given in one step with a grant in any case."""


class StoreChanges:
    """Those of the pools that this process uses, in all roots."""

    def __init__(self, effects: Effects, importing: AbstractContextManager[object]) -> None:
        """:param importing: entered round an import, since a fork must not copy one that is half done."""
        self._effects = effects
        self._importing = importing
        self._seen: dict[str, _Seen] = {}  # by file

    def check(self, root: str, pool: PoolConfig, picture: Picture) -> None:
        """See that nobody here uses the pool in another store. Where that is a server's it may take seconds.

        :param picture: of the pool in the store that its configuration names.
        :raises ConfigError: when somebody does.
        :raises StoreError: when that can't be told.
        """
        seen = self._recent(root, pool)
        error = self._look(root, pool, self.former(root, pool), picture) if seen is None else seen.error
        if error is not None:
            raise error

    def check_in_steps(
        self, root: str, pool: PoolConfig, picture: Picture, ask: Ask, since: float
    ) -> Generator[float, None, None] | None:
        """`check` for who must not block: None, or the steps in which a server is asked.

        They may take seconds: hold no lock, and call this again after them, by what the configuration says then.

        :param ask: has a look at the pool's former store made where it keeps nobody, and returns what that does.
        :param since: when the call began that this is for. An answer that came later counts for it: else an event loop
            that is too busy to go on within a second would ask for ever.
        :raises ConfigError, StoreError: as `check`; the steps do, too.
        """
        seen = self._recent(root, pool, since)
        if seen is not None:
            error: Answer = seen.error
        else:
            former = self.former(root, pool)
            if former is not None and former.store is not None:
                return self._asking(root, pool, former, picture, ask, since)
            error = self._look(root, pool, former, picture)
        if error is not None:
            raise error
        return None

    def _asking(
        self, root: str, pool: PoolConfig, former: PoolConfig, picture: Picture, ask: Ask, since: float
    ) -> Generator[float, None, None]:
        def look() -> Answer:
            seen = self._recent(root, pool, since)  # many calls may ask at once: all have the first one's answer
            return self._look(root, pool, former, picture) if seen is None else seen.error

        try:
            error = yield from ask(former, look)
        except LeasecapError as trouble:  # the call's time is over, or what talks to servers isn't installed
            error = _cannot_be_told(root, former, trouble)
        if error is not None:
            raise error

    def _recent(self, root: str, pool: PoolConfig, since: float = math.inf) -> _Seen | None:
        seen = self._seen.get(_file(root, pool))
        if seen is None or seen.store != _name(pool):
            return None
        if seen.error is not None:
            seen = seen._replace(error=_bare(seen.error))
        if self._effects.monotonic() < seen.at + _EVERY:
            return seen
        if seen.at < since:
            return None
        # In files nobody looks again after this. A process that has noted another store since may hold a slot there.
        noted = seen.error is None and pool.store is None and self.former(root, pool) is not None
        return None if noted else seen

    def _look(self, root: str, pool: PoolConfig, former: PoolConfig | None, picture: Picture) -> Answer:
        """None: nobody uses it in its former store; else the error of who wants to use it all the same."""
        file = _file(root, pool)
        error: StoreError | None = None
        if former is not None:
            try:
                with faults(file):
                    users = _users(former, pool, picture)
            except LeasecapError as trouble:
                error = _cannot_be_told(root, former, trouble)
            else:
                if users:
                    return moved(pool, *users)
                if pool.store is None:
                    try:
                        _remove(file)
                    except StoreError as trouble:
                        return trouble
        self._seen[file] = _Seen(_name(pool), self._effects.monotonic(), None if error is None else _bare(error))
        return error

    def enter(self, root: str, pool: PoolConfig, picture: Picture) -> None:
        """Before this process has a place in the pool, on a server: `check` once more, since the server may have kept
        it waiting, and write down that the pool is used there. Where that can't be written, others don't know it.

        :raises ConfigError, StoreError: as `check`.
        """
        self.check(root, pool, picture)
        try:
            if pool.store is not None and self.former(root, pool) is not None:
                self._note(root, _file(root, pool), pool.store)
        except LeasecapError:
            pass

    def _note(self, root: str, file: str, store: StoreAddress) -> None:
        path, name = os.path.split(file)
        with faults(path):
            make_root(root)
            os.makedirs(path, mode=0o700, exist_ok=True)
            with closing(self._effects.directory(path)) as directory:
                directory.replace(name, f"{store.without_password}\n".encode())

    def forget(self, root: str, pool: PoolConfig) -> None:
        """The pool was removed from its store.

        :raises StoreError: when that can't be written down.
        """
        if self.former(root, pool) is None:
            _remove(_file(root, pool))

    def former(self, root: str, pool: PoolConfig) -> PoolConfig | None:
        """The pool in the store in which it was used before; None: in the one that its configuration names.

        :raises StoreError: when that can't be read.
        """
        former = pool._replace(store=self._read(_file(root, pool)))
        return None if _name(former) == _name(pool) else former

    def _read(self, file: str) -> StoreAddress | None:
        try:
            with open(file, "rb") as opened:
                text = opened.read(_LONGEST).decode("ascii", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise store_error(error, file) from error
        with self._importing:
            from leasecap._config.store_address import parse_address  # most pools were never on a server

        try:
            return parse_address(text.removesuffix("\n"))
        except LeasecapError as error:
            raise StoreError(
                "this file should hold the address of the server on which the pool was used last, and holds none",
                path=file,
                remedy=_if_nobody_does("rm", file),
            ) from error


class _Seen(NamedTuple):
    """What was found.

    :ivar store: the one that the pool was to be used in.
    :ivar at: when that was known (monotonic clock, seconds); a server that is silent isn't asked all the time.
    :ivar error: why it can't be told.
    """

    store: str
    at: float
    error: StoreError | None


def note(pool: PoolConfig, users: Sequence[str], where: str) -> str:
    """That the pool is in use in another store, for people."""
    return f"the pool was moved to {pool.store or 'files'} while it is in use by {', '.join(users)}, in {where}"


def moved(pool: PoolConfig, users: Sequence[str], where: str) -> ConfigError:
    """The error of a pool that is in use in another store."""
    return ConfigError(
        note(pool, users, where),
        key=f"pools.{pool.name.text}.store",
        allowed="Leave it (and LEASECAP_STORE) as it was until nobody holds a slot there or waits (`leasecap status`).",
    )


def users_in(former: PoolPicture, configured: PoolPicture | None) -> list[str]:
    """Who of this machine has anything in the pool's former store, each process once, for people.

    Files are one machine's, whatever its containers call it. What is in the configured store as well shows that both
    are one server, by two addresses.
    """
    both = set() if configured is None else {entry.entry.token for entry in _entries(configured)}
    users = (
        entry.record
        for entry in _entries(former)
        if entry.alive and (entry.host is None or former.lock != "server") and entry.entry.token not in both
    )
    return list(dict.fromkeys("somebody" if record is None else called(record) for record in users))


def _entries(picture: PoolPicture) -> tuple[EntryPicture, ...]:
    return (*picture.leases, *picture.queue, *picture.parked)


def _users(former: PoolConfig, pool: PoolConfig, picture: Picture) -> tuple[list[str], str] | None:
    """Who uses it in its former store, and where that is; None: nobody."""
    try:
        found = picture(former)
    except FileNotFoundError:
        return None  # it was forgotten in this very moment
    if found is None:
        return None
    users = users_in(found, None)
    if users and former.store is not None and pool.store is not None:
        users = users_in(found, picture(pool))
    return (users, found.path) if users else None


def _cannot_be_told(root: str, former: PoolConfig, error: LeasecapError) -> StoreError:
    where, path, command = former.store or "files", _file(root, former), "rm"
    if former.store is None:
        path, command = os.path.join(root, "pools", former.name.directory), "rm -r"
    what = getattr(error, "message", str(error))
    found = StoreError(
        f"the pool was used in {where} until now, and whether anybody here still does can't be told: {what}",
        path=path,
        remedy=_if_nobody_does(command, path),
    )
    found.__cause__ = error
    return found


def _bare(error: StoreError) -> StoreError:
    """The same without traceback and cause: frames would keep what callers have in their variables."""
    return StoreError(error.message, path=error.path, remedy=error.remedy)


def _name(pool: PoolConfig) -> str:
    return "" if pool.store is None else pool.store.name


def _file(root: str, pool: PoolConfig) -> str:
    return os.path.join(root, _STORES, pool.name.directory)


def _if_nobody_does(command: str, path: str) -> str:
    import shlex

    return f"if nobody here holds a slot there or waits: {command} {shlex.quote(path)}"


def _remove(file: str) -> None:
    with faults(file):
        try:
            os.unlink(file)
        except FileNotFoundError:
            pass
