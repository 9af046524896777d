"""Whether requests can take slots of their own here (`leasecap run --per-request`), and how each agent is reached.

Never "bad": agents share their caps without it.
"""

from __future__ import annotations

import shutil

from leasecap._config.config import load_config
from leasecap._config.gate import GateSettings
from leasecap._doctor.check import Check
from leasecap._errors import LeasecapError
from leasecap._gate import extra as packages
from leasecap._gate.clients import AGENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from leasecap._config.gate import AgentSettings
    from leasecap._doctor.check import Site


def extra() -> Check:
    """Whether what it needs is installed."""
    if missing := packages.missing():
        found = f"leasecap run --per-request lacks {' and '.join(missing)}"
        return Check("gate", "note", found, f"for a slot per request:\n  {packages.INSTALL}")
    return Check("gate", "ok", "leasecap run --per-request has what it needs")


def on_path(site: Site) -> list[str]:
    """The commands on PATH that the gate knows, by its own table or by config.toml."""
    return [name for name in dict.fromkeys((*AGENTS, *_declared(site))) if shutil.which(name) is not None]


def reached(name: str, site: Site) -> Check:
    """What leads the requests of that command through the gate."""
    if name in _declared(site):
        return Check(name, "ok", f"through the gate by [gate.agents.{name}] in config.toml")
    agent = AGENTS[name]
    if agent.left_to_user:
        return Check(name, "note", "the gate can't reach it", agent.left_to_user)
    return Check(name, "ok", f"through the gate by {agent.reached}")


def _declared(site: Site) -> Mapping[str, AgentSettings]:
    try:
        return (load_config(site.root).gate or GateSettings()).agents
    except LeasecapError:
        return {}  # the check of the configuration says what is wrong
