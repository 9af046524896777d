"""Refusing a pool of another format: who uses it, and what to do."""

from __future__ import annotations

import os

from leasecap._errors import StoreError
from leasecap._file_store.layout import (
    ENTRY_PLACES,
    FORMAT,
)
from leasecap._liveness.record import MAX_BYTES, called, decode_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._host.directory import Directory


_MOST_NAMED = 8


def refusal(directory: Directory, version: object, users: list[str] | None = None) -> StoreError:
    """The error for a leasecap that is too old, or too new, for the pool.

    :param users: who is in the pool; unset: all that its records name.
    """
    users = _users(directory) if users is None else users
    used = f"; in it: {_listed(users)}" if users else ""
    older = type(version) is int and 1 <= version < FORMAT
    if older and not users:
        todo = "the next call for a slot makes it anew, and keeps what the provider's answers have taught"
    elif older:
        todo = (
            "an earlier leasecap made it. Start the processes that are in it again, with this version: who holds a "
            "slot keeps it until then. When none of them is left the next call makes the pool anew; else remove "
            f"{directory.path}"
        )
    else:
        todo = (
            "another version of leasecap made it. Use one for all agents: start this process again with that version "
            f"(pid {os.getpid()}); or end those that use the pool, and remove {directory.path}"
        )
    return StoreError(
        f"has format {version!r}, and this leasecap knows format {FORMAT}{used}",
        path=directory.full("pool.json"),
        remedy=todo,
    )


def _users(directory: Directory) -> list[str]:
    """Who is in the pool according to its records, as far as they can be read."""
    found = {called_at(directory, where, name): None for where in ENTRY_PLACES for name in names_in(directory, where)}
    return list(found)  # each process once


def called_at(directory: Directory, where: str, name: str) -> str:
    try:
        record = decode_record(directory.read(f"{where}/{name}/info.json", MAX_BYTES + 1))
    except OSError:
        record = None
    return f"an unreadable record ({where}/{name})" if record is None else called(record)


def _listed(users: list[str]) -> str:
    more = len(users) - _MOST_NAMED
    return ", ".join(users[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def names_in(directory: Directory, where: str) -> list[str]:
    try:
        return [name for name in directory.list(where) if name[0] != "."]
    except FileNotFoundError:
        return []
