"""Whether requests can take slots of their own here (`leasecap run --per-request`), and how each agent is reached.

Never "bad", but for a token of `leasecap gate` that can't be used: agents share their caps without it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket

from leasecap._config.config import load_config
from leasecap._config.gate import GateSettings
from leasecap._doctor.check import Check
from leasecap._errors import LeasecapError
from leasecap._extras import missing, to_install
from leasecap._gate.addresses import parse_variable
from leasecap._gate.clients import AGENTS, PROVIDERS
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from leasecap._config.gate import Address, AgentSettings
    from leasecap._doctor.check import Site

_STANDING = "leasecap gate"
_OF_A_GATE = re.compile("/[0-9a-f]{48}/")


def extra() -> Check:
    """Whether what it needs is installed."""
    if lacks := missing("gate"):
        found = f"leasecap run --per-request lacks {' and '.join(lacks)}"
        return Check("gate", "note", found, f"for a slot per request:\n  {to_install('gate')}")
    return Check("gate", "ok", "leasecap run --per-request and leasecap gate have what they need")


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


def standing(site: Site) -> Check:
    """Whether `leasecap gate` runs, and whether what is set here leads to it."""
    token = runtime.gate_token(site.root).read()
    gates = {gate.port: gate for gate in runtime.standing_gates(site.root).read()}
    for name, address in _leading_to_a_gate():
        if address.port not in gates and _answers(address.port):
            continue  # that of the `run --per-request` around this
        if address.port not in gates:
            found = f"{name} leads to 127.0.0.1:{address.port}, and no gate of this root runs there"
            return Check(_STANDING, "note", found, f"start it:\n  leasecap gate --port {address.port}")
        if address.path.split("/")[1] != token:
            found = f"{name} leads to the gate on 127.0.0.1:{address.port} with a token that it refuses"
            return Check(_STANDING, "note", found, 'set it anew:\n  eval "$(leasecap gate --env)"')
    running = ", ".join(f"on {gate.address} (pid {gate.pid})" for gate in gates.values())
    return Check(_STANDING, "ok", f"runs {running}" if running else "doesn't run")


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _leading_to_a_gate() -> Iterator[tuple[str, Address]]:
    """The variables that lead to a gate on this machine, by what its addresses look like."""
    names = [variable.name for provider in PROVIDERS.values() for variable in provider.variables]
    for name in names:
        try:
            address = parse_variable(name, os.environ.get(name, "").strip())
        except LeasecapError:
            continue  # none, or not to be read
        if address.host in ("127.0.0.1", "localhost") and _OF_A_GATE.match(address.path):
            yield name, address


def _declared(site: Site) -> Mapping[str, AgentSettings]:
    try:
        return (load_config(site.root).gate or GateSettings()).agents
    except LeasecapError:
        return {}  # the check of the configuration says what is wrong
