"""A gate that stands for itself (`leasecap gate`): where it may send requests, and what leads agents to it. Pure.

It is started once, and what it finds set in its environment is its upstream, as for a command. An agent finds the gate
by variables that are set where that is started.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from leasecap._config.gate import GateSettings, parse_address
from leasecap._errors import ConfigError
from leasecap._gate.addresses import client_path, find_upstreams, parse_variable
from leasecap._gate.agents.world import World
from leasecap._gate.clients import AGENTS, PROVIDERS, TOKEN_VARIABLE, Agent
from leasecap._gate.environment import lifted, variable_tails, without_proxy
from leasecap._gate.upstreams import gate_url
from leasecap._named_tuple import NamedTuple
from leasecap._provider import chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from leasecap._config.gate import Address
    from leasecap._gate.upstreams import Upstream

PORT = 4283
"""Where it listens unless another port is given. A fixed one, since its addresses are written down: GATE on the keys of
a telephone, and below the ports that systems give to whoever asks for any."""

_ANYBODY = Agent("")
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})
_OF_A_GATE = re.compile("/(?:[0-9a-f]{48}|-)/")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Declared(NamedTuple):
    """What one gate is for.

    :ivar upstreams: by name; requests for another name are refused.
    :ivar variables: what follows the token in the address that each variable gets.
    """

    upstreams: Mapping[str, Upstream]
    variables: Mapping[str, str]

    def told(self) -> dict[str, tuple[str, str]]:
        """By the name of each upstream: its URL without a path, and what follows the token in a client's address."""
        return {
            name: (
                up.origin,
                name + up.base_path + (client_path(_ANYBODY, PROVIDERS[name]) if name in PROVIDERS else ""),
            )
            for name, up in self.upstreams.items()
        }


def declare(environ: Mapping[str, str], settings: GateSettings | None, port: int) -> Declared:
    """What a gate on ``port`` is for, that is started with ``environ``.

    :param settings: what config.toml says in [gate].
    :raises ConfigError: if an address that is set is none, or two variables contradict each other.
    """
    here = {name: text for name, text, address in _set(environ) if address.host not in _HERE or address.port != port}
    upstreams = find_upstreams(World((), here, "", lambda _: None), _ANYBODY, {}, settings or GateSettings())
    tails = variable_tails(here, _ANYBODY, (), upstreams)
    return Declared(MappingProxyType(upstreams), MappingProxyType(tails))


def _set(environ: Mapping[str, str]) -> Iterator[tuple[str, str, Address]]:
    """The variables with addresses that are set."""
    for provider in PROVIDERS.values():
        for variable in provider.variables:
            if text := environ.get(variable.name, "").strip():
                yield variable.name, text, parse_variable(variable.name, text)


def _plain(address: Address) -> Address:
    return address._replace(host="127.0.0.1") if address.host in _HERE else address


def keeping_paths(
    environ: Mapping[str, str], variables: Mapping[str, str], upstreams: Mapping[str, tuple[str, str]]
) -> dict[str, str]:
    """``variables``, each with the path that it has in ``environ``, if it is set there.

    :raises ConfigError: if one leads to another host than the gate does, which would get that one's key.
    """
    tails = dict(variables)
    for name, _, address in _set(environ):
        if name not in tails or (address.host in _HERE and _OF_A_GATE.match(address.path)):
            continue
        upstream = tails[name].partition("/")[0]
        origin = upstreams[upstream][0]
        if _plain(address).origin != _plain(parse_address(origin)).origin:
            raise ConfigError(
                f"it leads to {address.origin}, and the gate to {origin}, which must not get the other one's key",
                file=name,
                allowed=f'Write [gate.upstreams] {upstream} = "{address.origin}{address.path}" into config.toml, and '
                f"start the gate anew; or unset {name}.",
            )
        tails[name] = upstream + address.path
    return tails


def environment(
    environ: Mapping[str, str],
    address: str,
    token: str,
    variables: Mapping[str, str],
    upstreams: Mapping[str, tuple[str, str]],
    metered: Mapping[str, str],
) -> dict[str, str]:
    """What leads an agent to the gate that listens on ``address`` (HOST:PORT).

    :param environ: in which the agent is to be started.
    :param variables: see `Declared`; ``upstreams``: what `Declared.told` says.
    :param metered: where requests to each upstream take slots (`_ancestry.place`), by the upstream's name.
    """
    found = {name: gate_url(address, token, tail) for name, tail in variables.items()}
    found |= {TOKEN_VARIABLE: token, chain.VARIABLE: chain.describe(address, metered)}
    origins = {name: origin for name, (origin, _) in upstreams.items()}
    for agent in AGENTS.values():
        found |= {name: text for name, text in lifted(agent, origins).items() if environ.get(name) in (None, "", text)}
    if any(environ.get(each) for name in _PROXIES for each in (name, name.lower())):
        found |= without_proxy(environ)
    return found
