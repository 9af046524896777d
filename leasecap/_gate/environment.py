"""What a command gets so that its requests pass the gate. Pure but for the files."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from types import MappingProxyType

from leasecap._config.gate import GateSettings
from leasecap._errors import ConfigError, LeasecapError
from leasecap._gate.addresses import check_dotenv, client_path, find_upstreams, parse_found, parse_variable
from leasecap._gate.agents.world import Arranged, Examined, Links, World
from leasecap._gate.clients import AGENTS, NO_TOKEN, PROVIDERS, TOKEN_VARIABLE, Agent
from leasecap._gate.upstreams import gate_url, public
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from types import ModuleType

    from leasecap._config.config import Config
    from leasecap._config.gate import AgentSettings
    from leasecap._gate.upstreams import Upstream

_LARGEST = 1 << 20  # bytes of an agent's own configuration
_LOOPBACK = ("127.0.0.1", "localhost")  # not "[::1]": httpx refuses to start with it
_RUNTIME = "/run"
_NAME = re.compile(r"\{([a-z0-9-]+)\}")


class Prepared(NamedTuple):
    """A command made ready for the gate.

    :ivar environment: all of it, not the changes alone.
    :ivar upstreams: by name; requests for another name are refused.
    :ivar own: the upstream of the command's own requests; None: it has no one, or isn't known.
    :ivar files: what has to stand in the private directory before the command starts, by the file's name.
    :ivar warnings: for a person, one line each.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    upstreams: Mapping[str, Upstream]
    own: str | None
    files: Mapping[str, str]
    warnings: tuple[str, ...]


