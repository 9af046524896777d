"""`leasecap doctor`: whether this machine, this root and this process can keep a cap. That is tried out and not
assumed.

One check is one function that returns one `Check`. Doctor changes nothing that is not its own: things are tried out in
a directory that is made for the purpose and removed afterwards.
"""

from __future__ import annotations

import os
import sys

from leasecap._config.root import ENVIRONMENT, root_path
from leasecap._doctor import agents, contents, gate, machine, place, proof, sandbox, servers, usage
from leasecap._doctor.check import Check, Site, guarded, refused
from leasecap._errors import LeasecapError
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Check", "examine", "summary"]


def examine(directory: str | None = None) -> Iterator[Check]:
    """Yield the findings one by one, as they are made; takes a second or two.

    :param directory: where to try out writing, locks, notifications and the cap itself, in place of the root. It must
        exist; nothing stays in it.
    """
    try:
        path = root_path()
    except LeasecapError as error:
        yield refused("root", str(error))
    else:
        source = _source(path)
        given = os.path.abspath(directory) if directory is not None and os.path.isdir(directory) else directory
        yield from _about(Site(path, source, given))
    yield guarded("clock", machine.clock)
    yield guarded("processes", machine.processes)


def _source(path: str) -> str:
    """What has said that the root is there."""
    if os.environ.get(ENVIRONMENT):
        return ENVIRONMENT
    base = os.environ.get("XDG_CONFIG_HOME")
    return "XDG_CONFIG_HOME" if base and path.startswith(os.path.join(base, "")) else "default"


def _about(site: Site) -> Iterator[Check]:
    refusals = 0
    for check in _about_the_root(site):
        refusals += check.verdict == "bad"
        yield check
    yield guarded("config", contents.config, site)
    for pool in usage.asked(site):
        yield guarded("usage", usage.answer, pool, site)
    if os.path.isdir(site.root):
        yield guarded("pools", contents.pools, site)
        yield guarded("leftovers", contents.leftovers, site)
    yield from servers.servers(site)
    if site.given is not None and not os.path.isdir(site.given):
        what = "is no directory" if os.path.lexists(site.given) else "no such directory"
        remedy = "make it first, or name another one" if what.startswith("no") else "name a directory"
        yield Check("directory", "bad", f"{site.given}: {what}", remedy)
    elif site.given is None and refusals:
        yield Check("trials", "note", "not made: doctor writes nothing into a root that can't be trusted")
    else:
        yield from _trials(site)
    for agent in agents.present():
        yield guarded(agent.name, agent.check, site)
    if sys.platform != "win32":  # `run` refuses there
        yield guarded("gate", gate.extra)
        if runtime.gate_token(site.root).is_there():
            yield guarded("leasecap gate", gate.standing, site)
        for name in gate.on_path(site):
            yield guarded(name, gate.reached, name, site)


def _about_the_root(site: Site) -> Iterator[Check]:
    yield guarded("root", place.root, site)
    if os.path.lexists(site.root):
        yield guarded("permissions", place.permissions, site)


def _trials(site: Site) -> Iterator[Check]:
    yield guarded("file system", place.file_system, site)
    writing = guarded("writing", place.writing, site)
    yield writing
    yield guarded("sandbox", sandbox.sandbox, site)
    if writing.verdict == "bad":
        return  # the other trials would say the same in other words
    yield guarded("locks", place.locks, site)
    yield guarded("notifications", machine.notifications, site)
    for lock in contents.kinds_of_lock(site.root):
        yield guarded("proof", proof.proof, site.ground, lock)


def summary(checks: Sequence[Check]) -> str:
    """One sentence on all of it."""
    bad = ", ".join(check.name for check in checks if check.verdict == "bad")
    if bad:
        return f"Wrong: {bad}. Until that is put right, agents may be refused a slot."
    return "Nothing is wrong: all agents that use this root share its caps."
