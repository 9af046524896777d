"""Claude Code: what its settings files put into the environment goes above what it was started with.

Where they say where requests go, it gets a settings file of ours with ``--settings``, which goes above them.
"""

from __future__ import annotations

import json
import os
import sys

from leasecap._errors import ConfigError
from leasecap._gate.agents.world import Arranged, Examined, Found, at, parse_json
from leasecap._gate.clients import AGENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from leasecap._gate.agents.world import Links, World

_VARIABLE = "ANTHROPIC_BASE_URL"
_FLAG = "--settings"
_FILE = "claude-settings.json"
_MANAGED = (
    "/Library/Application Support/ClaudeCode/managed-settings.json"
    if sys.platform == "darwin"
    else "/etc/claude-code/managed-settings.json"
)


def examine(world: World) -> Examined:
    """What its settings say, the highest first."""
    if isinstance(at(world.json(_MANAGED), "env", _VARIABLE), str):
        raise ConfigError(
            "managed settings go above all others, so the gate can't be put in between",
            file=_MANAGED,
            key=f"env.{_VARIABLE}",
            allowed="Use leasecap run without --per-request.",
        )
    warnings: list[str] = []
    address = None
    for where, settings in _settings(world):
        found = at(settings, "env", _VARIABLE)
        if isinstance(found, str) and found and address is None:
            address = Found(found, where, f"env.{_VARIABLE}")
            _check_trust(world, where)
        warnings += [
            f"{where} sets {name}: requests that go that way take no slot"
            for name in AGENTS["claude"].elsewhere
            if at(settings, "env", name) not in (None, "", "0", "false")
        ]
    return Examined("anthropic", {} if address is None else {"anthropic": address}, tuple(dict.fromkeys(warnings)))


def arrange(world: World, links: Links) -> Arranged:
    """Nothing, unless a settings file would take the variable back."""
    if "anthropic" not in examine(world).addresses:
        return Arranged(world.argv)
    argv, given, _ = _split(world)
    env = at(given, "env")
    settings = {**given, "env": {**(env if isinstance(env, dict) else {}), _VARIABLE: links.urls["anthropic"]}}
    argv = (argv[0], _FLAG, os.path.join(links.directory, _FILE), *argv[1:])
    return Arranged(argv, files={_FILE: json.dumps(settings)})


def _settings(world: World) -> Iterator[tuple[str, Mapping[str, object]]]:
    _, given, where = _split(world)
    if given:
        yield where, given
    for directory, name in (
        (os.path.join(world.directory, ".claude"), "settings.local.json"),
        (os.path.join(world.directory, ".claude"), "settings.json"),
        (_own_directory(world), "settings.json"),
    ):
        path = os.path.join(directory, name)
        yield path, world.json(path)


def _own_directory(world: World) -> str:
    return world.environ.get("CLAUDE_CONFIG_DIR") or os.path.join(world.home, ".claude")


def _check_trust(world: World, where: str) -> None:
    """Refuse a project's address before its directory is trusted: what we pass on, Claude Code takes without asking."""
    if not where.startswith(os.path.join(world.directory, ".claude") + os.sep) or world.directory == world.home:
        return
    state = os.path.join(world.environ.get("CLAUDE_CONFIG_DIR") or world.home, ".claude.json")
    projects = at(world.json(state), "projects")
    if any(at(projects, directory, "hasTrustDialogAccepted") is True for directory in world.upward()):
        return
    raise ConfigError(
        "the project says where requests go, but its directory is not trusted yet",
        file=where,
        key=f"env.{_VARIABLE}",
        allowed=f"Start claude there once without leasecap and accept its question, or set {_VARIABLE} yourself.",
    )


def _split(world: World) -> tuple[tuple[str, ...], Mapping[str, object], str]:
    """The command without its own --settings, what these say, and where that stands."""
    kept: list[str] = []
    value: str | None = None
    words = iter(world.argv)
    for word in words:
        if word == "--":
            kept += [word, *words]
        elif word == _FLAG:
            value = next(words, value)
        elif word.startswith(_FLAG + "="):
            value = word.partition("=")[2]
        else:
            kept.append(word)
    if value is None:
        return world.argv, {}, _FLAG
    if value.lstrip().startswith("{"):
        return tuple(kept), parse_json(value, _FLAG), _FLAG
    path = os.path.join(world.directory, value)
    return tuple(kept), world.json(path), path