def read_file(path: str) -> str | None:
    """The text of ``path``; None where there is none, or none that the agent could use."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LARGEST)
    except (OSError, ValueError):
        return None


def private_path(environ: Mapping[str, str], name: str, uid: int) -> str:
    """Where ``uid`` is to make a directory for `write_files`.

    That is where nobody else can write, if there is such a place: Gemini CLI believes nothing that stands somewhere
    below a directory that others can write, as /tmp.
    """
    for directory in (environ.get("XDG_RUNTIME_DIR"), _RUNTIME):
        try:
            found = os.stat(directory or "")
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o022:
            return os.path.join(str(directory), name)
    try:
        temporary = tempfile.gettempdir()
    except OSError:  # none can be written to, which matters to the few agents alone that need files
        temporary = environ.get("TMPDIR") or "/tmp"  # noqa: S108
    return os.path.join(temporary, name)


def write_files(directory: str, files: Mapping[str, str]) -> None:
    """Write ``files`` into ``directory``, which is made: nobody else can read them, for they may hold the token."""
    os.mkdir(directory, 0o700)
    for name, text in files.items():
        with open(os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)


def prepare(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    address: str,
    token: str,
    config: Config,
    private: str,
    directory: str,
    superuser: bool = False,
    read: Callable[[str], str | None] = read_file,
) -> Prepared:
    """What makes ``argv`` send its requests through the gate that listens on ``address``.

    :param environ: the environment as it stands.
    :param private: the directory for `Prepared.files`; it needs not be there yet.
    :param directory: where the command starts.
    :param superuser: whether the files will belong to root.
    :raises ConfigError: if where requests go can't be told, or can't be changed; it names variable, or file and key.
    :raises LeasecapError: if the gate can't reach this command.
    """
    world = World(tuple(argv), environ, directory, read, superuser)
    agent = _agent(world.argv)
    settings = config.gate or GateSettings()
    extra = settings.agents.get(agent.name)
    if agent.left_to_user and not extra:
        raise LeasecapError(agent.left_to_user)
    if agent.name == "ollama" and "serve" in world.argv[1:2]:
        raise LeasecapError("ollama serve is the server itself: give the gate to what calls it")
    module = _module(agent)
    examined: Examined = module.examine(world) if module else Examined()
    check_dotenv(world, agent)
    upstreams = find_upstreams(world, agent, examined.addresses, settings)
    links = _links(agent, examined, upstreams, address, token, private)
    arranged: Arranged = module.arrange(world, links) if module else Arranged(world.argv)
    origins = {name: upstream.origin for name, upstream in upstreams.items()}
    variables = {
        TOKEN_VARIABLE: token,
        **{
            name: gate_url(address, token, tail)
            for name, tail in variable_tails(environ, agent, examined.addresses, upstreams).items()
        },
        **{name: value for name, value in lifted(agent, origins).items() if not environ.get(name)},
        **without_proxy(environ),
        **arranged.variables,
    }
    own = examined.own or agent.provider
    if extra:
        own = _declared(agent.name, extra, upstreams, config) or own
        fill = _Filler(agent.name, config, upstreams, address)
        variables |= {name: fill("variables", value, token) for name, value in extra.variables.items()}
        inserted = [fill("arguments", word, NO_TOKEN) for word in extra.arguments]
        arranged = arranged._replace(argv=(arranged.argv[0], *inserted, *arranged.argv[1:]))
    warnings = [f"{name} is set: requests that go that way take no slot" for name in _elsewhere(agent, environ)]
    return Prepared(
        arranged.argv,
        MappingProxyType({**environ, **variables}),
        MappingProxyType(upstreams),
        own,
        arranged.files,
        (*warnings, *examined.warnings),
    )


def _agent(argv: Sequence[str]) -> Agent:
    name = os.path.basename(argv[0])
    return AGENTS.get(name) or Agent(name)


def _module(agent: Agent) -> ModuleType | None:
    if not agent.settings:
        return None
    from importlib import import_module  # one of them at most is needed

    return import_module(f"leasecap._gate.agents.{agent.settings}")


def lifted(agent: Agent, origins: Mapping[str, str]) -> Mapping[str, str]:
    """What lifts the agent's time-outs, and keeps up what it does for its provider's own host alone.

    :param origins: the URL without a path of each upstream, by its name.
    """
    name = agent.provider
    if name is None or not agent.first_party or origins.get(name) != public(name).origin:
        return agent.environment
    return {**agent.environment, **agent.first_party}


def _links(
    agent: Agent,
    examined: Examined,
    upstreams: Mapping[str, Upstream],
    address: str,
    token: str,
    private: str,
) -> Links:
    paths = {}
    for name, upstream in upstreams.items():
        if name in examined.addresses:
            paths[name] = parse_found(examined.addresses[name]).path
        else:
            paths[name] = upstream.base_path + (client_path(agent, PROVIDERS[name]) if name in PROVIDERS else "")
    return Links(
        {name: gate_url(address, token, name) + path for name, path in paths.items()},
        {name: gate_url(address, NO_TOKEN, name) + path for name, path in paths.items()},
        private,
    )


def variable_tails(
    environ: Mapping[str, str], agent: Agent, decided: Collection[str], upstreams: Mapping[str, Upstream]
) -> dict[str, str]:
    """What follows the token in the address that each variable gets which clients of all kinds read.

    One that is set keeps its path, as it was written.

    :param decided: the upstreams whose address the agent's own configuration says.
    """
    tails = {}
    for name, provider in PROVIDERS.items():
        for variable in provider.variables:
            path = upstreams[name].base_path + agent.paths.get(variable.name, variable.path)
            text = environ.get(variable.name, "").strip()
            if text and name not in decided:
                path = parse_variable(variable.name, text).path
            tails[variable.name] = name + path
    return tails


def without_proxy(environ: Mapping[str, str]) -> dict[str, str]:
    """NO_PROXY in both spellings, with loopback added; a client reads the one or the other."""
    variables = {}
    for name, other in (("NO_PROXY", "no_proxy"), ("no_proxy", "NO_PROXY")):
        given = environ.get(name) or environ.get(other) or ""
        listed = [host.strip() for host in given.split(",") if host.strip()]
        missing = [host for host in _LOOPBACK if host not in listed]
        variables[name] = given if "*" in listed else ",".join((*listed, *missing))
    return variables


def _elsewhere(agent: Agent, environ: Mapping[str, str]) -> list[str]:
    return [name for name in agent.elsewhere if environ.get(name, "").lower() not in ("", "0", "false")]


def _declared(name: str, extra: AgentSettings, upstreams: Mapping[str, Upstream], config: Config) -> str | None:
    if extra.provider is not None and extra.provider not in upstreams:
        raise _unknown(name, "provider", extra.provider, upstreams, config)
    return extra.provider


class _Filler:
    """Puts the gate's addresses into what [gate.agents.NAME] says."""

    def __init__(self, agent: str, config: Config, upstreams: Mapping[str, Upstream], address: str) -> None:
        self._agent = agent
        self._config = config
        self._upstreams = upstreams
        self._address = address

    def __call__(self, key: str, text: str, token: str) -> str:
        def link(match: re.Match[str]) -> str:
            if match[1] not in self._upstreams:
                raise _unknown(self._agent, key, match[1], self._upstreams, self._config)
            return gate_url(self._address, token, match[1]) + self._upstreams[match[1]].base_path

        return _NAME.sub(link, text)


def _unknown(agent: str, key: str, name: str, upstreams: Mapping[str, Upstream], config: Config) -> ConfigError:
    from leasecap._config.toml_file import key_text

    return ConfigError(
        f"there is no upstream {name!r}",
        file=config.path,
        key=key_text(("gate", "agents", agent, key)),
        allowed=f"allowed: {', '.join(upstreams)}; [gate.upstreams] adds others",
    )
