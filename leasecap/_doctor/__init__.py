"""`leasecap doctor`: whether this machine, this root and this process can keep a cap, tried out and not assumed.

One check is one function that returns one `Check`. It changes nothing that is not its own: what is tried out is tried
in a directory made for the purpose and removed afterwards.
"""

from __future__ import annotations

import os

from leasecap._doctor import _agents, _contents, _machine, _place, _proof, _sandbox
from leasecap._doctor._check import Check, Site, guarded
from leasecap._errors import LeasecapError
from leasecap._root import ENVIRONMENT, root_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Check", "examine", "summary"]


def examine(directory: str | None = None) -> Iterator[Check]:
    """Yield the findings one by one, as they are made; takes about a second.

    :param directory: where to try out writing, locks, notifications and the cap itself, in place of the root. It must
        exist; nothing stays in it.
    """
    yield from _about_the_machine()
    try:
        path = root_path()
    except LeasecapError as error:
        found, _, remedy = str(error).partition("\n")
        yield Check("root", "bad", found, remedy)
        return
    source = ENVIRONMENT if os.environ.get(ENVIRONMENT) else "the default"
    site = Site(path, source, None if directory is None else os.path.abspath(directory))
    about_the_root = list(_about_the_root(site))
    yield from about_the_root
    if site.given is None and any(check.verdict == "bad" for check in about_the_root):
        yield Check("trials", "note", "not made: nothing is written into a root that can't be trusted")
    else:
        yield from _trials(site)
    if os.path.isdir(site.root):
        yield guarded("pools", _contents.pools)
        yield guarded("leftovers", _contents.leftovers, site)


def _about_the_machine() -> Iterator[Check]:
    yield guarded("clock", _machine.clock)
    yield guarded("processes", _machine.processes)
    yield guarded("inotify", _machine.inotify)


def _about_the_root(site: Site) -> Iterator[Check]:
    yield guarded("root", _place.root, site)
    if os.path.lexists(site.root):
        yield guarded("permissions", _place.permissions, site)
    yield guarded("config", _contents.config, site)
    for agent in (_agents.codex, _agents.claude_code):
        check = guarded("agents", agent, site)
        if check is not None:
            yield check


def _trials(site: Site) -> Iterator[Check]:
    yield guarded("file system", _place.file_system, site)
    writable = guarded("writing", _place.writing, site)
    yield writable
    yield guarded("sandbox", _sandbox.sandbox, site, writable.verdict != "bad")
    if writable.verdict == "bad":
        return  # the other trials would say the same in other words
    yield guarded("locks", _place.locks, site)
    yield guarded("notifications", _machine.notifications, site)
    for lock in _contents.kinds_of_lock(site.root):
        yield guarded("proof", _proof.proof, site.ground, lock)


def summary(checks: Sequence[Check]) -> str:
    """One sentence on all of it."""
    bad = [check.name for check in checks if check.verdict == "bad"]
    if not bad:
        return "Nothing is wrong: all agents of this user that use this root share its caps."
    return f"{', '.join(bad)}: wrong. Until it is put right, agents may be refused a slot; none runs uncapped."
