"""A pool that changes its store: as long as anybody here holds a slot or waits in the one, the other gives out nothing.

Each store gives out all of a pool's slots, so both together would give out twice as many. A person may have edited the
configuration, or two processes may have different defaults in their environments. Only the processes of this machine
are asked for: others may well go on with a server that this machine leaves.

On which server a pool was used last says a file for each in the root's ``stores/``. A pool without one stands in files.
"""

from __future__ import annotations

import math
import os
import shlex
from contextlib import closing

from leasecap._config.root import make_root
from leasecap._config.store_address import parse_address
from leasecap._errors import ConfigError, LeasecapError, StoreError
from leasecap._faults import faults, store_error
from leasecap._liveness.record import called

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leasecap._config.config import PoolConfig
    from leasecap._config.store_address import StoreAddress
    from leasecap._host.effects import Effects
    from leasecap._store.picture import PoolPicture

_STORES = "stores"
_LONGEST = 4096  # bytes

_EVERY = 1.0
"""Seconds for which an answer counts. It can't be given in one step with a grant in any case."""


class StoreChanges:
    """Those of the pools that this process uses, in all roots."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._seen: dict[str, tuple[str, float]] = {}  # by file: the store that a pool may be used in, and since when
        self._to_note: set[str] = set()  # files

    def check(self, root: str, pool: PoolConfig, picture: Callable[[PoolConfig], PoolPicture | None]) -> None:
        """See that nobody here uses the pool in another store.

        :param picture: of the pool in the store that its configuration names.
        :raises ConfigError: when somebody does.
        :raises StoreError: when that can't be told.
        """
        file, name, now = _file(root, pool), _name(pool), self._effects.monotonic()
        seen, at = self._seen.get(file, ("", -math.inf))
        if seen == name and now < at + _EVERY:
            return
        former = former_of(root, pool)
        if former is not None:
            _refuse_if_used(former, pool, picture, file)
            if pool.store is None:
                _remove(file)
            else:
                self._to_note.add(file)
        self._seen[file] = name, now

    def entered(self, root: str, pool: PoolConfig) -> None:
        """This process has a place in the pool, on a server. Never raises: where it can't be written down, nobody has a
        pool in files."""
        if not self._to_note or pool.store is None:
            return
        file = _file(root, pool)
        if file in self._to_note:
            self._to_note.discard(file)
            try:
                self._note(root, file, pool.store)
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
        if former_of(root, pool) is None:
            _remove(_file(root, pool))


def former_of(root: str, pool: PoolConfig) -> PoolConfig | None:
    """The pool in the store in which it was used before; None: in the one that its configuration names.

    :raises StoreError: when that can't be read.
    """
    former = pool._replace(store=_read(_file(root, pool)))
    return None if _name(former) == _name(pool) else former


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


def users_in(picture: PoolPicture) -> list[str]:
    """Who of this machine has anything in the pool, each process once, for people."""
    entries = (*picture.leases, *picture.queue, *picture.parked)
    here = (entry.record for entry in entries if entry.alive and entry.host is None)
    return list(dict.fromkeys("somebody" if record is None else called(record) for record in here))


def _refuse_if_used(
    former: PoolConfig, pool: PoolConfig, picture: Callable[[PoolConfig], PoolPicture | None], file: str
) -> None:
    try:
        found = picture(former)
    except LeasecapError as error:
        if former.store is None:
            raise
        raise StoreError(
            f"the pool was used in {former.store} until now; whether anybody here still does can't be told: {error}",
            path=file,
            remedy=f"if nobody here holds a slot there or waits: rm {shlex.quote(file)}",
        ) from error
    if found is not None and (users := users_in(found)):
        raise moved(pool, users, found.path)


def _name(pool: PoolConfig) -> str:
    return "" if pool.store is None else pool.store.name


def _file(root: str, pool: PoolConfig) -> str:
    return os.path.join(root, _STORES, pool.name.directory)


def _read(file: str) -> StoreAddress | None:
    try:
        with open(file, "rb") as opened:
            text = opened.read(_LONGEST).decode("ascii", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise store_error(error, file) from error
    try:
        return parse_address(text.removesuffix("\n"))
    except LeasecapError as error:
        raise StoreError(
            "this file should hold the address of the server on which the pool was used last, and holds none",
            path=file,
            remedy=f"if nobody here has a slot of the pool there or waits: rm {shlex.quote(file)}",
        ) from error


def _remove(file: str) -> None:
    with faults(file):
        try:
            os.unlink(file)
        except FileNotFoundError:
            pass
