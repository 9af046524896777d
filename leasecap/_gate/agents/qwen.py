"""Qwen Code: the environment goes above its settings, so what these say is lost unless it becomes the upstream."""

from __future__ import annotations

import os

from leasecap._errors import ConfigError
from leasecap._gate.agents.world import Arranged, Examined, Found, at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._gate.agents.world import Links, World

_KEY = ("security", "auth", "baseUrl")
_PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_FLAG = "--openai-base-url"


def examine(world: World) -> Examined:
    """The address in its settings, and what goes past the gate."""
    user = os.path.join(world.home, ".qwen", "settings.json")
    project = os.path.join(world.directory, ".qwen", "settings.json")
    if any(word == _FLAG or word.startswith(_FLAG + "=") for word in world.argv):
        raise ConfigError(
            "this argument leads past the gate", file=_FLAG, allowed="Give the address as OPENAI_BASE_URL instead."
        )
    warnings = [
        f"{path} has modelProviders: requests to a baseUrl in there take no slot"
        for path in dict.fromkeys((project, user))
        if at(world.json(path), "modelProviders")
    ]
    if any(world.environ.get(name) for name in _PROXIES):
        warnings.append("a proxy is set, and Qwen Code sends what is for the gate there too, whatever NO_PROXY says")
    if world.environ.get("OPENAI_BASE_URL"):
        return Examined(None, {}, tuple(warnings))
    found = at(world.json(project), *_KEY)
    if project != user and isinstance(found, str) and found:
        raise ConfigError(
            "the gate takes no address from a project's settings",
            file=project,
            key=".".join(_KEY),
            allowed="Set OPENAI_BASE_URL to it if it is right.",
        )
    found = at(world.json(user), *_KEY)
    if not isinstance(found, str) or not found:
        return Examined(None, {}, tuple(warnings))
    kind = at(world.json(user), "security", "auth", "selectedType")
    name = "anthropic" if kind == "anthropic" else "openai"
    return Examined(name, {name: Found(found, user, ".".join(_KEY))}, tuple(warnings))


def arrange(world: World, links: Links) -> Arranged:
    """The variables are enough."""
    return Arranged(world.argv)
