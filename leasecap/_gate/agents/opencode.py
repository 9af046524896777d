"""opencode: what OPENCODE_CONFIG_CONTENT says goes above its files, and lifts the time-out that variables don't."""

from __future__ import annotations

import json
import os
import re

from leasecap._config.gate import is_upstream_name
from leasecap._gate.agents.world import Arranged, Examined, Found, at, parse_json
from leasecap._gate.clients import OPENCODE_KEYS, OPENCODE_NAMES, PROVIDERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from leasecap._gate.agents.world import Links, World

_CONTENT = "OPENCODE_CONFIG_CONTENT"
_ENVIRONMENT = re.compile(r"\{env:([^}]+)\}")
_NAMES = ("opencode.jsonc", "opencode.json", "config.json")


def examine(world: World) -> Examined:
    """The addresses that its configuration gives to providers, known ones and a person's own; the highest first."""
    addresses: dict[str, Found] = {}
    warnings: dict[str, None] = {}
    model = _model_argument(world.argv)
    for where, settings in _settings(world):
        if model is None and isinstance(found := settings.get("model"), str):
            model = found
        providers = settings.get("provider")
        for theirs in providers if isinstance(providers, dict) else ():
            url = at(providers, theirs, "options", "baseURL")
            if not isinstance(url, str) or not url:
                continue
            url = _ENVIRONMENT.sub(lambda match: world.environ.get(match[1], ""), url)
            if is_upstream_name(_ours(theirs)):
                addresses.setdefault(_ours(theirs), Found(url, where, f"provider.{theirs}.options.baseURL"))
            else:
                warnings[f"{where}: requests to the provider {theirs!r} take no slot, for its name"] = None
    own = None if model is None else _ours(model.partition("/")[0])
    return Examined(own if own in PROVIDERS or own in addresses else None, addresses, tuple(warnings))


def arrange(world: World, links: Links) -> Arranged:
    """Every provider that it has a key or settings for, led through the gate, without its time-out for the head."""
    text = world.environ.get(_CONTENT)
    content = dict(parse_json(text, _CONTENT)) if text else {}
    given = content.get("provider")
    providers = dict(given) if isinstance(given, dict) else {}
    for theirs in _configured(world):
        if (url := links.urls.get(_ours(theirs))) is None:
            continue
        one = providers.get(theirs)
        one = dict(one) if isinstance(one, dict) else {}
        options = one.get("options")
        options = dict(options) if isinstance(options, dict) else {}
        providers[theirs] = {**one, "options": {"headerTimeout": False, **options, "baseURL": url}}
    return Arranged(world.argv, {_CONTENT: json.dumps({**content, "provider": providers})})


def _configured(world: World) -> Iterator[str]:
    """The providers that opencode offers: an entry for another one would make it offer that, too."""
    data = world.environ.get("XDG_DATA_HOME") or os.path.join(world.home, ".local", "share")
    names = {"opencode", *world.json(os.path.join(data, "opencode", "auth.json"))}
    names |= {name for name, keys in OPENCODE_KEYS.items() if any(world.environ.get(key) for key in keys)}
    for _, settings in _settings(world):
        providers = settings.get("provider")
        names |= set(providers) if isinstance(providers, dict) else set()
    return iter(sorted(names))


def _settings(world: World) -> Iterator[tuple[str, Mapping[str, object]]]:
    if text := world.environ.get(_CONTENT):
        yield _CONTENT, parse_json(text, _CONTENT)
    own = world.environ.get("XDG_CONFIG_HOME") or os.path.join(world.home, ".config")
    extra = world.environ.get("OPENCODE_CONFIG_DIR")
    directories = [*([extra] if extra else []), *world.upward(), os.path.join(own, "opencode")]
    paths = [os.path.join(directory, name) for directory in directories for name in _NAMES[:2]]
    if single := world.environ.get("OPENCODE_CONFIG"):
        paths.append(single)
    for path in (*paths, os.path.join(own, "opencode", _NAMES[2])):
        if settings := world.json(path):
            yield path, settings


def _model_argument(argv: tuple[str, ...]) -> str | None:
    for place, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in ("-m", "--model"):
            return value if equals else argv[place + 1] if place + 1 < len(argv) else None
    return None


def _ours(theirs: str) -> str:
    return OPENCODE_NAMES.get(theirs, theirs)
