"""Pools of an earlier format that were moved aside, and what the next pool takes over from them."""

from __future__ import annotations

import json
import os

from leasecap._file_store.layout import (
    FEEDBACK,
    FORMAT,
    OLDER,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.pool_name import PoolName
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects


_MOST_BYTES = 1 << 20  # of a file of the feedback; all of ours are far below


def moved_aside(pools: Directory, name: PoolName) -> list[str]:
    """The paths of earlier pools of that name whose place nobody had taken when they were moved aside."""
    return [pools.full(each) for each in pools.list(".") if each.startswith(f"{OLDER}{name.directory}-")]


def take_over(effects: Effects, path: str, target: Directory) -> None:
    """Copy what the provider's answers have taught: the state, reports that nobody took up, and cooling marks.

    :raises OSError: when it can't be read or written: without a pause or a reduced limit the pool would give too much.
    """
    try:
        source = effects.directory(path)
        names = source.list(FEEDBACK)
    except FileNotFoundError:
        return  # nothing was taught; or somebody else was first, and has it
    try:
        target.make(FEEDBACK)
    except FileExistsError:
        pass
    for name in names:
        if "." in name and name != "state.json":
            continue  # half made
        try:
            target.write(f"{FEEDBACK}/{name}", source.read(f"{FEEDBACK}/{name}", _MOST_BYTES))
        except (FileNotFoundError, FileExistsError):
            pass  # taken up meanwhile, or taken over before


def is_replaced(effects: Effects, root: str, directory: str) -> bool:
    """Whether the pool in that directory is of this format, so that what was moved aside for it is no longer needed."""
    try:
        pool = effects.directory(os.path.join(root, "pools", directory))
        try:
            return bool(json.loads(pool.read("pool.json", _MOST_BYTES))["format"] == FORMAT)
        finally:
            pool.close()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
