"""Which addresses are set already: in the environment, in an agent's own configuration, in config.toml. Pure.

What is set becomes the upstream; the public address counts only where nothing is. Else a key that is meant for a
company's gateway would go to the provider, or the other way round.
"""

from __future__ import annotations

import os

from leasecap._config.gate import ADDRESS_ALLOWED, Address, parse_address
from leasecap._config.pool_name import pool_name
from leasecap._errors import ConfigError
from leasecap._gate.clients import PROVIDERS
from leasecap._gate.upstreams import Upstream, public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from leasecap._config.gate import GateSettings
    from leasecap._gate.agents.world import Found, World
    from leasecap._gate.clients import Agent, Provider

_OLLAMA_PORT: Final = 11434
_ANY = ("", "0.0.0.0", "::")  # noqa: S104 - what a server listens on is not where a client goes


def find_upstreams(world: World, agent: Agent, own: Mapping[str, Found], settings: GateSettings) -> dict[str, Upstream]:
    """Every upstream that the command may use, by name.

    :param own: what the agent's own configuration decides; it goes above the environment.
    :raises ConfigError: if an address is none, or two variables of one provider contradict each other.
    """
    found: dict[str, Upstream] = {}
    for name in dict.fromkeys((*PROVIDERS, *own, *settings.upstreams)):
        template = client_path(agent, PROVIDERS[name]) if name in PROVIDERS else ""
        address, source = (None, "")
        if name in own:
            address, source = parse_found(own[name]), own[name].file
        elif name in PROVIDERS:
            address, source, template = _of_environment(world.environ, agent, PROVIDERS[name], template)
        if address is None and name in settings.upstreams:
            address, source = settings.upstreams[name], "config.toml"
        if address is None:
            address = public(name)
        found[name] = _upstream(name, address, template, source)
    return found


def client_path(agent: Agent, provider: Provider) -> str:
    """The path that this agent's base URL has for the public provider."""
    for variable in provider.variables:
        if variable.name in agent.paths:
            return agent.paths[variable.name]
    return provider.path


def parse_found(found: Found) -> Address:
    """The address in what an agent's configuration says.

    :raises ConfigError: if it is none; the value isn't shown, for it may hold a key.
    """
    return _parsed(found.url, found.file, found.key)


def parse_variable(name: str, text: str) -> Address:
    """The address in an environment variable, as its own clients read it.

    :raises ConfigError: if it is none; the value isn't shown, for it may hold a key.
    """
    if name != "OLLAMA_HOST":
        return _parsed(text, name, None)
    bare = "://" not in text
    host, colon, port = text.partition("://")[2].partition(":") if not bare else text.partition(":")
    if bare and not colon and text.count(":") == 0:
        port = str(_OLLAMA_PORT)
        text = f"{text}:{port}"
    if bare and host in _ANY:
        text = f"127.0.0.1:{port}"
    address = _parsed(f"http://{text}" if bare else text, name, None)
    return address._replace(host="127.0.0.1") if address.host in _ANY else address


def check_dotenv(world: World, agent: Agent) -> None:
    """Refuse a ``.env`` that says where requests go: whether the command reads it can't be told, nor which one wins."""
    if agent.dotenv == "ignored":
        return
    folders = {"gemini": ".gemini", "qwen": ".qwen"}
    for directory in (*world.upward(), world.home):
        for path in (os.path.join(directory, folders.get(agent.name, "."), ".env"), os.path.join(directory, ".env")):
            text = world.read(os.path.normpath(path))
            if text is None:
                continue
            for name in _variables():
                if name in _assigned(text) and (agent.dotenv == "above" or not world.environ.get(name)):
                    raise ConfigError(
                        "this may be where the command sends its requests, or not: that can't be told",
                        file=os.path.normpath(path),
                        key=name,
                        allowed="Move it into the environment."
                        if agent.dotenv == "above"
                        else f"Set {name} in the environment, which goes above the file.",
                    )
            return


def _of_environment(
    environ: Mapping[str, str], agent: Agent, provider: Provider, template: str
) -> tuple[Address | None, str, str]:
    """The address that the provider's variables name, the variable, and the path that this has for the public one."""
    first: tuple[Address | None, str, str] = (None, "", template)
    for variable in provider.variables:
        text = environ.get(variable.name, "").strip()
        if not text:
            continue
        address = parse_variable(variable.name, text)
        if first[0] is None:
            first = address, variable.name, agent.paths.get(variable.name, variable.path)
        elif _identity(first[0]) != _identity(address):
            raise ConfigError(
                f"it leads to another host than {first[1]} does", file=variable.name, allowed="Unset one of them."
            )
    return first


def _upstream(name: str, address: Address, template: str, source: str) -> Upstream:
    path = address.path.rstrip("/")
    stem = path.removesuffix(template) if source else ""
    speaks = name if name in PROVIDERS and name not in ("codex", "opencode") else "openai"
    return Upstream(name, address.scheme, address.host, address.port, stem, source, speaks)


def _parsed(text: str, file: str, key: str | None) -> Address:
    try:
        return parse_address(text)
    except ConfigError as error:
        raise ConfigError(error.message, file=file, key=key, allowed=error.allowed) from None
    except ValueError:
        raise ConfigError(
            "this is no address that requests could go to", file=file, key=key, allowed=f"allowed: {ADDRESS_ALLOWED}"
        ) from None


def _identity(address: Address) -> tuple[str, str]:
    return address.scheme, pool_name(
        f"{address.scheme}://{address.host.join('[]') if ':' in address.host else address.host}:{address.port}"
    ).identity


def _variables() -> list[str]:
    return [variable.name for provider in PROVIDERS.values() for variable in provider.variables]


def _assigned(text: str) -> set[str]:
    names = (
        line.partition("=")[0].strip().removeprefix("export ").strip() for line in text.splitlines() if "=" in line
    )
    return set(names)
