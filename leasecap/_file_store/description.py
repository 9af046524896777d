"""``pool.json``: what a pool says of itself, and whether its parts are there."""

from __future__ import annotations

import errno
import json
import os
import stat

from leasecap._config.pool_name import PoolName, pool_name
from leasecap._errors import ConfigError, StoreError
from leasecap._faults import faults, store_error
from leasecap._file_store.layout import ARRIVAL, BOOT, DIRECTORIES, FORMAT, Incomplete, OlderFormat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects


_MOST_BYTES = 16_384  # of its description


def check(directory: Directory, name: PoolName) -> tuple[str, str]:
    """Check what is in a pool's directory; returns the kind of lock and of order.

    :raises OlderFormat, Incomplete, StoreError: when this leasecap can't use it as it is.
    """
    path = directory.full("pool.json")
    try:
        data = directory.read("pool.json", _MOST_BYTES)
    except FileNotFoundError:
        raise Incomplete(("pool.json", *_missing(directory, "lock", *DIRECTORIES)), "") from None
    except OSError as error:
        raise store_error(error, path) from error
    try:
        found = json.loads(data)
        version, identity, kind = found["format"], found["identity"], found["lock"]
        order = found.get("order", BOOT)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            "is not a pool's description (truncated, or not written by leasecap)",
            path=path,
            remedy=f"when no agent uses the pool any more (`leasecap status`), remove {directory.path}",
        ) from error
    older = type(version) is int and 1 <= version < FORMAT
    if not older and (version != FORMAT or type(version) is not int):
        from leasecap._file_store.refusal import refusal

        raise refusal(directory, version)
    if identity != name.identity or kind not in ("os", "directory") or order not in (BOOT, ARRIVAL):
        raise StoreError(
            f"describes the pool {identity!r} with lock {kind!r} and order {order!r}, not {name.identity!r}",
            path=path,
            remedy=f"it was edited or copied there: when no agent uses it, remove {directory.path}",
        )
    if older:
        raise OlderFormat(version, kind)
    missing = _missing(directory, *(("lock",) if kind == "os" else ()), *DIRECTORIES)
    if missing:
        raise Incomplete(missing, kind)
    return kind, order


def _missing(directory: Directory, *parts: str) -> tuple[str, ...]:
    missing = []
    for part in parts:
        with faults(directory.full(part)):
            try:
                mode = directory.stat(part).st_mode
            except FileNotFoundError:
                missing.append(part)
                continue
            if part in DIRECTORIES and not stat.S_ISDIR(mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return tuple(missing)


def describe(effects: Effects, name: PoolName, kind: str, local: bool) -> bytes:
    """The contents of ``pool.json``."""
    order = BOOT if local and effects.me().boot_offset is not None else ARRIVAL
    description = {"format": FORMAT, "name": name.text, "identity": name.identity, "lock": kind, "order": order}
    return json.dumps(description).encode()


def name_on_disk(effects: Effects, root: str, directory: str) -> PoolName:
    """The name of the pool in this directory below ``pools/``; the directory's own name where that can't be read."""
    try:
        description = effects.directory(os.path.join(root, "pools", directory)).read("pool.json", _MOST_BYTES)
        name = pool_name(json.loads(description)["name"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError):
        return PoolName(directory, directory, directory)  # opening it will say what is wrong
    return name if name.directory == directory else PoolName(directory, directory, directory)
