"""Whether the agents on this machine let their sandboxed commands write the root, by their user settings.

That is a prediction, and never "bad": a project, a profile or an option on the command line can say otherwise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from leasecap._doctor import sandbox
from leasecap._doctor.check import Check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from leasecap._doctor.check import Site


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent that keeps its settings in ``home``."""

    name: str
    home: str
    check: Callable[[Site], Check]


def present() -> Iterator[Agent]:
    """The known agents that this user has settings of."""
    for agent in (Agent("Codex", codex_home(), codex), Agent("Claude Code", claude_home(), claude_code)):
        if os.path.isdir(agent.home):
            yield agent


def codex_home() -> str:
    return os.environ.get("CODEX_HOME") or os.path.expanduser("~/.codex")


def claude_home() -> str:
    return os.environ.get("CLAUDE_CONFIG_DIR") or os.path.expanduser("~/.claude")


def codex(site: Site) -> Check:
    """``sandbox_mode`` and ``[sandbox_workspace_write] writable_roots``."""
    import tomllib

    path = os.path.join(codex_home(), "config.toml")
    try:
        with open(path, "rb") as file:
            settings: object = tomllib.load(file)
    except FileNotFoundError:
        settings = {}
    except (OSError, ValueError) as error:
        return Check("Codex", "note", f"{path} can't be read: {error}")
    if _at(settings, "sandbox_mode") == "danger-full-access":
        return Check("Codex", "ok", f"{path} switches its sandbox off")
    if _covered(site.root, _at(settings, "sandbox_workspace_write", "writable_roots"), codex_home()):
        return Check("Codex", "ok", f"{path} lets its sandbox write the root")
    found = f"{path} doesn't let its sandbox write the root"
    return Check("Codex", "note", found, sandbox.codex_recipe(site.root))


def claude_code(site: Site) -> Check:
    """``sandbox.enabled`` and ``sandbox.filesystem.allowWrite``."""
    import json

    path = os.path.join(claude_home(), "settings.json")
    try:
        with open(path, "rb") as file:
            settings: object = json.load(file)
    except FileNotFoundError:
        settings = {}
    except (OSError, ValueError) as error:
        return Check("Claude Code", "note", f"{path} can't be read: {error}")
    if _at(settings, "sandbox", "enabled") is not True:
        return Check("Claude Code", "ok", f"its sandbox is not switched on in {path}")
    if _covered(site.root, _at(settings, "sandbox", "filesystem", "allowWrite"), claude_home()):
        return Check("Claude Code", "ok", f"{path} lets its sandbox write the root")
    found = f"{path} doesn't let its sandbox write the root"
    return Check("Claude Code", "note", found, sandbox.claude_code_recipe(site.root))


def _at(settings: object, *keys: str) -> object:
    for key in keys:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _covered(root: str, allowed: object, home: str) -> bool:
    """Whether the root is one of the allowed directories or below one."""
    root = os.path.realpath(root)
    for one in allowed if isinstance(allowed, list) else ():
        if isinstance(one, str):
            directory = os.path.realpath(os.path.join(home, os.path.expanduser(one)))
            if os.path.commonpath((root, directory)) == directory:
                return True
    return False
