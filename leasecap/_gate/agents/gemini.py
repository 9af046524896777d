"""Gemini CLI: with a base URL in the environment it wants to be told its kind of login.

A person who has started it once has chosen that. Where nobody has, a file of system defaults says it; it takes that
only from root, so others are told what to write.
"""

from __future__ import annotations

import json
import os
import sys

from leasecap._errors import ConfigError
from leasecap._gate.agents.world import Arranged, Examined, at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._gate.agents.world import Links, World

_FILE = "gemini-defaults.json"
_DEFAULTS = "GEMINI_CLI_SYSTEM_DEFAULTS_PATH"
_SYSTEM = "/Library/Application Support/GeminiCli" if sys.platform == "darwin" else "/etc/gemini-cli"
_KEY = ("security", "auth", "selectedType")
_BY_ENVIRONMENT = ("GOOGLE_GENAI_USE_GCA", "GOOGLE_GENAI_USE_VERTEXAI")


def examine(world: World) -> Examined:
    """Its addresses stand in the environment alone."""
    own = "codeassist" if _login(world) == "oauth-personal" else "gemini"
    return Examined(own)


def arrange(world: World, links: Links) -> Arranged:
    """The defaults file, where no login is chosen."""
    if _login(world) is not None:
        return Arranged(world.argv)
    chosen = {"security": {"auth": {"selectedType": "gemini-api-key"}}}
    if not world.superuser or world.environ.get(_DEFAULTS):
        raise ConfigError(
            "no login is chosen, and through the gate Gemini CLI can't guess it",
            file=_user_settings(world),
            key=".".join(_KEY),
            allowed=f"Choose one in Gemini CLI with /auth, or write {json.dumps(chosen)} there.",
        )
    return Arranged(world.argv, {_DEFAULTS: os.path.join(links.directory, _FILE)}, {_FILE: json.dumps(chosen)})


def _login(world: World) -> str | None:
    system = world.environ.get("GEMINI_CLI_SYSTEM_SETTINGS_PATH") or os.path.join(_SYSTEM, "settings.json")
    defaults = world.environ.get(_DEFAULTS) or os.path.join(os.path.dirname(system), "system-defaults.json")
    for path in (
        system,
        os.path.join(world.directory, ".gemini", "settings.json"),
        _user_settings(world),
        defaults,
    ):
        found = at(world.json(path), *_KEY)
        if isinstance(found, str):
            return found
    if world.environ.get(_BY_ENVIRONMENT[0]) == "true":
        return "oauth-personal"
    return "vertex-ai" if world.environ.get(_BY_ENVIRONMENT[1]) == "true" else None


def _user_settings(world: World) -> str:
    return os.path.join(world.environ.get("GEMINI_CLI_HOME") or world.home, ".gemini", "settings.json")
